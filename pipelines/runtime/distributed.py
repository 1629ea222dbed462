"""Data-parallel work: one function on every Ray Train worker, or in one task without Ray Train.

Nothing but the work itself is different: the function gets its rank among the workers and
writes its result, from the first worker, into the stage's folder.
"""

from __future__ import annotations

import ctypes
import logging
import os
import secrets
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import ray.data
import ray.train
import ray.train.torch
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from fusionrec.errors import DataError, FusionrecError, StageError
from fusionrec.models.collective import Collective
from pipelines.runtime import interrupts, resources
from pipelines.runtime.failures import root_cause
from pipelines.runtime.stage import Counts
from pipelines.runtime.tasks import placement, run_task
from pipelines.runtime.workspace import StageRun

log = logging.getLogger("fusionrec")

J = TypeVar("J")
_RESULT = "result.json"
_FAULT = "fault.json"
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""glibc's numbers of what `mallopt` sets."""


@dataclass(frozen=True)
class Worker:
    """What a worker gets beside its job.

    Attributes
    ----------
    collective
        Its rank among the workers.
    device
        The torch device.
    datasets
        Iterators over the datasets, by name: `train` is its share, the others are whole.
    """

    collective: Collective
    device: str
    datasets: Mapping[str, ray.data.DataIterator]


Work = Callable[[J, Worker], Counts]
"""Takes the stage's job, which is a small dataclass, and returns the result."""


@dataclass(frozen=True)
class _Packed(Generic[J]):
    """What travels to the workers."""

    work: Work[J]
    job: J
    run: StageRun
    gpu: bool
    threads: int | None
    call: str
    """Names this call of :func:`run`, of whose workers what is wrong with the data is heard."""

    def fault(self) -> str | None:
        """What a worker found wrong with the data."""
        if not self.run.workspace.exists(self.run.stage, _FAULT):
            return None
        said: dict[str, str] = self.run.read_json(_FAULT)
        return said["error"] if said["call"] == self.call else None


def demand(stage: str, workers: int, *, threads: int | None = None) -> resources.Demand:
    """What :func:`run` asks for, beside GPUs, custom resources and tasks that stream to it."""
    cpus = f"{stage}.workers" if (threads or 1) == 1 else f"{stage}.workers and {stage}.threads"
    return resources.Demand(({"CPU": float(threads or 1)},) * max(1, workers), {"CPU": cpus})


def run(
    work: Work[J],
    job: J,
    stage_run: StageRun,
    *,
    workers: int,
    num_gpus: float,
    patience: float,
    threads: int | None = None,
    datasets: dict[str, ray.data.Dataset] | None = None,
) -> Counts:
    """Run `work` on `workers` workers (0: in one task) and return the first one's result.

    Parameters
    ----------
    work
        A function of a module. Every worker runs it; the first one's result, which must be
        JSON, is written to the stage's folder and returned.
    num_gpus
        GPUs of one worker.
    threads
        Of a worker, for each of which it asks for a CPU; where None, it asks for one and takes
        its share of the node's cores, as nothing else of the pipeline runs meanwhile.
    patience
        Seconds to wait for CPUs and GPUs (`cluster.patience`).
    datasets
        Each worker gets iterators over them: `train` is split among the workers, the others
        are whole.

    Raises
    ------
    ConfigError, ResourceError
        There are not so many CPUs or GPUs.
    DataError
        What the work found wrong with the data; Ray Train does not retry it.
    StageError
        A worker failed otherwise, more often than Ray Train retries.
    """
    name = stage_run.stage
    packed = _Packed(work, job, stage_run, num_gpus > 0, threads, secrets.token_hex(8))
    streams = datasets or {}
    count = max(1, workers)
    cpus = float(threads or 1)
    if streams and cpus == 1:
        cpus = resources.cpus_beside_ray_data(count)
    each = {"CPU": cpus, "GPU": num_gpus, **placement(stage_run)}
    asked = {**demand(name, workers, threads=threads).keys, "GPU": f"{name}.num_gpus"}
    bundles = (*(count * [each]), *({"CPU": 1.0} for _ in range(bool(streams))))
    resources.require(name, resources.Demand(bundles, asked), patience=patience)
    if workers == 0:
        log.info("%s: in one task, without Ray Train (%s.workers: 0)", name, name)
        run_task(stage_run, _alone, packed, streams, num_cpus=cpus, num_gpus=num_gpus)
    else:
        try:
            _distributed(packed, workers, each, streams)
        except StageError as error:  # as where others failed with the worker that found bad data
            if (fault := packed.fault()) is not None:
                raise DataError(fault) from error
            raise
    if (fault := packed.fault()) is not None:
        raise DataError(fault)
    counts: Counts = stage_run.read_json(_RESULT)
    return counts


def report(metrics: Mapping[str, float | None]) -> None:
    """Show metrics on Ray Train's dashboard; all workers must call it, nothing without Ray Train.

    It waits until Ray Train's controller polls, a second or two, so it is for now and then.
    """
    if _in_ray_train:
        ray.train.report(dict(metrics))


_in_ray_train = False


def _distributed(
    packed: _Packed[J],
    workers: int,
    demand: dict[str, float],
    streams: dict[str, ray.data.Dataset],
) -> None:
    name = packed.run.stage
    log.info("%s: Ray Train starts %d worker(s)", name, workers)
    with tempfile.TemporaryDirectory(prefix=f"fusionrec-{name}-") as scratch:
        trainer = TorchTrainer(
            _worker,
            train_loop_config={"packed": packed, "streams": sorted(streams)},
            datasets={**streams},
            dataset_config=ray.train.DataConfig(
                datasets_to_split=["train"] if streams else [],
                execution_options=_ordered(),
            ),
            scaling_config=ScalingConfig(
                num_workers=workers,
                use_gpu=demand["GPU"] > 0,
                # Ray Train takes no worker that asks for nothing: a byte of memory is something.
                resources_per_worker={k: v for k, v in demand.items() if v} or {"memory": 1},
            ),
            run_config=RunConfig(
                storage_path=scratch, failure_config=FailureConfig(max_failures=2)
            ),
        )
        try:
            interrupts.outside_the_main_thread(trainer.fit)
        except FusionrecError:
            raise
        except Exception as error:
            raise StageError(f"{name}: Ray Train failed: {root_cause(error)}") from error


def _worker(config: dict[str, Any]) -> None:
    global _in_ray_train
    _in_ray_train = True
    _keep_freed_memory()
    context = ray.train.get_context()
    streams = {name: ray.train.get_dataset_shard(name) for name in config["streams"]}
    packed: _Packed[object] = config["packed"]
    join = Collective if packed.gpu else Collective.joined
    collective = join(context.get_world_rank(), context.get_world_size())
    _work(packed, collective, streams, on_this_node=context.get_local_world_size())
    # Once, at the end: a report waits until Ray Train's controller polls, a second or two.
    ray.train.report({"rank": collective.rank})


def _keep_freed_memory() -> None:
    """Let this process, which ends with its work, keep what a step frees for the next one.

    glibc gives it back to the system, which then has to clear the same pages for every step; with
    the caches that this spoils it took a twentieth of a step's time.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # as in glibc
        mallopt(_TRIM_THRESHOLD, 1 << 30)
        mallopt(_MMAP_THRESHOLD, 32 << 20)  # the most that glibc takes


def _device() -> str:
    # The workers of a node see all its GPUs, and Ray Train says which one is whose.
    device = str(ray.train.torch.get_device()) if _in_ray_train else "cuda:0"
    torch.cuda.set_device(device)
    return device


def _alone(packed: _Packed[J], streams: dict[str, ray.data.Dataset]) -> None:
    context = ray.data.DataContext.get_current()
    context.execution_options = _ordered()
    context.enable_progress_bars = False
    iterators = {name: dataset.iterator() for name, dataset in streams.items()}
    _work(packed, Collective(), iterators, on_this_node=1)


def _ordered() -> ray.data.ExecutionOptions:
    """The blocks of a dataset in its own order, so that a seed gives one order of the songs."""
    return ray.data.ExecutionOptions(preserve_order=True)


def _work(
    packed: _Packed[J],
    collective: Collective,
    streams: dict[str, ray.data.DataIterator],
    on_this_node: int,
) -> None:
    device = _device() if packed.gpu and torch.cuda.is_available() else "cpu"
    share = max(1, (os.cpu_count() or 1) // on_this_node)
    torch.set_num_threads(packed.threads or share)
    try:
        result = packed.work(packed.job, Worker(collective, device, streams))
    except BaseException as error:
        try:
            if isinstance(error, DataError):
                packed.run.write_json({"call": packed.call, "error": str(error)}, _FAULT)
        finally:
            if collective.memory is not None:  # its process goes on, and others wait for it
                collective.memory.fail()
        # Ray Train would retry: bad data stay bad, so the driver raises this instead. A worker that
        # only waited for the one which found them has no fault of its own.
        if packed.fault() is None:
            raise
        return
    if collective.rank == 0:
        packed.run.write_json(result, _RESULT)
