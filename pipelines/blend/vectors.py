"""A blend in the workspace: the vectors of songs and users, and what explains their scores.

`songs`, which is ranked by, and what explains it, `features` and `history`, lie in parts aligned
with those of the ingest's `songs`, `other_history` with those of its `other_songs`, in small groups
of rows; `users` in small parts: so that some songs and one user are read in milliseconds.
"""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fusionrec import schemas
from fusionrec.signals.blend import Blend
from fusionrec.signals.histories import Histories
from fusionrec.tables import matrix, vectors
from pipelines.runtime.workspace import StageRun, Workspace, part_name, part_number

USERS_A_PART = 2_000
"""1 MB at 128 dimensions, and what no history gives."""

SONGS_A_GROUP = 64
"""Songs that are read for one of them: 128 kB of features at 128 dimensions."""


def write_blend(run: StageRun, blend: Blend, histories: Histories, own: int) -> None:
    """Write all of a blend.

    Parameters
    ----------
    histories
        What its users' vectors are made of.
    own
        Songs of the catalogue, which come first.
    """
    parts = {
        name: _write_songs(run, rows, "songs", name, 0)
        for name, rows in (
            ("songs", blend.F),
            ("features", blend.features),
            ("history", blend.atoms),
        )
    }
    if len(blend.atoms) > own:
        parts["other_history"] = _write_songs(run, blend.atoms, "other_songs", "other_history", own)
    _write_users(run, blend, histories)
    description = {
        "names": list(blend.names),
        "weights": blend.weights.tolist(),
        # JSON knows no infinity.
        "deviations": [float(d) if np.isfinite(d) else None for d in blend.deviations],
        **blend.layout.as_json(),
        "modalities": blend.modalities,
        "settings": asdict(blend.settings),
        "l2": blend.l2,
        "kept": blend.kept,
        "own": own,
        "parts": parts,
        "users_a_part": USERS_A_PART,
    }
    run.write_json(description, "blend.json")


def _write_songs(
    run: StageRun, rows: np.ndarray, aligned_with: str, artifact: str, start: int
) -> list[int]:
    """Write vectors of songs from row `start` on, in parts like an ingest's; how many each has."""
    sizes = []
    schema = schemas.blend_songs(rows.shape[1])
    for name in run.workspace.parts("ingest", aligned_with):
        ids = run.workspace.read_part("ingest", aligned_with, name, ["song_id"])["song_id"]
        columns = [ids.combine_chunks(), vectors(rows[start : start + len(ids)])]
        table = pa.Table.from_arrays(columns, schema=schema)
        run.write(table, artifact, part_number(name), group=SONGS_A_GROUP)
        start += len(ids)
        sizes.append(len(ids))
    return sizes


def _write_users(run: StageRun, blend: Blend, histories: Histories) -> None:
    counts, V, told = histories.counts, blend.V, blend.told
    schema = schemas.blend_users(V.shape[1])
    for part, start in enumerate(range(0, max(len(V), 1), USERS_A_PART)):
        stop = min(start + USERS_A_PART, len(V))
        bounds = counts.indptr[start : stop + 1]
        cells = slice(bounds[0], bounds[-1])
        offsets = pa.array((bounds - bounds[0]).astype(np.int32))
        columns = [
            pa.array(np.arange(start, stop), pa.int32()),
            vectors(V[start:stop]),
            pa.array(list(told[start:stop]), schema.field("told").type),
            pa.ListArray.from_arrays(offsets, pa.array(counts.indices[cells].astype(np.int32))),
            pa.ListArray.from_arrays(offsets, pa.array(counts.data[cells].astype(np.float32))),
        ]
        run.write(pa.Table.from_arrays(columns, schema=schema), "users", part)


def read_users(
    workspace: Workspace, start: int, stop: int, stage: str = "blend", artifact: str = "users"
) -> np.ndarray:
    """V of the users from `start` to before `stop`, float32 (stop - start, d).

    Of a blend, or of what else has users by code in parts of :data:`USERS_A_PART`.
    """
    first, last = start // USERS_A_PART, (max(stop, start + 1) - 1) // USERS_A_PART
    table = pa.concat_tables(
        [
            workspace.read_part(stage, artifact, part_name(part), ["user", "vector"])
            for part in range(first, last + 1)
        ]
    )
    asked = pc.and_(pc.greater_equal(table["user"], start), pc.less(table["user"], stop))
    return matrix(table.filter(asked)["vector"])
