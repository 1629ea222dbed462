"""Songs, users and lists of a finished workspace, a few of them: no more is read for a million."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from fusionrec.ranking.protocols import SongLists
from pipelines.opened import updates
from pipelines.runtime.rows import NAMES_A_PART, find, read_texts, rows_name
from pipelines.runtime.workspace import Workspace, part_name


@dataclass(frozen=True)
class Named:
    """What a song is called."""

    artist: str
    title: str
    release: str

    @staticmethod
    def of(song_id: str, artist: str, title: str, release: str) -> Named:
        """From what is known of a song; "" where nothing is."""
        return Named(artist or "(no artist)", title or f"({song_id})", release)


@dataclass(frozen=True)
class Catalogue:
    """All songs, by number: rows of the ingest's `songs`, then those of its `other_songs`.

    Then those that an update has added (:mod:`pipelines.opened.updates`).
    """

    workspace: Workspace

    def rows(self, ids: Sequence[str]) -> np.ndarray:
        """Numbers of songs, int64 (ids,); -1 of one that is not there."""
        found = find(self.workspace, "ingest", "song_index", ids)
        return updates.numbers_of(self.workspace, ids, found)

    def ids(self, rows: np.ndarray) -> list[str]:
        """Ids of songs by number."""
        return [row[0] for row in self._texts(rows)]

    def names(self, ids: Sequence[str]) -> dict[str, Named]:
        """What songs are called, by id."""
        return {row[0]: Named.of(*row) for row in self._texts(self.rows(ids))}

    def _texts(self, rows: np.ndarray) -> list[tuple[str, ...]]:
        """The columns :data:`fusionrec.schemas.SONG_NAMES` of songs by number."""
        found: dict[int, tuple[str, ...]] = {}
        new = np.zeros(len(rows), bool)
        if updates.has(self.workspace):
            new = rows >= updates.first(self.workspace)
            texts = updates.texts_of(self.workspace, rows[new])
            found = dict(zip(rows[new].tolist(), texts, strict=True))
        parts = np.where(new, -1, rows // NAMES_A_PART)
        for part in np.unique(parts[~new]).tolist():
            here = rows[parts == part]
            with self.workspace.reading_rows("ingest", "song_names", rows_name(part)) as file:
                texts = read_texts(file, here - part * NAMES_A_PART)
            found |= dict(zip(here.tolist(), texts, strict=True))
        return [found[row] for row in rows.tolist()]


def user_code(workspace: Workspace, user: str) -> int:
    """Number of a user, a row of the ingest's `users`; -1 if there is none of this id."""
    found = int(find(workspace, "ingest", "user_index", [user])[0])
    return updates.user_code(workspace, user, found)


LISTS = {"recommend": "recommendations", "lists": "lists"}
"""The artifact of lists of either stage."""


def list_of(
    workspace: Workspace, code: int, columns: Sequence[str], stage: str = "recommend"
) -> pa.Table:
    """A user's row of the lists of a stage; no row for who has no list."""
    if stage == "lists" and updates.has(workspace):
        part = updates.part_of(workspace, code)
        return workspace.read_user(updates.STAGE, LISTS[stage], part, code, columns)
    settings = workspace.require(stage)["content"]["settings"][stage]
    part = part_name(code // settings["users_per_shard"])
    return workspace.read_user(stage, LISTS[stage], part, code, columns)


def why_left_out(workspace: Workspace, code: int) -> str | None:
    """Why a user has no list in the evaluation, of which it is known that there is none.

    None of a result of before version 4 of the stage, which does not say it.
    """
    settings = workspace.require("recommend")["content"]["settings"]["recommend"]
    part = part_name(code // settings["users_per_shard"])
    if not workspace.exists("recommend", "left_out", part):
        return None
    found = workspace.read_user("recommend", "left_out", part, code, ["reason"])
    return str(found["reason"][0])


def played_by(
    workspace: Workspace, code: int, artifact: str = "plays"
) -> tuple[np.ndarray, np.ndarray]:
    """Songs that a user played, as rows of `songs`, ascending, and how often.

    Of songs outside the catalogue, if the artifact is `other_plays`.
    """
    table = updates.played_by(workspace, code, artifact)
    if table is None:
        part = part_name(code // workspace.read_json("lists", "about.json")["users_a_part"])
        table = workspace.read_user("ingest", artifact, part, code, ["song", "plays"])
    song, plays = (table[name].to_numpy() for name in ("song", "plays"))
    found = SongLists.of_plays(np.zeros(len(song), np.int32), song, plays, 1)
    return found.songs, found.plays
