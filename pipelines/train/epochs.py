"""A training of any objective from its last checkpoint to its end, on each of its workers."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict
from typing import Any

import torch

from fusionrec.models.collective import Collective
from fusionrec.models.epochs import EpochTraining, precision
from pipelines.runtime import distributed, progress
from pipelines.runtime.workspace import StageRun
from pipelines.train.monitor import Monitor

log = logging.getLogger("fusionrec")

LAST = ("checkpoints", "last.safetensors")
BEST = ("checkpoints", "best.safetensors")
_SECONDS_BETWEEN_REPORTS = 30.0


def halves_for_all(group: Collective, device: str) -> bool:
    """Whether `auto` is bfloat16 for every worker: of two kinds of GPU all take what both have."""
    without = torch.tensor([float(not precision("auto", device)[0])], device=device)
    return not group.sum(without).item()


def train_to_the_end(
    training: EpochTraining[Any, Any], run: StageRun, checkpoint_every: int | None
) -> int:
    """Go on from the checkpoint, if there is one, with further ones; the epoch it was after.

    The first worker writes what there is to see.

    Parameters
    ----------
    checkpoint_every
        Epochs; about 20 in a run if it is None.
    """
    if run.workspace.exists(run.stage, *LAST):
        training.restore(run.workspace.read_bytes(run.stage, *LAST))
        log.info("train: goes on from the checkpoint after epoch %d", training.epoch)
    resumed = training.epoch
    _run_epochs(training, run, checkpoint_every or max(1, training.settings.epochs // 20))
    return resumed


def kept_row(training: EpochTraining[Any, Any]) -> Any:
    """The row of the curve whose weights are the result."""
    return training.curve[-1] if training.settings.patience is None else training.best


def _run_epochs(training: EpochTraining[Any, Any], run: StageRun, checkpoint_every: int) -> None:
    first = training.group.rank == 0
    monitor = Monitor(run, training.rows, training.epoch) if first else None
    reporter = progress.Reporter(run) if first else None
    written_best, reported = 0, time.monotonic()
    while not training.finished:
        row = training.run_epoch()
        if reporter is not None:
            reporter(training.epoch, training.settings.epochs)
        if monitor is not None and row is not None:
            monitor.add(row)
        if training.epoch % checkpoint_every and not training.finished:
            continue
        if monitor is not None:
            if training.best_epoch > written_best:
                run.write_bytes(training.save(best=True), *BEST)
                written_best = training.best_epoch
            run.write_bytes(training.save(), *LAST)
            monitor.flush(training.curve)
        # All workers report or none, as the first one's clock says.
        due = first and time.monotonic() - reported >= _SECONDS_BETWEEN_REPORTS
        flag = training.group.sum(torch.tensor(float(due), device=training.device))
        if flag.item() and training.curve:
            distributed.report(asdict(training.curve[-1]))
            reported = time.monotonic()
    if monitor is not None:
        monitor.close()
