"""Songs, users and plays that an update has added to a workspace, for whatever is opened of it.

A workspace that is read with the result of an update (:func:`with_update`) has them: new songs are
numbered behind all songs of the run, those that are known by their plays alone among them, new
users behind its users. Nothing of an update is shown once the lists that it stands on are not the
current ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fusionrec import schemas
from fusionrec.tables import matrix
from pipelines.runtime.rows import (
    NAMES_A_PART,
    find,
    read_arrays,
    read_matrix,
    read_texts,
    rows_name,
)
from pipelines.runtime.workspace import Workspace, part_name, part_number

STAGE = "update"
_PLAYED = {"plays": "plays_of_users", "other_plays": "other_plays_of_users"}

Floats = NDArray[np.float32]


def has(workspace: Workspace) -> bool:
    """Whether a workspace is read with an update."""
    return STAGE in workspace.keys


def with_update(workspace: Workspace) -> Workspace | None:
    """The workspace with its update and all that this was made from; None if none is to be shown.

    Parameters
    ----------
    workspace
        As it is now, without the results that are to be read.
    """
    manifest = workspace.manifest(STAGE)
    if manifest is None or not manifest["lineage"].items() <= workspace.current().items():
        return None
    return workspace.of(STAGE)


def beside(workspace: Workspace, seen: Workspace, learned: str) -> Workspace:
    """What is `seen` of a workspace, with its update if that is by the same model.

    Parameters
    ----------
    learned
        The stage whose result the model is: `train` or `blend`.
    """
    found = with_update(workspace)
    if found is None or found.keys.get(learned) != seen.keys.get(learned):
        return seen
    return seen.at(found.keys)


# --- songs -----------------------------------------------------------------------------------


def first(workspace: Workspace) -> int:
    """The number of the first new song."""
    counts = workspace.require("ingest")["counts"]
    return int(counts["songs"]) + int(counts["other_songs"])


def numbers_of(
    workspace: Workspace, ids: Sequence[str], found: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Numbers of songs by id, given those that the run has; -1 of who is in neither."""
    if not has(workspace):
        return found
    new = find(workspace, STAGE, "song_index", ids)
    return np.where(new >= 0, new + first(workspace), found)


def texts_of(workspace: Workspace, numbers: NDArray[np.int64]) -> list[tuple[str, ...]]:
    """The columns :data:`fusionrec.schemas.SONG_NAMES` of new songs, by number."""
    rows = numbers - first(workspace)
    found: dict[int, tuple[str, ...]] = {}
    parts = rows // NAMES_A_PART
    for part in np.unique(parts).tolist():
        here = rows[parts == part]
        with workspace.reading_rows(STAGE, "song_names", rows_name(part)) as file:
            texts = read_texts(file, here - part * NAMES_A_PART)
        found |= dict(zip(here.tolist(), texts, strict=True))
    return [found[row] for row in rows.tolist()]


def songs_added(workspace: Workspace, columns: Sequence[str]) -> pa.Table:
    """Columns of new songs, in the order of their numbers; no row without an update."""
    if not has(workspace):
        return schemas.SONGS.empty_table().select(list(columns))
    return workspace.read(STAGE, "songs_added", list(columns))


@dataclass(frozen=True)
class Added:
    """New songs' `ids`, n of them, their `F`, float32 (n, d), and which have one, bool (n,)."""

    ids: pa.Array
    F: Floats
    present: NDArray[np.bool_]

    @staticmethod
    def read(workspace: Workspace) -> Added:
        """Of an update."""
        table = workspace.read(STAGE, "song_vectors", ["song_id", "vector", "present"])
        present = table["present"].to_numpy(zero_copy_only=False)
        return Added(table["song_id"].combine_chunks(), matrix(table["vector"]), present)


def appended(workspace: Workspace, ids: pa.Array, F: Floats) -> tuple[pa.Array, Floats]:
    """Ids and vectors of songs, with those of new ones that have a vector behind."""
    if not has(workspace):
        return ids, F
    new = Added.read(workspace)
    some = new.ids.filter(pa.array(new.present))
    return pa.concat_arrays([ids, some]), np.concatenate([F, new.F[new.present]])


def rows_of(
    workspace: Workspace, stage: str, artifact: str, numbers: NDArray[np.integer]
) -> Floats:
    """Rows of a matrix of the run's songs by number; of new ones what they are ranked by."""
    new = _added(workspace, numbers)
    if not new.any():
        return read_matrix(workspace, stage, artifact, numbers)
    added = Added.read(workspace).F[numbers[new] - first(workspace)]
    return _joined(new, read_matrix(workspace, stage, artifact, numbers[~new]), added)


def blend_rows(workspace: Workspace, artifact: str, numbers: NDArray[np.integer]) -> Floats:
    """Rows of a blend's `features` or `history` by the songs' numbers, float32 (numbers, D)."""
    new = _added(workspace, numbers)
    if not new.any():
        return read_matrix(workspace, "blend", artifact, numbers)
    rows, start, found = numbers[new] - first(workspace), 0, []
    for name in _parts(workspace):
        with workspace.reading_rows(STAGE, artifact, name) as file:
            stop = start + file.rows("rows")
            here = np.flatnonzero((rows >= start) & (rows < stop))
            if len(here):
                found.append((here, file.take("rows", rows[here] - start)))
        start = stop
    places, of_parts = zip(*found, strict=True)
    added = np.concatenate(of_parts)[np.argsort(np.concatenate(places))]
    return _joined(new, read_matrix(workspace, "blend", artifact, numbers[~new]), added)


def blend_added(workspace: Workspace, artifact: str) -> Iterator[Floats]:
    """All rows of new songs, a part after the other."""
    for name in _parts(workspace):
        yield read_arrays(workspace, STAGE, artifact, name)["rows"]


def _parts(workspace: Workspace) -> list[str]:
    """The files of a blend's rows, which lie in the parts of the songs' vectors."""
    return [rows_name(part_number(name)) for name in workspace.parts(STAGE, "song_vectors")]


def _added(workspace: Workspace, numbers: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Which of some songs are new."""
    if not has(workspace):
        return np.zeros(len(numbers), bool)
    return np.asarray(numbers >= first(workspace))


def _joined(new: NDArray[np.bool_], old: Floats, added: Floats) -> Floats:
    found = np.empty((len(new), old.shape[1]), np.float32)
    found[~new], found[new] = old, added
    return found


def other_ids(workspace: Workspace) -> pa.Array:
    """Ids of the songs between those of the catalogue and new ones, known by plays alone."""
    return workspace.read("ingest", "other_songs", ["song_id"])["song_id"].combine_chunks()


def listeners(workspace: Workspace) -> NDArray[np.int64]:
    """Users who played each song now, by number; of songs known by plays alone not counted: 0."""
    start, counts = first(workspace), workspace.require("ingest")["counts"]
    added = int(workspace.require(STAGE)["counts"]["new_songs"])
    found = np.zeros(start + added, np.int64)
    old = read_arrays(workspace, "lists", "listeners", "arrays.safetensors")["listeners"]
    found[: len(old)] = old
    for name in workspace.parts(STAGE, "new_listeners"):
        table = workspace.read_part(STAGE, "new_listeners", name)
        song = np.asarray(table["song"].to_numpy()).astype(np.int64)
        song[song >= counts["songs"]] += counts["other_songs"]
        np.add.at(found, song, table["listeners"].to_numpy())
    return found


# --- users -----------------------------------------------------------------------------------


def user_code(workspace: Workspace, user: str, found: int) -> int:
    """The number of a user, given that in the run; -1 of who is in neither."""
    if found >= 0 or not has(workspace):
        return found
    new = int(find(workspace, STAGE, "index_of_users_added", [user])[0])
    return new if new < 0 else new + int(workspace.require("ingest")["counts"]["users"])


def part_of(workspace: Workspace, code: int) -> str:
    """The part of the lists that has a user, and of all plays of users with new ones."""
    settings = workspace.require("lists")["content"]["settings"]["lists"]
    return part_name(code // settings["users_per_shard"])


def played_by(workspace: Workspace, code: int, artifact: str) -> pa.Table | None:
    """Columns `song` and `plays` of all that a user with new plays played; None of any other.

    Of a song that is in the catalogue now, if the artifact is `plays`; else `other_plays`.
    """
    if not has(workspace):
        return None
    name, columns = part_of(workspace, code), ["song", "plays"]
    tables = {
        each: workspace.read_user(STAGE, found, name, code, columns)
        for each, found in _PLAYED.items()
    }
    counts = workspace.require("ingest")["counts"]
    if code < counts["users"] and not any(table.num_rows for table in tables.values()):
        return None
    table = tables[artifact]
    if artifact == "plays":
        song = np.asarray(table["song"].to_numpy())
        moved = np.where(song >= counts["songs"], song + counts["other_songs"], song)
        table = table.set_column(0, "song", pa.array(moved, pa.int32()))
    return table
