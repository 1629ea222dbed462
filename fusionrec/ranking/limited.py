"""Top lists with at most so many songs of a group, exactly: ranked as deep as that takes.

A user's list is what one gets who goes through all candidates from the best to the worst and
leaves out each song of whose group (artist) there are enough already. It is also, of all lists
under this limit, that of the largest sum of scores.

What stands in it down to some rank depends on no song behind that rank. So the list found among a
user's best songs is a beginning of the true one, and is all of it where nothing can follow: where
it is full, or has as many songs as the user's candidates allow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusionrec.ranking.lists import RankedLists
from fusionrec.ranking.protocols import SongLists

Rank = Callable[[NDArray[np.int64], int], RankedLists]
"""Ranks some users, by row, as deep as is said."""

_RANKED_AT_ONCE = 1 << 23
"""Songs in all lists that one call ranks: 64 MB. A user who needs all candidates is ranked in a
call of few."""

_LIMITED_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class TopLists:
    """Lists of K of U users, as of :class:`fusionrec.ranking.lists.RankedLists`.

    Attributes
    ----------
    indices
        Shape (U, K), int32: columns, best first; -1 beyond the user's last.
    scores
        Shape (U, K), float32; NaN beyond the user's last.
    counts
        Shape (U,), int32: songs in the user's list.
    """

    indices: NDArray[np.int32]
    scores: NDArray[np.float32]
    counts: NDArray[np.int32]

    @staticmethod
    def empty(users: int, k: int) -> TopLists:
        """Lists without songs."""
        return TopLists(
            np.full((users, k), -1, np.int32),
            np.full((users, k), np.nan, np.float32),
            np.zeros(users, np.int32),
        )

    @staticmethod
    def of(ranked: RankedLists) -> TopLists:
        """What was ranked, without a limit."""
        return TopLists(ranked.indices, ranked.scores, ranked.counts)

    def put(self, rows: NDArray[np.integer[Any]], lists: TopLists) -> None:
        """Set the lists of some users."""
        self.indices[rows], self.scores[rows] = lists.indices, lists.scores
        self.counts[rows] = lists.counts


def rank_limited(
    rank: Rank, exclude: SongLists, k: int, *, groups: NDArray[np.integer[Any]], most: int
) -> TopLists:
    """Lists of K with at most `most` songs of a group.

    All users are ranked twice as deep as K; those whose lists may go on, twice as deep again,
    until none are left. Where the limit leaves users fewer songs than K, as with fewer artists
    than that, it takes nearly all songs, and the time of several rankings.

    Parameters
    ----------
    rank
        Ranks users for whom the columns of `exclude` are no candidates, ties by ascending column.
    exclude
        Columns that are no candidates, a row for each user.
    groups
        Shape (N,): the group of each column, from 0.
    most
        At least 1.
    """
    songs, users = len(groups), len(exclude.indptr) - 1
    allowed = np.minimum(k, most_songs(exclude, groups, most))
    found = TopLists.empty(users, k)
    left, depth = np.flatnonzero(allowed > 0), min(2 * k, songs)
    while len(left):
        for some in _pieces(left, _RANKED_AT_ONCE // depth):
            ranked = rank(some, depth)
            for rows in _pieces(np.arange(len(some)), _LIMITED_AT_ONCE // depth):
                here = limited(ranked.indices[rows], ranked.scores[rows], k, groups, most)
                found.put(some[rows], here)
        left = left[found.counts[left] < allowed[left]]
        if depth == songs:
            break
        depth = min(2 * depth, songs)
    return found


def most_songs(
    exclude: SongLists, groups: NDArray[np.integer[Any]], most: int
) -> NDArray[np.int64]:
    """How many songs a list may have at all, int64 (U,): of each group so many, or what is left."""
    users, sizes = len(exclude.indptr) - 1, np.bincount(groups)
    user = np.repeat(np.arange(users), np.diff(exclude.indptr))
    cells, gone = np.unique(user * len(sizes) + groups[exclude.songs], return_counts=True)
    of_group = sizes[cells % max(len(sizes), 1)]
    less = np.minimum(of_group, most) - np.minimum(of_group - gone, most)
    lost = np.bincount(cells // max(len(sizes), 1), less, users)
    return np.asarray(np.minimum(sizes, most).sum() - lost, np.int64)


def _pieces(rows: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(rows), max(size, 1)):
        yield rows[start : start + max(size, 1)]


def limited(
    indices: NDArray[np.int32],
    scores: NDArray[np.float32],
    k: int,
    groups: NDArray[np.integer[Any]],
    most: int,
) -> TopLists:
    """The beginnings, of K, of lists that ranked songs give.

    Parameters
    ----------
    indices, scores
        Shape (U, depth): columns, best first, -1 beyond a user's last; and their scores.
    groups
        Shape (N,): the group of each column, from 0.
    """
    user, place = np.nonzero(indices >= 0)  # by user, best first
    group = user * (int(groups.max()) + 1) + groups[indices[user, place]]
    order = np.argsort(group, kind="stable")
    kept = np.empty(len(group), np.bool_)
    kept[order] = _places(group[order]) < most
    user, place = user[kept], place[kept]
    to = _places(user)
    listed = to < k
    user, place, to = user[listed], place[listed], to[listed]
    found = TopLists.empty(len(indices), k)
    found.indices[user, to] = indices[user, place]
    found.scores[user, to] = scores[user, place]
    found.counts[:] = np.bincount(user, minlength=len(indices))
    return found


def _places(of: NDArray[np.int64]) -> NDArray[np.int64]:
    """The place of each of some numbers among its likes, which lie side by side."""
    first = np.ones(len(of), np.bool_)
    first[1:] = of[1:] != of[:-1]
    starts = np.flatnonzero(first)
    return np.arange(len(of)) - np.repeat(starts, np.diff(np.append(starts, len(of))))
