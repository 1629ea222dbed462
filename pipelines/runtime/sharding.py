"""A function mapped over shards by Ray Data, in tasks or in a pool of actors."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import ray

from fusionrec import errors
from pipelines.runtime import resources
from pipelines.runtime.failures import as_data, death, revive, root_cause
from pipelines.runtime.progress import progress
from pipelines.runtime.tasks import RETRIES, Report, Shard, placement, plain_numbers
from pipelines.runtime.workspace import StageRun

ACTOR_RESTARTS = 4
"""How often one actor may lose its process or node before the stage fails.

A process that dies while it loads a model dies again the next time; without a bound, Ray starts
it for ever.
"""


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
    actor: str = "actor",
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
    actor
        What an actor holds, for the message when its process dies again and again.
    num_gpus
        GPUs of one actor.

    Raises
    ------
    FusionrecError
        Whatever error of ours a worker met, as it was raised there.
    StageError
        If a worker failed otherwise, or an actor's process died more than
        :data:`ACTOR_RESTARTS` times.
    """
    if not shards:
        return []
    rows = [{"shard": shard, "number": number} for number, shard in enumerate(shards)]
    dataset = ray.data.from_items(
        [{"item": json.dumps(row, default=plain_numbers)} for row in rows],
        override_num_blocks=min(len(rows), 10_000),
    )
    mapping: dict[str, Any]
    if actor_arguments is None:
        mapping = {"fn": _Guarded(function), "max_retries": RETRIES}
    else:
        pool = max(1, min(len(shards), resources.cpus())) if not num_gpus else None
        fitting = int(resources.gpus() / num_gpus) if num_gpus else 0
        if num_gpus and not fitting:
            raise errors.ConfigError(
                f"{description}: asks for {num_gpus} GPUs an actor, but the cluster has none; "
                "set embed.lyrics.num_gpus=0 to run on CPUs"
            )
        size = min(len(shards), pool or fitting)
        mapping = {
            "fn": _GuardedActor,
            "fn_constructor_args": (function, *actor_arguments),
            "compute": ray.data.ActorPoolStrategy(min_size=1, max_size=size),
            "num_gpus": num_gpus or None,
            "max_restarts": ACTOR_RESTARTS,
            "max_task_retries": ACTOR_RESTARTS,
        }
    with warnings.catch_warnings():
        # Ray Data calls these bounds of the retries deprecated, and names nothing in their place.
        warnings.simplefilter("ignore", DeprecationWarning)
        mapped = dataset.map(**mapping, resources=placement(run))
    reports: dict[int, Report] = {}
    try:
        with progress(description, len(shards), run) as advance:
            for row in mapped.iter_rows():
                if row["error"]:
                    raise revive(row["error"], row["report"], description)
                reports[int(row["number"])] = json.loads(row["report"])
                advance(1)
    except ray.exceptions.RayError as error:
        why = death(error) if actor_arguments is not None else None
        if why is None:
            found = root_cause(error)
            raise errors.StageError(f"{description}: a worker failed: {found}") from error
        begun = "while it worked" if reports else "before it had done anything"
        raise errors.StageError(
            f"{description}: the process of {actor} died {ACTOR_RESTARTS + 1} times {begun}: {why}"
        ) from error
    return [reports[number] for number in range(len(shards))]
