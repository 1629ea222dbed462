"""How many GPUs each worker of a stage asks for: what the config says, or what `auto` finds.

`auto` is a GPU a worker (of a search, a share of one) where the cluster has so many, or its
autoscaler may bring them, and PyTorch sees one in a worker; else none. It is settled once, when a
stage begins, is said in the log and kept in the manifest. It is in no key: what of it changes a
result, the precision, is chosen with :meth:`StageRun.choose`, which holds for a result that is
gone on with elsewhere, too.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import ray

from fusionrec.errors import ConfigError, ResourceError
from pipelines.config import Config
from pipelines.runtime import lease, resources, tasks
from pipelines.runtime.resources import Demand
from pipelines.runtime.workspace import KEPT, SETTLED, StageRun, Workspace

log = logging.getLogger("fusionrec")

FASTEST = 8e12
"""Bytes a second that no GPU's memory passes: for what is to be known before one is there."""
_SECONDS_TO_LOOK = 60.0
"""For a worker to start and to import PyTorch, beside what the GPU is waited for."""


@dataclass(frozen=True)
class GpuUse:
    """What a stage does with GPUs.

    Attributes
    ----------
    key
        The config's key, by its dotted name.
    worker
        What holds them, with its article: an encoder, a worker, a trial.
    auto
        GPUs of each under `auto`.
    applies
        Whether there is such work under a config at all.
    on_cpus
        Why the work is better done on CPUs though there is a GPU, whose memory moves so many
        bytes a second; None where it is not. Asked under `auto` only, when its inputs are there.
    """

    key: str
    worker: str
    auto: float = 1.0
    applies: Callable[[Config], bool] = lambda config: True
    on_cpus: Callable[[Config, Workspace, float], str | None] = lambda *_: None

    def asked(self, config: Config) -> float | Literal["auto"]:
        """The key's value."""
        found: Any = config
        for part in self.key.split("."):
            found = getattr(found, part)
        value: float | Literal["auto"] = found
        return value

    def added(self, demand: Demand, each: float, note: str = "") -> Demand:
        """A demand with GPUs for each worker."""
        bundles = tuple({**bundle, "GPU": each} for bundle in demand.bundles)
        return Demand(bundles, {**demand.keys, "GPU": self.key + note})


@dataclass(frozen=True)
class Settled:
    """GPUs of each worker, and why so many."""

    each: float
    why: str


@dataclass(frozen=True)
class Sight:
    """What PyTorch sees in a worker that holds a GPU; `rate` is its memory's, in bytes a second."""

    gpu: bool
    version: str
    rate: float = 0.0


def settle(run: StageRun, use: GpuUse | None, config: Config, demand: Demand) -> float:
    """GPUs of each worker of a result, when all that its work asks for is there.

    Waits for what is in use for `cluster.patience` seconds, and under `auto` then takes CPUs. A
    result of which CPUs did the last work goes on on CPUs under `auto`.

    Parameters
    ----------
    demand
        What the work asks for beside GPUs.

    Raises
    ------
    ConfigError
        The cluster has less than the config asks for by a number, or PyTorch sees none of it.
    ResourceError
        What is asked for by numbers did not come in time.
    """
    name, patience = run.stage, config.cluster.patience
    if use is None or not use.applies(config):
        resources.require(name, demand, patience=patience)
        return 0.0
    begun = _kept(run)
    asked = use.asked(config)
    if asked == "auto":
        found = _after(begun, _auto(run, use, config, demand, begun))
    else:
        resources.require(name, use.added(demand, asked), patience=patience)
        if asked:
            sight = look(run, asked, patience)
            if sight is None:
                raise ResourceError(
                    f"{name}: {_in_vain(patience)} ({use.key}: {asked:g}); wait until others have "
                    f"finished, or set {use.key}: 0 to run on CPUs"
                )
            _require_sight(use, asked, sight)
        found = _as_configured(use, asked)
    log.info("%s: %s", name, found.why)
    if begun[-1:] != [found]:
        run.write_json([asdict(each) for each in (*begun, found)], *SETTLED)
    return found.each


def foresee(
    run: StageRun, use: GpuUse | None, config: Config, demand: Demand, *, inputs: bool
) -> Settled | None:
    """What :func:`settle` would find now. None for work without GPUs.

    It writes nothing, and waits for nothing that is in use: only until a worker that holds a free
    GPU has looked at it.

    Parameters
    ----------
    inputs
        Whether all that the stage reads is finished.

    Raises
    ------
    ConfigError
        The cluster will never have what is asked for, or PyTorch sees none of its GPUs.
    """
    name = run.stage
    if use is None or not use.applies(config):
        resources.refuse(name, demand)
        return None
    asked = use.asked(config)
    if asked != "auto":
        resources.refuse(name, use.added(demand, asked))
        sight = look(run, asked, 0.0) if 0 < asked <= resources.free_gpus() else None
        if sight is not None:
            _require_sight(use, asked, sight)
        return _as_configured(use, asked)
    resources.refuse(name, demand)
    begun = _kept(run)

    def on_cpus(rate: float) -> str | None:
        return use.on_cpus(config, run.workspace, rate) if inputs else None

    why = _no_gpu(use, use.added(demand, use.auto), begun) or on_cpus(FASTEST)
    if why is not None:
        return _after(begun, _cpus(why))
    sight = look(run, use.auto, 0.0) if resources.free_gpus() >= use.auto else None
    if sight is None:
        return Settled(
            0.0,
            f"{_there()}, none free now: waits for it, {config.cluster.patience:g} s at most "
            "(cluster.patience), then CPU",
        )
    return _after(begun, _seen(use, sight, on_cpus))


def _auto(
    run: StageRun, use: GpuUse, config: Config, demand: Demand, begun: Sequence[Settled]
) -> Settled:
    name, patience = run.stage, config.cluster.patience
    resources.refuse(name, demand)  # what the cluster lacks beside GPUs is an error with them, too
    wanted = use.added(demand, use.auto, f": auto, {patience:g} s at most, then CPU")

    def on_cpus(rate: float) -> str | None:
        return use.on_cpus(config, run.workspace, rate)

    why = _no_gpu(use, wanted, begun) or on_cpus(FASTEST)
    sight = None
    if why is None:
        try:
            resources.require(name, wanted, patience=patience)
            sight = look(run, use.auto, patience)
            why = _in_vain(patience)
        except ResourceError as error:
            lacks_gpus = resources.free_gpus() < use.auto
            why = _in_vain(patience) if lacks_gpus else _reason(name, error)
    found = _cpus(why) if sight is None else _seen(use, sight, on_cpus)
    if not found.each:
        resources.require(name, demand, patience=patience)
    return found


def _no_gpu(use: GpuUse, wanted: Demand, begun: Sequence[Settled]) -> str | None:
    """Why none is taken, whatever is free; None if one may be."""
    why = _lacking(use, wanted)
    if why is None and begun and not begun[-1].each:
        why = f"as this result was last gone on with ({use.key}: {use.auto:g} goes on on a GPU)"
    return why


def _after(begun: Sequence[Settled], found: Settled) -> Settled:
    """What is found, with what it means for what was done before."""
    if begun and begun[-1].each and not found.each:
        return Settled(0.0, f"{found.why}, where what was begun on a GPU goes on as precisely")
    return found


def _reason(name: str, error: ResourceError) -> str:
    """What did not come, without the stage's name and the advice."""
    return str(error).removeprefix(f"{name}: ").partition("; wait until")[0]


def _lacking(use: GpuUse, wanted: Demand) -> str | None:
    """What the cluster will never have of a demand with GPUs; None if it has or may bring all."""
    total, needed = resources.gpus(), sum(bundle["GPU"] for bundle in wanted.bundles)
    if not total:
        return "no GPU in the cluster"
    if needed > total:
        return f"{_there()}, but {len(wanted.bundles)} {use.worker.split()[-1]}s need one each"
    if not all(map(resources.fits_a_node, wanted.bundles)):
        others = ", ".join(
            f"{n:g} {name}" for name, n in wanted.bundles[0].items() if name != "GPU"
        )
        return f"{_there()}, but no node has one beside {others}"
    return None


def _seen(use: GpuUse, sight: Sight, on_cpus: Callable[[float], str | None]) -> Settled:
    """What follows from what PyTorch sees."""
    if not sight.gpu:
        return _cpus(f"{_there()}, but PyTorch {sight.version} sees none in a worker that holds it")
    why = on_cpus(sight.rate)
    if why is not None:
        return _cpus(why)
    each = "one" if use.auto == 1 else f"{use.auto:g} of one"
    return Settled(use.auto, f"{_there()}, {each} for {use.worker}")


def _require_sight(use: GpuUse, asked: float, sight: Sight) -> None:
    if not sight.gpu:
        raise ConfigError(
            f"{use.key}: {asked:g}, but PyTorch {sight.version} sees no GPU in a worker that holds "
            f"one; install its CUDA build on the cluster's nodes, or set {use.key}: auto or 0"
        )


def look(run: StageRun, each: float, patience: float) -> Sight | None:
    """What PyTorch sees in a worker like the stage's; None if none could start in time."""
    cluster = ray.get_runtime_context().get_job_id()
    placed = tuple(sorted(tasks.placement(run).items()))
    if (cluster, placed) not in _sights:
        reference = tasks.submit(run, _look, num_cpus=0, num_gpus=each)
        done, _ = ray.wait([reference], timeout=patience + _SECONDS_TO_LOOK)
        if not done:
            ray.cancel(reference)
            return None
        _sights[cluster, placed] = tasks.gather([reference])[0]
    return _sights[cluster, placed]


_sights: dict[tuple[str, tuple[tuple[str, float], ...]], Sight] = {}
"""By the session and the custom resources: what was seen is not looked for by every stage."""


def _look() -> Sight:
    import torch

    gpu = torch.cuda.is_available()
    return Sight(gpu, torch.__version__, _rate("cuda") if gpu else 0.0)


def _rate(device: str) -> float:
    """Bytes a second of a device's memory; 0 where others leave no room to measure it."""
    import torch

    try:
        cells = torch.zeros(_CELLS, device=device)
        for passes in (1, _PASSES):  # the first one is for the kernel to be loaded
            started = time.perf_counter()
            for _ in range(passes):
                cells += 1.0
            cells[0].item()  # waits for all of them
            seconds = time.perf_counter() - started
    except RuntimeError:  # no room: of the allocator (OutOfMemoryError), or for a context at all
        return 0.0
    return _PASSES * 2 * cells.nbytes / seconds


_CELLS, _PASSES = 1 << 26, 8
"""A quarter of a GB: more than any cache, and some milliseconds in all."""


def _kept(run: StageRun) -> list[Settled]:
    """What was settled for an interrupted result, each time that it was gone on with.

    Nothing as long as no work of it is done: then it may go on anywhere.
    """
    if not run.workspace.exists(run.stage, *SETTLED) or not run.artifacts() - _NO_WORK:
        return []
    return [Settled(**each) for each in run.read_json(*SETTLED)]


_NO_WORK = {SETTLED[0], KEPT, lease.FOLDER, "progress"}
"""What a result has of which no work is done."""


def _as_configured(use: GpuUse, asked: float) -> Settled:
    what = f"{asked:g} GPU for {use.worker}" if asked else "CPU"
    return Settled(asked, f"{what} ({use.key}: {asked:g})")


def _cpus(why: str) -> Settled:
    return Settled(0.0, f"{why}: CPU")


def _there() -> str:
    """GPUs of the cluster, for people."""
    total, there = resources.gpus(), resources.gpus_there()
    brought = "" if there >= total else ", counting those that its autoscaler may bring"
    return f"{total:g} GPU{'s' * (total != 1)} in the cluster{brought}"


def _in_vain(patience: float) -> str:
    return f"no GPU came free in {patience:g} s (cluster.patience)"
