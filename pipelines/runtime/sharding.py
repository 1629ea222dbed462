"""A function mapped over shards by Ray Data in tasks, and the reports that a dataset ends in."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import ray
from ray import cloudpickle

from fusionrec.errors import StageError
from pipelines.runtime import interrupts
from pipelines.runtime.failures import as_data, death, lost, revive
from pipelines.runtime.progress import progress
from pipelines.runtime.tasks import RETRIES, placement
from pipelines.runtime.workspace import StageRun

ACTOR_RESTARTS = 4
"""How often one actor may lose its process or node before the stage fails.

A process that dies while it loads a model dies again the next time; without a bound, Ray starts
it for ever.
"""

R = TypeVar("R")
S = TypeVar("S")

Row = dict[str, bytes]
"""Of Ray Data's table: a shard under ``shard``, or what became of it under ``outcome``."""


class _Guarded(Generic[S, R]):
    """Calls a shard function; exceptions travel as data, which Ray Data would bury in advice."""

    def __init__(self, function: Callable[[S], R]) -> None:
        self.function = function

    def __call__(self, row: Row) -> Row:
        interrupts.hear()
        number, shard = cloudpickle.loads(row["shard"])
        try:
            outcome = _packed((number, "", self.function(shard)))
        except Exception as raised:
            outcome = _packed((number, *as_data(raised)))
        return {"outcome": outcome}


def map_shards(
    run: StageRun | None,
    function: Callable[[S], R],
    shards: Sequence[S],
    *,
    description: str,
) -> list[R]:
    """Run `function` on every shard with Ray Data; the driver sees small reports only.

    A shard says where its input lies, and the function writes its own output, so the
    driver holds one report (a few hundred bytes) a shard, in the order of the shards.

    Raises
    ------
    FusionrecError
        Whatever error of ours a worker met, as it was raised there.
    StageError
        If a worker failed otherwise.
    """
    if not shards:
        return []
    mapped = _mapped(shards, fn=_Guarded(function), max_retries=RETRIES, resources=placement(run))
    return reports(run, mapped, len(shards), description)


def _packed(value: object) -> bytes:
    content: bytes = cloudpickle.dumps(value)  # type: ignore[no-untyped-call]
    return content


def _mapped(shards: Sequence[object], **options: Any) -> ray.data.Dataset:
    dataset = ray.data.from_items(
        [{"shard": _packed(numbered)} for numbered in enumerate(shards)],
        override_num_blocks=min(len(shards), 10_000),
    )
    with warnings.catch_warnings():
        # Ray Data calls the bounds of the retries deprecated, and names nothing in their place.
        warnings.simplefilter("ignore", DeprecationWarning)
        return dataset.map(**options)


def reports(
    run: StageRun | None,
    mapped: ray.data.Dataset,
    shards: int,
    description: str,
    actor: str | None = None,
    see: Callable[[Mapping[str, Any]], None] = lambda row: None,
) -> list[R]:
    """The reports in a dataset's column ``outcome``, in the order of the shards.

    Parameters
    ----------
    actor
        What an actor of the dataset holds; None if it has none.
    see
        Is given each row.

    Raises
    ------
    FusionrecError
        Whatever error of ours a worker met, as it was raised there.
    StageError
        If a worker failed otherwise, or an actor's process died more than
        :data:`ACTOR_RESTARTS` times.
    """
    found: dict[int, R] = {}
    try:
        with progress(description, shards, run) as advance:
            for row in mapped.iter_rows():
                number, error, report = cloudpickle.loads(row["outcome"])
                if error:
                    raise revive(error, report, description)
                found[number] = report
                see(row)
                advance(1)
    except ray.exceptions.RayError as error:
        why = death(error) if actor is not None else None
        if why is None:
            raise lost(f"{run.stage}: {description}" if run else description, error) from error
        begun = "while it worked" if found else "before it had done anything"
        raise StageError(
            f"{description}: the process of {actor} died {ACTOR_RESTARTS + 1} times {begun}: {why}"
        ) from error
    return [found[number] for number in range(shards)]
