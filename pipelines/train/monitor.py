"""What one can watch of a training while it runs: a CSV of its epochs, and TensorBoard."""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING

from pyarrow import fs as pafs
from tensorboardX import SummaryWriter

from pipelines.runtime.workspace import StageRun

if TYPE_CHECKING:
    from fusionrec.models.epochs import Row

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
    rows
        The class of the curve's rows.
    after
        The epoch the training goes on from; what an interrupted run drew beyond it goes.
    """

    def __init__(self, run: StageRun, rows: type[Row], after: int = 0) -> None:
        self.run, self.rows = run, rows
        self.aside: tempfile.TemporaryDirectory[str] | None = None
        if isinstance(run.workspace.fs, pafs.LocalFileSystem):
            folder = run.workspace.path(run.stage, TENSORBOARD)
        else:
            self.aside = tempfile.TemporaryDirectory(prefix="fusionrec-")
            folder = self.aside.name
        self.folder = Path(folder)
        self.writer = SummaryWriter(folder, purge_step=after + 1, write_to_disk=True)

    def add(self, row: Row) -> None:
        """Draw one epoch."""
        for name, value in asdict(row).items():
            if value is not None and name != "epoch":
                self.writer.add_scalar(f"train/{name}", value, row.epoch)

    def flush(self, curve: Sequence[Row]) -> None:
        """Make all that was drawn readable, and write the whole curve as CSV."""
        self.writer.flush()
        if self.aside is not None:
            for path in sorted(self.folder.iterdir()):
                self.run.write_bytes(path.read_bytes(), TENSORBOARD, path.name)
        self.run.write_bytes(curve_csv(curve, self.rows), EPOCHS)

    def close(self) -> None:
        """Release the files."""
        self.writer.close()
        if self.aside is not None:
            self.aside.cleanup()


def curve_csv(curve: Sequence[Row], rows: type[Row]) -> bytes:
    """The curve as CSV, a row an evaluated epoch."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(rows)])
    writer.writeheader()
    writer.writerows(asdict(row) for row in curve)
    return text.getvalue().encode()
