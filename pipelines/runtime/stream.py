"""Items streamed through operators by Ray Data, which carries what one of them gives to the next.

A :class:`Source` reads an item (a part of an artifact, say) in a task of one CPU and gives it as
arrays; a :class:`Pool` of actors, if there is one, turns these into others; a :class:`Sink` writes
them in a task, and gives a small report. Each works on other items at the same time. Without
actors, Ray Data has both operators of an item in one task, and nothing crosses the object store.

Ray Data sees what is under way as columns of Arrow, a row a group of items before the actors and a
row an item after them (:mod:`pipelines.runtime.operators`): so both are whole wherever blocks are
cut, nobody holds more of them than the object store has room for, and what a worker that dies held
is done again.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import ray

from pipelines.runtime import metrics, resources, sharding
from pipelines.runtime.operators import Arrays, Pool, Pooled, Reading, Sink, Source, Writing, packed
from pipelines.runtime.tasks import RETRIES, placement
from pipelines.runtime.workspace import StageRun

__all__ = ["Arrays", "Pool", "Sink", "Source", "Statistics", "Work", "grouped", "stream"]

R = TypeVar("R")
S = TypeVar("S")


@dataclass
class Work:
    """What an operator has done: items, the bytes it gave, and seconds on the wall."""

    items: int = 0
    bytes: int = 0
    seconds: float = 0.0


@dataclass
class Statistics:
    """Of a stream: the work of each operator, and how long the actors waited for input.

    Attributes
    ----------
    operators
        By name; the time is summed over all workers.
    waited
        Seconds, summed over all actors: from an actor's first item to its last one, whatever it did
        not work. None of a stream that has none.
    """

    operators: dict[str, Work] = field(default_factory=dict)
    waited: float | None = None

    def add(self, name: str, work: Work) -> None:
        """Add to an operator's work."""
        of = self.operators.setdefault(name, Work())
        of.items += work.items
        of.bytes += work.bytes
        of.seconds += work.seconds

    def counts(self) -> dict[str, Any]:
        """For the manifest."""
        found: dict[str, Any] = {
            name: {"items": of.items, "bytes": of.bytes, "seconds": round(of.seconds, 3)}
            for name, of in self.operators.items()
        }
        if self.waited is not None:
            found["waited_seconds"] = round(self.waited, 3)
        return found


def grouped(items: Sequence[S], sizes: Sequence[float], least: float) -> list[list[S]]:
    """Items in their order, together until they have at least a size; the last group may have less.

    What a task takes at a time: a group that is too small is not worth a task of its own.
    """
    groups: list[list[S]] = []
    room = 0.0
    for item, size in zip(items, sizes, strict=True):
        if room <= 0:
            groups.append([])
            room = least
        groups[-1].append(item)
        room -= size
    return groups


def stream(
    run: StageRun | None,
    groups: Sequence[Sequence[S]],
    source: Source[S],
    pool: Pool | None,
    sink: Sink[S, R],
    *,
    description: str,
) -> tuple[list[R], Statistics]:
    """Stream items through the operators; the driver sees small reports only.

    Parameters
    ----------
    groups
        Items that are read by one task, and that an actor has at a time (of more than 10,000
        groups a task reads several). What becomes of an item must not depend on its group.
    pool
        None where the sink writes what the source gives.

    Returns
    -------
    tuple
        The items' reports, in their order, and what the operators did.

    Raises
    ------
    FusionrecError, StageError
        As :func:`pipelines.runtime.sharding.reports`.
    """
    statistics = Statistics(waited=None if pool is None else 0.0)
    if not groups:
        return [], statistics
    names = [each.name for each in (source, pool, sink) if each is not None]

    def see(row: Mapping[str, Any]) -> None:
        tags = {"stage": run.stage, "step": description} if run else {}
        for name, seconds, size in zip(names, row["seconds"], row["bytes"], strict=False):
            statistics.add(name, Work(1, size, seconds))
            if run:
                metrics.count("fusionrec_stream_items", 1, **tags, operator=name)
                metrics.count("fusionrec_stream_bytes", size, **tags, operator=name)
                metrics.count("fusionrec_stream_seconds", seconds, **tags, operator=name)
        if statistics.waited is not None:
            statistics.waited += row["waited"]
        if run:
            metrics.count("fusionrec_stream_waited_seconds", row["waited"], **tags)

    dataset = _dataset(run, _numbered(groups), source, pool, sink)
    items = sum(map(len, groups))
    actor = None if pool is None else pool.actor
    reports: list[R] = sharding.reports(run, dataset, items, description, actor, see)
    return reports, statistics


def _numbered(groups: Sequence[Sequence[S]]) -> list[list[tuple[int, S]]]:
    numbers = iter(range(sum(map(len, groups))))
    return [[(next(numbers), item) for item in group] for group in groups]


def _dataset(
    run: StageRun | None,
    groups: Sequence[Sequence[tuple[int, S]]],
    source: Source[S],
    pool: Pool | None,
    sink: Sink[S, R],
) -> ray.data.Dataset:
    tasks: dict[str, Any] = {"num_cpus": 1.0, "max_retries": RETRIES}
    if pool is not None:
        most = max(1, int(resources.gpus() / pool.num_gpus)) if pool.num_gpus else resources.cpus()
        actors = min(len(groups), most)
        if not pool.num_gpus or placement(run) or actors + 1 > resources.cpus():
            # The actors may hold every CPU that there is: of those counted some may never come, or
            # be other nodes' than the stage's. A task that asked for one would wait for ever.
            tasks |= {"num_cpus": 0.0, "compute": ray.data.TaskPoolStrategy(1 + actors // 4)}
    common: dict[str, Any] = {
        "batch_format": "pyarrow",
        "resources": placement(run),
    }
    dataset: ray.data.Dataset = ray.data.from_items(
        [{"group": packed(group)} for group in groups],
        override_num_blocks=min(len(groups), 10_000),
    )
    with warnings.catch_warnings():
        # Ray Data calls the bounds of the retries deprecated, and names nothing in their place.
        warnings.simplefilter("ignore", DeprecationWarning)
        # Operators whose options are the same are made one: so those of tasks, without actors
        # between them. Were the actors' the same, too, reading would no longer overlap their work.
        reading = Reading(source, together=pool is not None)
        dataset = dataset.map_batches(reading, batch_size=None, **tasks, **common)
        if pool is not None:
            dataset = dataset.map_batches(
                Pooled,
                fn_constructor_args=(pool,),
                batch_size=1,  # a group: Ray Data refuses None, a block, of an actor on a GPU
                compute=ray.data.ActorPoolStrategy(min_size=1, max_size=actors),
                num_cpus=1.0,
                num_gpus=pool.num_gpus or None,
                max_restarts=sharding.ACTOR_RESTARTS,
                # Without a bound of its own: a task that an actor's node took with it is tried
                # again until the loss is noticed, and ends with the actor, whose restarts are
                # bounded.
                max_task_retries=-1,
                **common,
            )
        return dataset.map_batches(Writing(sink), batch_size=None, **tasks, **common)
