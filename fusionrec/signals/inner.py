"""Simulated cold start: the songs that may be learned from, cut by the outer split's own rule."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fusionrec.errors import DataError
from fusionrec.ranking.split import By, assign
from fusionrec.signals.histories import Histories
from fusionrec.signals.signal import Fold
from fusionrec.signals.songs import Songs

FOLDS = 4


@dataclass(frozen=True)
class Inner:
    """An inner fold.

    Attributes
    ----------
    fold
        What signals are fitted to: without plays of its cold songs, and of the outer split's.
    cold
        Rows of the catalogue's songs that are cold in it alone, ascending: its candidates.
    relevant
        What users played of them; the plays that signals do not see.
    """

    fold: Fold
    cold: NDArray[np.int64]
    relevant: Histories


def kept_with(songs: Songs, cold: NDArray[np.bool_], by: By) -> NDArray[np.bool_]:
    """The songs of a mask and all others that the split keeps with them, shape (n,).

    By artist those of the same artists, by album those of the same albums, in the catalogue or
    not. Of a song of an unknown artist (album) nobody knows whether it belongs to them: outside
    the catalogue, such songs are hidden, too.
    """
    if by == "song":
        return cold.copy()
    groups = songs.artists if by == "artist" else songs.albums
    with_them = np.isin(groups, groups[cold & (groups >= 0)])
    unknown = groups < 0
    unknown[: songs.own] = False
    return cold | with_them | unknown


def _groups_of(songs: Songs, rows: NDArray[np.int64], by: By) -> int:
    """How many songs, artists or albums some songs are of; one of an unknown group is its own."""
    if by == "song":
        return len(rows)
    groups = (songs.artists if by == "artist" else songs.albums)[rows]
    return len(np.unique(groups[groups >= 0])) + int((groups < 0).sum())


def inner_folds(outer: Fold) -> list[Inner]:
    """The catalogue's songs that are not hidden as :data:`FOLDS` folds, each cold in one.

    Raises
    ------
    DataError
        There are too few songs, artists or albums to cut, or one has nearly all songs.
    """
    songs, hidden, by = outer.songs, outer.hidden, outer.by
    rows = np.flatnonzero(~hidden[: songs.own])
    groups = _groups_of(songs, rows, by)
    if groups < FOLDS:
        raise DataError(
            f"blend: the simulated cold start needs at least {FOLDS} {by}s outside the test part, "
            f"there are {groups}: use more songs"
        )
    ids, artists, releases = (
        [texts[row] for row in rows]
        for texts in (songs.texts(name) for name in ("song_id", "artist_id", "release"))
    )
    found = []
    for number in range(FOLDS):
        # For another purpose than any outer split's: by its order, or by that of another cut of
        # the songs, inner folds would be of one outer fold each.
        try:
            part, _ = assign(
                ids,
                artists,
                releases,
                by=by,
                folds=FOLDS,
                test_fold=number,
                validation=0.0,
                seed=outer.seed,
                purpose="simulated cold start",
            )
        except DataError as error:
            raise DataError(
                f"blend: the simulated cold start cuts the {groups} {by}s outside the test part "
                f"into {FOLDS} folds of about as many songs, but one {by} has too many of the "
                f"{len(rows)} songs: use more songs of others, or split.by song"
            ) from error
        cold = np.zeros(len(songs), bool)
        cold[rows[part == "test"]] = True
        fold = replace(outer, hidden=hidden | kept_with(songs, cold, by), memo=outer.memo.empty())
        found.append(Inner(fold, np.flatnonzero(cold), outer.histories.without(~cold)))
    return found
