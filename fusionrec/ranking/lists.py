"""Users' ranked songs, as every way of ranking fills them in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fusionrec.ranking.protocols import SongLists


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
    rank_songs
        int32: the columns of the relevant songs that have these ranks.
    """

    indices: NDArray[np.int32]
    scores: NDArray[np.float32]
    counts: NDArray[np.int32]
    candidates: NDArray[np.int32]
    rank_indptr: NDArray[np.int64]
    ranks: NDArray[np.int32]
    rank_songs: NDArray[np.int32]


def empty_lists(users: int, k: int, relevant: SongLists) -> RankedLists:
    return RankedLists(
        indices=np.empty((users, k), dtype=np.int32),
        scores=np.empty((users, k), dtype=np.float32),
        counts=np.zeros(users, dtype=np.int32),
        candidates=np.zeros(users, dtype=np.int32),
        rank_indptr=relevant.indptr,
        ranks=np.empty(len(relevant.songs), dtype=np.int32),
        rank_songs=np.empty(len(relevant.songs), dtype=np.int32),
    )


def listed_columns(
    indices: np.ndarray,
    scores: np.ndarray,
    counts: np.ndarray,
    candidates: np.ndarray,
    song_ids: pa.Array,
) -> tuple[pa.Array, pa.Array]:
    """Lists as columns: ids of the songs, and their scores.

    Parameters
    ----------
    indices, scores, counts
        As in :class:`fusionrec.ranking.lists.RankedLists`.
    candidates
        Song code of each column.
    song_ids
        By song code.
    """
    listed = indices >= 0
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    songs = song_ids.take(pa.array(candidates[indices[listed]]))
    return (
        pa.ListArray.from_arrays(offsets, songs),
        pa.ListArray.from_arrays(offsets, pa.array(scores[listed])),
    )
