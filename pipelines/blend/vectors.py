"""A blend in the workspace: the vectors of songs and users, and what explains their scores.

`songs`, which is ranked by, lies in parts aligned with those of the ingest's `songs`. What explains
a list is read for some songs and one user, in milliseconds: `features` of the songs of the
catalogue and `history` of all songs, those of the catalogue first, by number; `users` in small
groups of small parts. With `rotation`, users' vectors can be made of other plays than those of
`users`, and with `unseen` rows of `songs` and `history` of other songs
(:mod:`pipelines.opened.new_by_blend`). With `strangers` and `song_factors`, what is told in `users`
can be had of other users (:mod:`pipelines.opened.strangers`).
"""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fusionrec import schemas
from fusionrec.signals.blend import Blend
from fusionrec.signals.histories import Histories
from fusionrec.signals.unseen.stored import as_arrays
from fusionrec.tables import matrix, vectors
from pipelines.opened.new_by_blend import ARRAYS as UNSEEN
from pipelines.opened.new_by_blend import DESCRIPTION as UNSEEN_ABOUT
from pipelines.opened.strangers import write_strangers
from pipelines.runtime.rows import write_matrix
from pipelines.runtime.workspace import StageRun, Workspace, part_name, part_number

USERS_A_PART = 2_000
"""1 MB at 128 dimensions, and what no history gives."""

USERS_A_GROUP = 100
"""Users that are read for one of them."""

ROTATION = ("rotation", "arrays.safetensors")
"""`rotation`, float32 (D, d), which makes a vector that is ranked by of a user's in D dimensions;
and `nobody`, float32 (D,), a user without plays."""


def write_blend(run: StageRun, blend: Blend, histories: Histories, own: int) -> None:
    """Write all of a blend.

    Parameters
    ----------
    histories
        What its users' vectors are made of.
    own
        Songs of the catalogue, which come first.
    """
    _write_songs(run, blend.F)
    write_matrix(run, blend.features[:own], "features")
    write_matrix(run, blend.atoms, "history")
    run.write_arrays({"rotation": blend.rotation, "nobody": blend.nobody}, *ROTATION)
    _write_users(run, blend, histories)
    if blend.unseen is not None:
        about, arrays = as_arrays(blend.unseen)
        run.write_arrays(arrays, *UNSEEN)
        run.write_json(about, *UNSEEN_ABOUT)
    if blend.strangers is not None:
        write_strangers(run, blend.strangers)
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
        "users_a_part": USERS_A_PART,
    }
    run.write_json(description, "blend.json")


def _write_songs(run: StageRun, F: np.ndarray) -> None:
    schema = schemas.blend_songs(F.shape[1])
    start = 0
    for name in run.workspace.parts("ingest", "songs"):
        ids = run.workspace.read_part("ingest", "songs", name, ["song_id"])["song_id"]
        columns = [ids.combine_chunks(), vectors(F[start : start + len(ids)])]
        run.write(pa.Table.from_arrays(columns, schema=schema), "songs", part_number(name))
        start += len(ids)


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
        table = pa.Table.from_arrays(columns, schema=schema)
        run.write(table, "users", part, group=USERS_A_GROUP)


def read_users(
    workspace: Workspace, start: int, stop: int, stage: str = "blend", artifact: str = "users"
) -> np.ndarray:
    """V of the users from `start` to before `stop`, float32 (stop - start, d).

    Of a blend, or of what else has users by code in parts of :data:`USERS_A_PART`.
    """
    return matrix(_column(workspace, start, stop, stage, artifact, "vector"))


def read_told(workspace: Workspace, start: int, stop: int) -> np.ndarray:
    """What no history gives of these users of a blend, float32 (stop - start, E)."""
    lists = _column(workspace, start, stop, "blend", "users", "told").combine_chunks()
    told: np.ndarray = lists.flatten().to_numpy()
    return told.reshape(len(lists), -1)


def _column(
    workspace: Workspace, start: int, stop: int, stage: str, artifact: str, name: str
) -> pa.ChunkedArray:
    first, last = start // USERS_A_PART, (max(stop, start + 1) - 1) // USERS_A_PART
    table = pa.concat_tables(
        [
            workspace.read_part(stage, artifact, part_name(part), ["user", name])
            for part in range(first, last + 1)
        ]
    )
    asked = pc.and_(pc.greater_equal(table["user"], start), pc.less(table["user"], stop))
    return table.filter(asked)[name]
