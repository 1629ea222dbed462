"""Users and all that they played, part by part: as an update has it, where there is one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fusionrec import schemas
from fusionrec.ranking.protocols import SongLists
from pipelines.opened import updates
from pipelines.opened.ranked import Ranked
from pipelines.opened.users import songs_of_blend
from pipelines.runtime.workspace import Workspace, part_name

_PLAYS = ("plays", "other_plays")
_COLUMNS = ["user", "song", "plays"]


@dataclass(frozen=True)
class Part:
    """Some users.

    Attributes
    ----------
    ids
        A column `user_id`, n rows.
    own, other
        What each played of the catalogue, and of other songs, as :meth:`Ranked.users` takes them.
    codes
        Their numbers, (n,); -1 of who came with an update, of whom no model has learned.
    """

    ids: pa.Table
    own: SongLists
    other: SongLists
    codes: NDArray[np.int64]


def count(workspace: Workspace) -> int:
    """All users."""
    return int(workspace.require("ingest")["counts"]["users"]) + len(_added(workspace))


def parts(ranked: Ranked) -> Iterator[Part]:
    """All users in the order of their numbers, those that an update has added behind."""
    workspace, start = ranked.workspace, 0
    for name in workspace.parts("ingest", "users"):
        ids = workspace.read_part("ingest", "users", name, ["user_id"])
        codes = np.arange(start, start + ids.num_rows)
        start += ids.num_rows
        tables = [workspace.read_part("ingest", each, name, _COLUMNS) for each in _PLAYS]
        yield Part(ids, *_lists(ranked, tables, codes), codes)
    added, none = _added(workspace), schemas.PLAYS.empty_table()
    for codes in _by_shard(workspace, start, added.num_rows):
        ids = added.slice(codes[0] - start, len(codes))
        yield Part(ids, *_lists(ranked, [none, none], codes), np.full(len(codes), -1))


def _added(workspace: Workspace) -> pa.Table:
    """Ids of new users; none without an update, and of one that had songs alone."""
    if not updates.has(workspace) or not workspace.parts(updates.STAGE, "users_added"):
        return schemas.USERS.empty_table()
    return workspace.read(updates.STAGE, "users_added", ["user_id"])


def _by_shard(workspace: Workspace, start: int, number: int) -> list[NDArray[np.int64]]:
    """So many users from `start` on, by the parts of the update that they are in."""
    codes = np.arange(start, start + number)
    shard = codes // _width(workspace) if number else codes
    return np.split(codes, np.flatnonzero(np.diff(shard)) + 1) if number else []


def _width(workspace: Workspace) -> int:
    """Users of a part of the update's."""
    return int(workspace.require("lists")["content"]["settings"]["lists"]["users_per_shard"])


def _lists(
    ranked: Ranked, tables: list[pa.Table], codes: NDArray[np.int64]
) -> tuple[SongLists, SongLists]:
    """What users, whose numbers ascend by 1, played of the catalogue, and of other songs.

    Parameters
    ----------
    tables
        Their plays of both by the ingest. All plays of who has new ones are in the update.
    """
    if not updates.has(ranked.workspace):
        own, other = (_of_plays([table], codes) for table in tables)
        return own, other
    now = _updated(ranked.workspace, codes)
    again = np.concatenate([table["user"].to_numpy() for table in now])
    kept = [t.filter(pa.array(~np.isin(t["user"].to_numpy(), again))) for t in tables]
    counts = ranked.workspace.require("ingest")["counts"]
    # Other songs have numbers of the catalogue, behind its own; new songs are behind those.
    new = _moved(now[0], counts["songs"], counts["other_songs"])
    others = [_moved(_learned(ranked, table), 0, counts["songs"]) for table in (kept[1], now[1])]
    return _of_plays([kept[0], new, *others], codes), _of_plays([], codes)


def _updated(workspace: Workspace, codes: NDArray[np.int64]) -> tuple[pa.Table, pa.Table]:
    """What is in the update of these users."""
    width, found = _width(workspace), []
    for name in ("plays_of_users", "other_plays_of_users"):
        tables = [schemas.PLAYS.empty_table()]
        if len(codes):
            for part in range(codes[0] // width, codes[-1] // width + 1):
                table = workspace.read_part(updates.STAGE, name, part_name(part), _COLUMNS)
                user = table["user"].to_numpy()
                tables.append(table.filter(pa.array((user >= codes[0]) & (user <= codes[-1]))))
        found.append(pa.concat_tables(tables))
    return found[0], found[1]


def _learned(ranked: Ranked, other: pa.Table) -> pa.Table:
    """Plays of the other songs that the model has learned of: a blend alone has."""
    number = 0
    if ranked.model == "blend":
        number = sum(songs_of_blend(ranked.workspace))
        number -= ranked.workspace.require("ingest")["counts"]["songs"]
    return other.filter(pa.array(other["song"].to_numpy() < number))


def _moved(table: pa.Table, first: int, by: int) -> pa.Table:
    """Plays whose songs of numbers from `first` on are numbered so much further."""
    song = table["song"].to_numpy()
    moved = np.where(song >= first, song + by, song).astype(np.int32)
    return table.set_column(table.column_names.index("song"), "song", pa.array(moved))


def _of_plays(tables: list[pa.Table], codes: NDArray[np.int64]) -> SongLists:
    table = pa.concat_tables([schemas.PLAYS.empty_table().select(_COLUMNS), *tables])
    user, song, plays = (table[name].to_numpy() for name in _COLUMNS)
    first = codes[:1].astype(np.int32).sum(dtype=np.int32)
    return SongLists.of_plays(user - first, song, plays, len(codes))
