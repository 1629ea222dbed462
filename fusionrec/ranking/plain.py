"""Ranking without compiled code: the same lists and ranks, to the last bit, by NumPy alone.

Hundreds of times slower than :mod:`fusionrec.ranking.kernel`, it is what that is probed against,
and what is left where it cannot be compiled.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusionrec.ranking.lists import RankedLists
from fusionrec.ranking.protocols import SongLists

Floats = NDArray[np.float32]


def rank_plainly(
    V: Floats,
    rows: Floats,
    exclude: SongLists,
    relevant: SongLists,
    relevant_vectors: Floats,
    relevant_rows: NDArray[np.integer[Any]],
    lists: RankedLists,
) -> None:
    """Fill `lists`, one user after the other.

    Parameters
    ----------
    V, rows
        Vectors of the users, shape (U, d), and of the songs, shape (N, d).
    relevant
        A column below 0 or beyond N is no candidate here: what is counted for it is the songs
        that come before it.
    relevant_vectors, relevant_rows
        Where each relevant song has its vector: `relevant_vectors[relevant_rows[i]]`.

    Raises
    ------
    ValueError
        A user's relevant song is also excluded.
    """
    songs, k = len(rows), lists.indices.shape[1]
    columns = np.ascontiguousarray(rows.T)
    for user, v in enumerate(V):
        out = exclude.songs[exclude.indptr[user] : exclude.indptr[user + 1]]
        own = slice(relevant.indptr[user], relevant.indptr[user + 1])
        wanted = relevant.songs[own]
        both = np.intersect1d(wanted, out)
        if len(both):
            raise ValueError(
                f"song column {both[0]} is both relevant and excluded for user row {user}"
            )
        scores = dot_products(v, columns)
        candidate = np.ones(songs, bool)
        candidate[out] = False
        # Stable: of equal scores, the smaller column comes first.
        order = np.argsort(-scores, kind="stable")
        order = order[candidate[order]]
        count = min(k, len(order))
        lists.candidates[user], lists.counts[user] = len(order), count
        lists.indices[user, :count], lists.indices[user, count:] = order[:count], -1
        lists.scores[user, :count], lists.scores[user, count:] = scores[order[:count]], np.nan
        vectors = np.ascontiguousarray(relevant_vectors[relevant_rows[own]].T)
        ahead = np.empty(len(wanted), np.int32)
        for i, (song, score) in enumerate(zip(wanted, dot_products(v, vectors), strict=True)):
            before = scores > score
            before[: max(0, song)] |= scores[: max(0, song)] == score
            ahead[i] = np.count_nonzero(before & candidate)
        best = np.argsort(ahead, kind="stable")
        lists.ranks[own] = 1 + ahead[best]
        lists.rank_songs[own] = wanted[best]


def dot_products(v: Floats, columns: Floats) -> Floats:
    """Scores of one user, v of shape (d,), with songs of shape (d, N), summed as compiled."""
    scores = np.zeros(columns.shape[1], np.float32)
    for weight, column in zip(v, columns, strict=True):
        scores = multiply_add(weight, column, scores)
    # An underflow may have left a minus zero, which must tie with zero.
    return scores + np.float32(0)


def multiply_add(a: Floats | np.float32, b: Floats, c: Floats) -> Floats:
    """a * b + c in float32, rounded once."""
    product = np.asarray(a, np.float64) * b.astype(np.float64)  # exact: 48 bits
    wide = c.astype(np.float64)
    total = product + wide
    part = total - product
    error = (product - (total - part)) + (wide - part)
    # Rounded to odd, the sum keeps in its last bit that something was cut off, and rounding
    # it again, to float32, is right (Boldo & Melquiond 2008).
    bits = total.view(np.int64)
    away = np.where((error > 0) == (total > 0), 1, -1)
    bits = bits + away * ((error != 0) & ((bits & 1) == 0))
    rounded: Floats = bits.view(np.float64).astype(np.float32)
    return rounded
