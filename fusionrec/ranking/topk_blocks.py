"""Exact ranking of song vectors that do not fit in memory at once: block by block, merged."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusionrec.ranking.lists import RankedLists, empty_lists
from fusionrec.ranking.on_cpu import GROUP, rank_on_cpu
from fusionrec.ranking.packing import PackedSongs, check_finite, check_range
from fusionrec.ranking.protocols import SongLists


def rank_in_blocks(
    V: NDArray[np.floating[Any]],
    blocks: Iterable[NDArray[np.floating[Any]] | PackedSongs],
    k: int,
    *,
    exclude: SongLists,
    relevant: SongLists,
    relevant_vectors: NDArray[np.floating[Any]],
    group: int = GROUP,
) -> RankedLists:
    """Rank song vectors that come block by block and are forgotten.

    Each block's lists are merged with those so far, and the songs ahead of each relevant song
    are summed, so the result is that of :func:`fusionrec.ranking.topk.rank_users` with all
    blocks side by side, to the last bit.

    Parameters
    ----------
    blocks
        Consecutive columns' vectors, each of shape (songs of the block, d); some may be empty.
    exclude, relevant
        As in `rank_users`, in columns of all blocks together.
    relevant_vectors
        Shape (distinct relevant columns, d): their vectors, by ascending column.

    Raises
    ------
    DataError, ValueError
        As `rank_users` does.
    """
    users = len(V)
    if not users:
        return empty_lists(0, k, relevant)
    vectors = np.ascontiguousarray(V, dtype=np.float32)
    check_finite(vectors, "user row")
    own = np.ascontiguousarray(relevant_vectors, dtype=np.float32)
    distinct, rows = np.unique(relevant.songs, return_inverse=True)
    if len(distinct) != len(own):
        raise ValueError(f"{len(own)} vectors of {len(distinct)} relevant songs")
    user = np.repeat(np.arange(users), np.diff(relevant.indptr))
    indices = np.full((users, k), -1, np.int32)
    scores = np.full((users, k), np.nan, np.float32)
    candidates, ahead = np.zeros(users, np.int32), np.zeros(len(relevant.songs), np.int64)
    start = 0
    for block in blocks:
        packed = block if isinstance(block, PackedSongs) else PackedSongs.of(block)
        songs = len(packed.rows)
        if not songs:
            continue
        check_range(vectors, packed)
        here = (exclude.songs >= start) & (exclude.songs < start + songs)
        bounds = np.concatenate([[0], np.cumsum(here)])[exclude.indptr]
        excluded = SongLists(bounds, exclude.songs[here] - start, exclude.plays[here])
        shifted = SongLists(relevant.indptr, relevant.songs - start, relevant.plays)
        found = empty_lists(users, k, shifted)
        rank_on_cpu(vectors, packed, excluded, shifted, own, rows, found, group)
        # By user and song, as `relevant` is.
        ahead += found.ranks[np.lexsort((found.rank_songs, user))] - 1
        candidates += found.candidates
        both = np.hstack([scores, found.scores])
        columns = np.hstack([indices, np.where(found.indices < 0, -1, found.indices + start)])
        # Stable: of equal scores, those of earlier blocks come first; NaN comes last.
        best = np.argsort(-both, axis=1, kind="stable")[:, :k]
        scores = np.take_along_axis(both, best, axis=1)
        indices = np.take_along_axis(columns, best, axis=1)
        start += songs
    if len(distinct) and (distinct[0] < 0 or distinct[-1] >= start):
        raise ValueError(f"relevant has columns outside 0..{start - 1}")
    order = np.lexsort((ahead, user))
    return RankedLists(
        indices=indices,
        scores=scores,
        counts=np.minimum(candidates, k).astype(np.int32),
        candidates=candidates,
        rank_indptr=relevant.indptr,
        ranks=(ahead[order] + 1).astype(np.int32),
        rank_songs=relevant.songs[order],
    )
