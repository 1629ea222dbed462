"""Ray Tune's part of a search without Ray: the same trials, one after the other in this process.

It keeps what Ray Tune keeps in the stage's folder, a file for each trial and one of the search, by
which an interrupted search goes on; it has no schedulers and tries nothing again.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
from ray import tune

from pipelines.runtime.workspace import Workspace
from pipelines.tune import stage, trial

Row = dict[str, Any]


@dataclass
class _Tried:
    metrics: Row
    config: Row
    error: None = None


class Search:
    """Stands for `ray.tune.Tuner`."""

    reported: Callable[[Row], None]

    def __init__(
        self, trainable: Callable[[Row], None], *, param_space: Mapping[str, Any], **options: Any
    ) -> None:
        self.trainable = trainable
        settings, place = options["tune_config"], options["run_config"]
        drawn = np.random.RandomState(0)
        self.place = f"{place.storage_path}/{place.name}"
        self.configs: list[Row] = [
            {
                name: _plain(values.sample(random_state=drawn))
                for name, values in param_space.items()
            }
            for _ in range(settings.num_samples)
        ]
        self._write("search.json", {"configs": self.configs})

    @staticmethod
    def can_restore(path: str, **_: Any) -> bool:
        return Workspace(path)._content(f"{path}/search.json") is not None

    @classmethod
    def restore(cls, path: str, trainable: Callable[[Row], None], **_: Any) -> Search:
        search = object.__new__(cls)
        search.place, search.trainable = path, trainable
        search.configs = search._read("search.json")["configs"]
        return search

    def fit(self) -> list[_Tried]:
        return [self._try(number, config) for number, config in enumerate(self.configs)]

    def _try(self, number: int, config: Row) -> _Tried:
        name = f"trial-{number}.json"
        before = self._read(name)
        if not before.get("ended"):
            last: Row = {}

            def reported(metrics: Row) -> None:
                last.update(metrics)
                self._write(name, {"metrics": last})

            Search.reported = staticmethod(reported)
            self.trainable(config)
            self._write(name, {"metrics": last, "ended": True})
        return _Tried(self._read(name)["metrics"], config)

    def _write(self, name: str, value: Row) -> None:
        with Workspace(self.place)._replacing(f"{self.place}/{name}") as stream:
            stream.write(json.dumps(value).encode())

    def _read(self, name: str) -> Row:
        path = f"{self.place}/{name}"
        content = Workspace(self.place)._content(path)
        found: Row = {} if content is None else Workspace._json(content, path)
        return found


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


@contextlib.contextmanager
def inline_search() -> Iterator[None]:
    """While it lasts, a search asks nothing of Ray; together with `inline.without_ray`."""
    replaced = {
        **vars(tune),
        "with_parameters": lambda function, **given: partial(function, **given),
        "with_resources": lambda function, demand: function,
        "report": lambda metrics: Search.reported(metrics),
        "Tuner": Search,
    }
    inline = SimpleNamespace(**replaced)
    with patch.object(stage, "tune", inline), patch.object(trial, "tune", inline):
        yield
