"""Ingest, last part: what finds songs and users by id and by number, a few of them at a time.

Songs of the catalogue and others are numbered together, as whatever is learned from plays has them:
first those of `songs`, then those of `other_songs`.
"""

from __future__ import annotations

import pyarrow as pa

from fusionrec.schemas import SONG_NAMES
from pipelines.runtime.rows import NAMES_A_PART, rows_name, texts_of, write_index
from pipelines.runtime.workspace import StageRun


def write_song_names(run: StageRun) -> None:
    """`song_names`: what all songs are called, by number; and `song_index`: their numbers by id."""
    workspace, stage = run.workspace, run.stage
    table = pa.concat_tables(
        [
            workspace.read_part(stage, artifact, name, SONG_NAMES)
            for artifact in ("songs", "other_songs")
            for name in workspace.parts(stage, artifact)
        ]
    )
    write_index(run, "song_index", table["song_id"].to_pylist())
    for part, start in enumerate(range(0, table.num_rows, NAMES_A_PART)):
        names = texts_of(table.slice(start, NAMES_A_PART))
        run.write_arrays(names, "song_names", rows_name(part))
