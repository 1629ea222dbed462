"""Shards that an interrupted run finished are not done again: each leaves its report."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from pipelines.runtime.shards import Shard
from pipelines.runtime.workspace import StageRun

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

S = TypeVar("S", bound=Shard)
R = TypeVar("R", bound="DataclassInstance")

REPORTS = "reports"
"""The folder of a stage's result that they are in, until it is finished."""

_READERS = 16


def resumable(
    run: StageRun, name: str, function: Callable[[S], R], report: type[R]
) -> Callable[[S], R]:
    """Wrap a shard function so that a shard finished by an interrupted run is not redone.

    A shard's report, a dataclass of what JSON knows, is written after its output; where it is
    there, and has the fields of the class `report`, the shard is done.
    """
    return _Resumable(run, name, function, report)


def finished(run: StageRun, name: str, parts: Iterable[int], report: type[R]) -> dict[int, R]:
    """The reports of those parts that an interrupted run finished, under :func:`resumable`."""
    there = {info.base_name for info in run.workspace.files(run.stage, REPORTS)}
    done = [part for part in parts if _report_name(name, part) in there]
    with ThreadPoolExecutor(_READERS) as readers:  # a read is a wait where they lie elsewhere
        reports = readers.map(lambda part: _read_report(run, name, part, report), done)
    return {part: found for part, found in zip(done, reports, strict=True) if found is not None}


def report_of(run: StageRun, name: str, part: int, report: type[R]) -> R | None:
    """The report of a part under :func:`resumable`, if it is finished."""
    if not run.workspace.exists(run.stage, REPORTS, _report_name(name, part)):
        return None
    return _read_report(run, name, part, report)


def _report_name(name: str, part: int) -> str:
    return f"{name}-{part:05d}.json"


def _read_report(run: StageRun, name: str, part: int, report: type[R]) -> R | None:
    found = run.read_json(REPORTS, _report_name(name, part))
    # Other fields are those of another release, whose parts may be other ones too.
    known = found.keys() == {field.name for field in fields(report)}
    return report(**found) if known else None


@dataclass(frozen=True)
class _Resumable(Generic[S, R]):
    run: StageRun
    name: str
    function: Callable[[S], R]
    report: type[R]

    def __call__(self, shard: S) -> R:
        found = report_of(self.run, self.name, shard.part, self.report)
        if found is not None:
            return found
        report = json.loads(json.dumps(asdict(self.function(shard)), default=_plain_number))
        self.run.write_json(report, REPORTS, _report_name(self.name, shard.part))
        return self.report(**report)


def _plain_number(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is not JSON")
