"""The pipeline without Ray: each task at once in this process, for tests that run it often."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

from pipelines import config
from pipelines.config import Config
from pipelines.runtime.stream import Statistics
from tests.pipelines.conftest import overrides

SMALL = {
    "ingest__files_per_shard": 20,
    "train__epochs": 4,
    "pretrain__epochs": 1,
    "label__k": 4,
    "train__checkpoint_every": 1,
    "recommend__users_per_shard": 20,
    "ingest__max_reject_share": 0.2,
}


def load(corpus: Path, place: Path, **more: object) -> Config:
    """Settings for a corpus of 150 songs, which takes seconds."""
    return config.load(None, overrides(corpus, place, **{**SMALL, **more}))


class Held:
    """What stands for a reference into Ray's object store."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        given = [a.get() if isinstance(a, Held) else a for a in arguments]
        try:
            self.value, self.error = function(*given), None
        except Exception as error:
            self.value, self.error = None, error

    def get(self) -> Any:
        if self.error is not None:
            raise self.error
        return self.value


def submit(run: Any, function: Callable[..., Any], *arguments: Any, **_: Any) -> Held:
    return Held(function, *arguments)


def gather(references: Sequence[Held]) -> list[Any]:
    return [reference.get() for reference in references]


def run_task(run: Any, function: Callable[..., Any], *arguments: Any, **_: Any) -> Any:
    return submit(run, function, *arguments).get()


def each(run: Any, function: Callable[..., Any], shards: Sequence[Any], **_: Any) -> list[Any]:
    return [function(shard) for shard in shards]


def streamed(
    run: Any, groups: Sequence[Sequence[Any]], source: Any, pool: Any, sink: Any, **_: Any
) -> tuple[list[Any], Statistics]:
    reports = []
    work = pool.factory(*pool.arguments) if pool and groups else iter
    for group in groups:
        found = work(source.function(item) for item in group)
        reports += [sink.function(item, arrays) for item, arrays in zip(group, found, strict=True)]
    return reports, Statistics()


@contextmanager
def without_ray() -> Iterator[None]:
    """While it lasts, nothing of the pipeline starts or asks Ray."""
    runtime = "pipelines.runtime."
    replaced = {
        "tasks.submit": submit,
        "tasks.gather": gather,
        "tasks.share": lambda value: value,
        "tasks.run_task": run_task,
        "tasks.wait": lambda run, references: gather(references),
        "tasks.map_tasks": each,
        "sharding.map_shards": each,
        "stream.stream": streamed,
        "distributed.run_task": run_task,
        "session.start": lambda config: None,
        "watchdog.watching": lambda run, patience: nullcontext(),
        "metrics.count": lambda *_, **__: None,
        "resources.require": lambda *_, **__: None,
        "resources.refuse": lambda *_: None,
        "resources.cpus": lambda: 2,
        "resources.node_cpus": lambda: 2,
        "resources.places": lambda bundle: 2,
        # One thread: what is learned is the same to the last bit on any number of cores.
        "resources.cpus_of_nodes": lambda custom: [1],
        "resources.gpus": lambda: 0.0,
    }
    with ExitStack() as stack:
        for name, function in replaced.items():
            stack.enter_context(patch(runtime + name, function))
        yield
