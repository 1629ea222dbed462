"""Writing a modality's part, and adding up what the parts report."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from fusionrec import schemas
from fusionrec.tables import vectors
from pipelines.runtime.stage import Counts
from pipelines.runtime.workspace import StageRun


def write_features(
    run: StageRun,
    modality: str,
    part: int,
    songs: pa.ChunkedArray,
    rows: np.ndarray,
    present: np.ndarray,
) -> None:
    """Write one part's vectors, float32 of shape (songs, dimension), and which songs have one."""
    columns = [songs.combine_chunks(), vectors(rows), pa.array(present)]
    schema = schemas.features(rows.shape[1])
    run.write(pa.Table.from_arrays(columns, schema=schema), modality, part)


def summed(reports: list[Counts]) -> Counts:
    """Counts added up over parts; the dimension is the same in all."""
    totals: Counts = {}
    for report in reports:
        for name, value in report.items():
            if name == "dimension":
                totals[name] = value
            elif isinstance(value, int):
                totals[name] = totals.get(name, 0) + value
    return totals
