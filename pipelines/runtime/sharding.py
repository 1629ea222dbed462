"""A function mapped over shards by Ray Data, in tasks or in a pool of actors."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import ray

from pipelines.runtime import resources
from pipelines.runtime.failures import as_data, lost, revive
from pipelines.runtime.progress import progress
from pipelines.runtime.tasks import RETRIES, Report, Shard, placement, plain_numbers
from pipelines.runtime.workspace import StageRun


class _Guarded:
    """Calls a shard function; exceptions travel as data, which Ray Data would bury in advice."""

    def __init__(self, function: Callable[[Shard], Report]) -> None:
        self.function = function

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        row = json.loads(item["item"])
        try:
            report, error = json.dumps(self.function(row["shard"]), default=plain_numbers), ""
        except Exception as raised:
            error, report = as_data(raised)
        return {"number": row["number"], "report": report, "error": error}


class _GuardedActor(_Guarded):
    """The same for an actor, whose shard function is made once from arguments."""

    def __init__(self, factory: Callable[..., Callable[[Shard], Report]], *arguments: Any) -> None:
        try:
            super().__init__(factory(*arguments))
        except Exception as error:
            super().__init__(partial(_raise, error))


def _raise(error: Exception, shard: Shard) -> Report:
    raise error


def map_shards(
    run: StageRun | None,
    function: Callable[..., Any],
    shards: Sequence[Shard],
    *,
    description: str,
    actor_arguments: tuple[Any, ...] | None = None,
    num_gpus: float = 0.0,
) -> list[Report]:
    """Run `function` on every shard with Ray Data; the driver sees small reports only.

    A shard says where its input lies, and the function writes its own output, so the
    driver holds one report (a few hundred bytes) a shard, in the order of the shards.

    Parameters
    ----------
    function
        Takes a shard, returns a JSON-able report. With `actor_arguments`, a factory of
        such a function, called once an actor.
    num_gpus
        GPUs of one actor; that there are any is the caller's to ask (`resources.require`).

    Raises
    ------
    FusionrecError
        Whatever error of ours a worker met, as it was raised there.
    StageError
        If a worker failed otherwise.
    """
    if not shards:
        return []
    rows = [{"shard": shard, "number": number} for number, shard in enumerate(shards)]
    dataset = ray.data.from_items(
        [{"item": json.dumps(row, default=plain_numbers)} for row in rows],
        override_num_blocks=min(len(rows), 10_000),
    )
    with warnings.catch_warnings():
        # Ray Data calls it deprecated, and names nothing else that bounds the retries.
        warnings.simplefilter("ignore", DeprecationWarning)
        if actor_arguments is None:
            mapped = dataset.map(_Guarded(function), max_retries=RETRIES, resources=placement(run))
        else:
            most = max(1, int(resources.gpus() / num_gpus)) if num_gpus else resources.cpus()
            mapped = dataset.map(
                _GuardedActor,  # type: ignore[arg-type]  # a class, where a pool is asked for
                fn_constructor_args=(function, *actor_arguments),
                compute=ray.data.ActorPoolStrategy(min_size=1, max_size=min(len(shards), most)),
                num_gpus=num_gpus or None,
                resources=placement(run),
                max_restarts=RETRIES,
                max_task_retries=RETRIES,
            )
    reports: dict[int, Report] = {}
    try:
        with progress(description, len(shards), run) as advance:
            for row in mapped.iter_rows():
                if row["error"]:
                    raise revive(row["error"], row["report"], description)
                reports[int(row["number"])] = json.loads(row["report"])
                advance(1)
    except ray.exceptions.RayError as error:
        what = f"{run.stage}: {description}" if run else description
        raise lost(what, error) from error
    return [reports[number] for number in range(len(shards))]
