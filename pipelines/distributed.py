"""Data-parallel work: one function on every Ray Train worker, or in one task without Ray Train.

Nothing but the work itself is different: the function gets its place among the workers and
writes its result, from the first worker, into the stage's folder.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable
from typing import Any

import ray.train
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from fusionrec.errors import DataError, FusionrecError, StageError
from fusionrec.models.collective import Collective
from pipelines import cluster
from pipelines.stage import Counts
from pipelines.workspace import StageRun

log = logging.getLogger("fusionrec")

Work = Callable[[dict[str, Any], Collective, str], Counts]
"""Takes the job, the place among the workers and the torch device; returns the result."""

_RESULT = "result.json"


def run(
    work: Work, job: dict[str, Any], stage_run: StageRun, *, workers: int, num_gpus: float
) -> Counts:
    """Run `work` on `workers` workers (0: in one task) and return the first one's result.

    Parameters
    ----------
    work
        A function of a module. Every worker runs it; the first one's result, which must be
        JSON, is written to the stage's folder and returned.
    num_gpus
        GPUs of one worker.

    Raises
    ------
    DataError
        What the work found wrong with the data; Ray Train does not retry it.
    StageError
        A worker failed otherwise, more often than Ray Train retries.
    """
    name = stage_run.stage
    packed = {"work": work, "job": job, "run": stage_run, "gpu": num_gpus > 0}
    if workers == 0:
        log.info("%s: in one task, without Ray Train (%s.workers: 0)", name, name)
        cluster.run_task(_alone, packed, num_gpus=num_gpus)
    else:
        _distributed(packed, workers, num_gpus)
    result: Counts = stage_run.read_json(_RESULT)
    if "error" in result:
        raise DataError(result["error"])
    return result


def _distributed(packed: dict[str, Any], workers: int, num_gpus: float) -> None:
    name = packed["run"].stage
    log.info("%s: Ray Train starts %d worker(s)", name, workers)
    with tempfile.TemporaryDirectory(prefix=f"fusionrec-{name}-") as scratch:
        trainer = TorchTrainer(
            _worker,
            train_loop_config=packed,
            scaling_config=ScalingConfig(
                num_workers=workers,
                use_gpu=num_gpus > 0,
                resources_per_worker={"CPU": 1, **({"GPU": num_gpus} if num_gpus else {})},
            ),
            run_config=RunConfig(
                storage_path=scratch, failure_config=FailureConfig(max_failures=2)
            ),
        )
        try:
            trainer.fit()
        except FusionrecError:
            raise
        except Exception as error:
            raise StageError(f"{name}: Ray Train failed: {cluster.root_cause(error)}") from error


def _worker(packed: dict[str, Any]) -> None:
    context = ray.train.get_context()
    collective = Collective(context.get_world_rank(), context.get_world_size())
    _work(packed, collective, on_this_node=context.get_local_world_size())
    # Once, at the end: a report waits until Ray Train's controller polls, a second or two.
    ray.train.report({"rank": collective.rank})


def _alone(packed: dict[str, Any]) -> None:
    _work(packed, Collective(), on_this_node=1)


def _work(packed: dict[str, Any], collective: Collective, on_this_node: int) -> None:
    device = "cuda" if packed["gpu"] and torch.cuda.is_available() else "cpu"
    # Nothing else of the pipeline runs meanwhile, so the workers share the node's cores.
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // on_this_node))
    try:
        result = packed["work"](packed["job"], collective, device)
    except DataError as error:
        # Ray Train would retry: bad data stay bad, so the driver raises this instead.
        result = {"error": str(error)}
    if collective.rank == 0:
        packed["run"].write_json(result, _RESULT)
