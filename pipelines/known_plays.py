"""The plays as a split divides them: the only door to them for what learns, and for what judges.

Under a split by song, artist or album the songs alone are divided: plays of training and validation
songs are known, and those of test songs are what lists are judged by. Under a split by time, so are
the plays. What is known of an old song are its plays before the cut; those at the cut or later are
in no training, no profile and no popularity, and no list is judged by them either. All plays of a
test song are at the cut or later. A play without a time may have been at any: it is left out, too.

The users' own lists (:mod:`pipelines.lists`) are made of all plays, since nobody is judged by them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fusionrec import schemas
from pipelines.ingest.by_user import parts_of, plays_of, plays_of_users, timed_plays, user_parts
from pipelines.runtime.workspace import Workspace

LEARNED_FROM = ("train", "validation")
"""Parts of songs whose plays may be learned from."""


@dataclass(frozen=True)
class Division:
    """How a split divides plays.

    Attributes
    ----------
    part
        Parts of the catalogue's songs, object (S,): test songs are to be judged by.
    cut
        Under a split by time: plays of test songs are at this moment or later, and those of all
        others are taken before it, seconds since 1970. None: plays are taken whenever they were.
    end
        Plays at this moment or later are not taken at all; None: there is none.
    """

    part: NDArray[np.object_]
    cut: int | None = None
    end: int | None = None

    @staticmethod
    def read(workspace: Workspace) -> Division:
        """Of the result of `split`."""
        part = workspace.read("split", "split", ["part"])["part"]
        return Division(part.to_numpy(zero_copy_only=False), cut_of(workspace))

    @staticmethod
    def of_validation(workspace: Workspace) -> Division:
        """The same with the validation songs as the test part, at the cut that they are new from.

        Test songs are in no part here, and no play is taken that the test part is judged by:
        whoever chooses by validation must not see them.
        """
        whole = Division.read(workspace)
        part = np.where(whole.part == "test", "", whole.part)
        part = np.where(whole.part == "validation", "test", part)
        if whole.cut is None:
            return Division(part)
        cut = workspace.require("split")["counts"]["validation_cut"]
        return Division(part, whole.cut if cut is None else cut, end=whole.cut)

    def taken(self, songs: NDArray[np.int32], times: pa.ChunkedArray) -> NDArray[np.bool_]:
        """Which plays of the catalogue's songs are taken, by their times (null: none)."""
        return self._within(times, self._test[songs])

    def before(self, times: pa.ChunkedArray) -> NDArray[np.bool_]:
        """Which plays of songs outside the catalogue are taken; none of these is a test song."""
        return self._within(times, np.zeros(len(times), np.bool_))

    @cached_property
    def _test(self) -> NDArray[np.bool_]:
        return np.asarray(self.part == "test", np.bool_)

    def _within(self, times: pa.ChunkedArray, test: NDArray[np.bool_]) -> NDArray[np.bool_]:
        assert self.cut is not None
        known = pc.is_valid(times).to_numpy()
        time = pc.fill_null(times, 0).to_numpy()
        if self.end is not None:
            known &= time < self.end
        taken: NDArray[np.bool_] = known & ((time < self.cut) != test)
        return taken


def cut_of(workspace: Workspace) -> int | None:
    """The moment from which on nothing is known; None if the split is not by time."""
    cut: int | None = workspace.require("split")["counts"].get("cut")
    return cut


def divided_plays(
    workspace: Workspace, division: Division, start: int = 0, stop: int | None = None
) -> pa.Table:
    """The plays that are learned from or judged by, of users from `start` to before `stop`.

    Parameters
    ----------
    stop
        None for all users.

    Returns
    -------
    Schema :data:`fusionrec.schemas.PLAYS`, by user and song, each pair once. Which are which says
    :attr:`Division.part`: those of test songs are judged by.
    """
    if division.cut is not None:
        return _timed(workspace, division, "plays", start, stop)
    if stop is None:
        return _once(workspace.read("ingest", "plays"))
    return _once(plays_of(workspace, start, stop))


def known_plays(
    workspace: Workspace, division: Division, start: int = 0, stop: int | None = None
) -> pa.Table:
    """Those of them that may be learned from: of training and validation songs."""
    plays = divided_plays(workspace, division, start, stop)
    known = np.isin(division.part, LEARNED_FROM)
    return plays.filter(pa.array(known[plays["song"].to_numpy()]))


def known_other_plays(workspace: Workspace, division: Division) -> pa.Table:
    """Plays of songs outside the catalogue that may be learned from."""
    if division.cut is not None:
        return _timed(workspace, division, "other_plays", 0, None)
    return _once(workspace.read("ingest", "other_plays"))


def divided_plays_of_users(workspace: Workspace, division: Division, users: np.ndarray) -> pa.Table:
    """As :func:`divided_plays`, of some users, whose codes ascend."""
    if division.cut is None:
        return _once(plays_of_users(workspace, users))
    found, wanted = [schemas.PLAYS.empty_table()], pa.array(users, pa.int32())
    for name in user_parts(users):
        table = _timed_part(workspace, division, "plays", name)
        found.append(table.filter(pc.is_in(table["user"], value_set=wanted)))
    return pa.concat_tables(found)


def _timed(
    workspace: Workspace, division: Division, artifact: str, start: int, stop: int | None
) -> pa.Table:
    """A part after the other, so that no more than one is held with what is not taken."""
    names = workspace.parts("ingest", artifact) if stop is None else parts_of(start, stop)
    found = [schemas.PLAYS.empty_table()]
    for name in names:
        table = _timed_part(workspace, division, artifact, name)
        if stop is not None:
            first, last = np.searchsorted(table["user"].to_numpy(), [start, stop]).tolist()
            table = table.slice(first, last - first)
        found.append(table)
    return pa.concat_tables(found)


def _timed_part(workspace: Workspace, division: Division, artifact: str, name: str) -> pa.Table:
    table = timed_plays(workspace, artifact, name)
    (time,) = schemas.PLAY_TIMES.names
    if artifact == "plays":
        taken = division.taken(table["song"].to_numpy(), table[time])
    else:
        taken = division.before(table[time])
    return _once(table.select(schemas.PLAYS.names).filter(pa.array(taken)))


_MOST_PLAYS = np.iinfo(np.int32).max


def _once(plays: pa.Table) -> pa.Table:
    """Plays by user and song with the rows of a pair, which stand together, added up.

    A source may have a row each time that a song was played, and what is learned from them takes
    the logarithm of their number.
    """
    user, song, counts = (plays[name].to_numpy() for name in schemas.PLAYS.names)
    first = np.ones(len(plays), np.bool_)
    first[1:] = (user[1:] != user[:-1]) | (song[1:] != song[:-1])
    if first.all():
        return plays
    summed = np.add.reduceat(counts.astype(np.int64), np.flatnonzero(first))
    summed = np.minimum(summed, _MOST_PLAYS).astype(np.int32)
    arrays = [user[first], song[first], summed]
    return pa.table(dict(zip(schemas.PLAYS.names, arrays, strict=True)), schema=schemas.PLAYS)
