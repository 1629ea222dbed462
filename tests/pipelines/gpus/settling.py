"""Where a stage works, settled or foreseen."""

from __future__ import annotations

from pathlib import Path

from pipelines import config
from pipelines.config import Config
from pipelines.runtime import gpus
from pipelines.runtime.gpus import GpuUse, Settled
from pipelines.runtime.resources import Demand
from pipelines.runtime.workspace import StageRun, Workspace

USE = GpuUse("train.num_gpus", "a worker")


PATIENCE = 7.0


def begun(place: Path) -> StageRun:
    run = Workspace(str(place)).begin("train", {})
    assert run is not None
    return run


def settled(place: Path, asked: object, workers: int = 1, use: GpuUse = USE) -> float:
    chosen = config.load(
        None,
        [f"train.num_gpus={asked}", f"train.workers={workers}", f"cluster.patience={PATIENCE}"],
    )
    demand = Demand(({"CPU": 1.0},) * workers, {"CPU": "train.workers"})
    return gpus.settle(begun(place), use, chosen, demand)


def foreseen(place: Path, chosen: Config | None = None) -> Settled:
    found = gpus.foresee(
        begun(place), USE, chosen or Config(), Demand(({"CPU": 1.0},), {}), inputs=False
    )
    assert found is not None
    return found


def last_line(caplog) -> str:
    return caplog.records[-1].getMessage()
