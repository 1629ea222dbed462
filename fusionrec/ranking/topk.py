"""Exact ranking of all candidates for every user, blocked by users (paper 3.4).

Scores are summed over the dimensions one at a time, with elementwise float32 operations and
no matrix product: a matrix library may sum in another order for another block size or
thread count, and a last-bit difference is enough to swap two songs. Here a score depends
on its user and its song alone, and the lists on nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusionrec.errors import DataError
from fusionrec.ranking.protocols import SongLists

_BYTES_PER_SCORE = 13
"""A score, a product, the partitioned copy (4 bytes each) and a mask (1)."""


@dataclass(frozen=True)
class RankedLists:
    """What :func:`rank_users` found; U users, N songs, lists of K.

    Attributes
    ----------
    indices
        Shape (U, K), int32: columns of the best songs, best first; -1 beyond the user's last.
    scores
        Shape (U, K), float32: their scores; NaN beyond the user's last.
    counts
        Shape (U,), int32: songs in the user's list, the smaller of K and `candidates`.
    candidates
        Shape (U,), int32: songs ranked for the user, N less the excluded ones.
    rank_indptr
        Shape (U + 1,), int64: where each user's `ranks` begin and end.
    ranks
        int32: the ranks, from 1 and ascending, of the user's relevant songs among all of the
        user's candidates, not just among the K.
    """

    indices: NDArray[np.int32]
    scores: NDArray[np.float32]
    counts: NDArray[np.int32]
    candidates: NDArray[np.int32]
    rank_indptr: NDArray[np.int64]
    ranks: NDArray[np.int32]


def rank_users(
    V: NDArray[np.floating[Any]],
    F: NDArray[np.floating[Any]],
    k: int,
    *,
    exclude: SongLists | None = None,
    relevant: SongLists | None = None,
    byte_budget: int = 4 * 2**20,
) -> RankedLists:
    """Rank all songs for every user by score(u, s) = v_u . F(s), ties by ascending column.

    Parameters
    ----------
    V
        User vectors, shape (U, d), d at least 1; used as float32.
    F
        Song vectors, shape (N, d); used as float32.
    k
        Length of the lists, at least 1; may exceed N.
    exclude
        Columns that are no candidates for the user, such as the songs of the profile.
    relevant
        Columns whose ranks are wanted, each once a user.
    byte_budget
        Working memory for the scores of a block of users (one user at least). It has no
        influence on the result.

    Returns
    -------
    RankedLists
        For a user all of whose songs are excluded: an empty list and 0 candidates.

    Raises
    ------
    DataError
        A score is NaN or infinite.
    ValueError
        Shapes or columns do not fit, or a user's relevant song is also excluded.
    """
    if V.ndim != 2 or F.ndim != 2 or V.shape[1] != F.shape[1] or F.shape[1] < 1:
        raise ValueError(f"V of shape {V.shape} and F of shape {F.shape} do not fit together")
    if k < 1:
        raise ValueError(f"k is {k}: ask for one song or more")
    users, songs = len(V), len(F)
    exclude = _checked("exclude", exclude, users, songs)
    relevant = _checked("relevant", relevant, users, songs)

    lists = RankedLists(
        indices=np.full((users, k), -1, dtype=np.int32),
        scores=np.full((users, k), np.nan, dtype=np.float32),
        counts=np.zeros(users, dtype=np.int32),
        candidates=np.zeros(users, dtype=np.int32),
        rank_indptr=relevant.indptr,
        ranks=np.empty(len(relevant.songs), dtype=np.int32),
    )
    if not songs:
        return lists
    V_columns = np.ascontiguousarray(V.T, dtype=np.float32)
    F_columns = np.ascontiguousarray(F.T, dtype=np.float32)
    block = max(1, byte_budget // (_BYTES_PER_SCORE * songs))
    for start in range(0, users, block):
        stop = min(start + block, users)
        scores = _scores(V_columns[:, start:stop], F_columns, first_user=start)
        excluded_users = np.repeat(
            np.arange(stop - start), np.diff(exclude.indptr[start : stop + 1])
        )
        excluded = exclude.songs[exclude.indptr[start] : exclude.indptr[stop]]
        scores[excluded_users, excluded] = -np.inf  # finite scores only: means excluded
        _fill(lists, relevant, scores, start, k)
    return lists


def _checked(name: str, given: SongLists | None, users: int, songs: int) -> SongLists:
    if given is None:
        nothing = np.empty(0, dtype=np.int64)
        return SongLists(np.zeros(users + 1, np.int64), nothing.astype(np.int32), nothing)
    if len(given.indptr) != users + 1:
        raise ValueError(f"{name} has {len(given.indptr) - 1} rows for {users} users")
    if len(given.songs) and (given.songs.min() < 0 or given.songs.max() >= songs):
        raise ValueError(f"{name} has columns outside 0..{songs - 1}")
    return given


def _scores(
    V_columns: NDArray[np.float32], F_columns: NDArray[np.float32], first_user: int
) -> NDArray[np.float32]:
    """Scores of a block, shape (users of the block, N)."""
    with np.errstate(over="ignore", invalid="ignore"):  # reported below, by user and song
        scores: NDArray[np.float32] = np.multiply(V_columns[0][:, None], F_columns[0][None, :])
        product = np.empty_like(scores)
        for v, f in zip(V_columns[1:], F_columns[1:], strict=True):
            np.multiply(v[:, None], f[None, :], out=product)
            scores += product
    finite = np.isfinite(scores)
    if not finite.all():
        user, song = np.argwhere(~finite)[0]
        raise DataError(
            f"ranking: the score of user row {first_user + user} and song column {song} is "
            f"{scores[user, song]}: look for NaN, infinite or huge values in their vectors"
        )
    return scores


def _fill(
    lists: RankedLists, relevant: SongLists, scores: NDArray[np.float32], start: int, k: int
) -> None:
    """Write the lists and ranks of the block of users that begins at `start`."""
    songs = scores.shape[1]
    threshold = np.full(len(scores), np.finfo(np.float32).min)  # below it is only -inf
    if k < songs:
        kth_best = np.partition(scores, songs - k, axis=1)[:, songs - k]
        np.maximum(threshold, kth_best, out=threshold)
    chosen = scores >= threshold[:, None]
    for row, user_scores in enumerate(scores):
        user = start + row
        lists.candidates[user] = np.count_nonzero(user_scores > -np.inf)
        # Columns come ascending and the sort is stable: that settles ties, also at place K.
        columns = np.flatnonzero(chosen[row])
        columns = columns[np.argsort(-user_scores[columns], kind="stable")[:k]]
        lists.counts[user] = len(columns)
        lists.indices[user, : len(columns)] = columns
        lists.scores[user, : len(columns)] = user_scores[columns]

        own = slice(relevant.indptr[user], relevant.indptr[user + 1])
        lists.ranks[own] = sorted(
            _rank(user_scores, column, user) for column in relevant.songs[own].tolist()
        )


def _rank(user_scores: NDArray[np.float32], column: int, user: int) -> int:
    score = user_scores[column]
    if score == -np.inf:
        raise ValueError(f"song column {column} is both relevant and excluded for user row {user}")
    better = int(np.count_nonzero(user_scores > score))
    equal_before = int(np.count_nonzero(user_scores[:column] == score))
    return 1 + better + equal_before
