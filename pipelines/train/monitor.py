"""What one can watch of a training while it runs: a CSV of its epochs, and TensorBoard."""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from pyarrow import fs as pafs
from tensorboardX import SummaryWriter

from fusionrec.models.training import Epoch
from pipelines.runtime.workspace import StageRun

TENSORBOARD = "tensorboard"
EPOCHS = "epochs.csv"


class Monitor:
    """Writes the curve of a training to the stage's folder.

    TensorBoard's files lie below ``tensorboard/``; on a filesystem that is not local they are
    written aside and copied there with each :meth:`flush`.

    Parameters
    ----------
    run
        The stage.
    after
        The epoch the training goes on from; what an interrupted run drew beyond it goes.
    """

    def __init__(self, run: StageRun, after: int = 0) -> None:
        self.run = run
        self.aside: tempfile.TemporaryDirectory[str] | None = None
        if isinstance(run.workspace.fs, pafs.LocalFileSystem):
            folder = run.workspace.path(run.stage, TENSORBOARD)
        else:
            self.aside = tempfile.TemporaryDirectory(prefix="fusionrec-")
            folder = self.aside.name
        self.folder = Path(folder)
        self.writer = SummaryWriter(folder, purge_step=after + 1, write_to_disk=True)

    def add(self, row: Epoch) -> None:
        """Draw one epoch."""
        for name, value in asdict(row).items():
            if value is not None and name != "epoch":
                self.writer.add_scalar(f"train/{name}", value, row.epoch)

    def flush(self, curve: Sequence[Epoch]) -> None:
        """Make all that was drawn readable, and write the whole curve as CSV."""
        self.writer.flush()
        if self.aside is not None:
            for path in sorted(self.folder.iterdir()):
                self.run.write_bytes(path.read_bytes(), TENSORBOARD, path.name)
        self.run.write_bytes(curve_csv(curve), EPOCHS)

    def close(self) -> None:
        """Release the files."""
        self.writer.close()
        if self.aside is not None:
            self.aside.cleanup()


def curve_csv(curve: Sequence[Epoch]) -> bytes:
    """The curve as CSV, a row an evaluated epoch."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(Epoch.__dataclass_fields__))
    writer.writeheader()
    writer.writerows(asdict(row) for row in curve)
    return text.getvalue().encode()
