"""Writing a modality's part."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from fusionrec import schemas
from fusionrec.tables import vectors
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
