"""Exact ranking of all candidates for every user, blocked by users (paper 3.4).

A score is summed over the dimensions one at a time, each step a fused multiply-add in float32:
it depends on its user and its song alone, not on the shapes that are computed at once, on the
processor or on its number of threads. A matrix library may sum in another order for another
shape, and a last-bit difference is enough to swap two songs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusionrec.ranking.lists import RankedLists, empty_lists
from fusionrec.ranking.on_cpu import GROUP, rank_on_cpu
from fusionrec.ranking.packing import PackedSongs, check_finite, check_range
from fusionrec.ranking.protocols import SongLists


def rank_users(
    V: NDArray[np.floating[Any]],
    F: NDArray[np.floating[Any]] | PackedSongs,
    k: int,
    *,
    exclude: SongLists | None = None,
    relevant: SongLists | None = None,
    device: str = "cpu",
    group: int = GROUP,
) -> RankedLists:
    """Rank all songs for every user by score(u, s) = v_u . F(s), ties by ascending column.

    Working memory is that of a group of users, some MB, and on a GPU that of a block of scores.

    Parameters
    ----------
    V
        User vectors, shape (U, d), d at least 1; used as float32.
    F
        Song vectors, shape (N, d); used as float32. Packed beforehand, they are not packed by
        every call.
    k
        Length of the lists, at least 1; may exceed N.
    exclude
        Columns that are no candidates for the user, such as the songs of the profile.
    relevant
        Columns whose ranks are wanted, each once a user.
    device
        `cpu`, or a GPU as PyTorch names it.
    group
        Users ranked at once. Neither it nor the device has an influence on the result.

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
    shape = F.rows.shape if isinstance(F, PackedSongs) else F.shape
    if V.ndim != 2 or len(shape) != 2 or V.shape[1] != shape[1] or shape[1] < 1:
        raise ValueError(f"V of shape {V.shape} and F of shape {shape} do not fit together")
    if k < 1:
        raise ValueError(f"k is {k}: ask for one song or more")
    users, songs = len(V), shape[0]
    exclude = _checked_lists("exclude", exclude, users, songs)
    relevant = _checked_lists("relevant", relevant, users, songs)

    lists = empty_lists(users, k, relevant)
    if not songs or not users:
        lists.indices.fill(-1)
        lists.scores.fill(np.nan)
        return lists
    packed = F if isinstance(F, PackedSongs) else PackedSongs.of(F)
    vectors = np.ascontiguousarray(V, dtype=np.float32)
    check_finite(vectors, "user row")
    check_range(vectors, packed)
    if device != "cpu":
        from fusionrec.ranking.on_device import rank_on_device

        rank_on_device(vectors, packed.rows, exclude, relevant, lists, device)
    else:
        rank_on_cpu(vectors, packed, exclude, relevant, packed.rows, relevant.songs, lists, group)
    return lists


def _checked_lists(name: str, given: SongLists | None, users: int, songs: int) -> SongLists:
    if given is None:
        nothing = np.empty(0, dtype=np.int64)
        return SongLists(np.zeros(users + 1, np.int64), nothing.astype(np.int32), nothing)
    if len(given.indptr) != users + 1:
        raise ValueError(f"{name} has {len(given.indptr) - 1} rows for {users} users")
    if len(given.songs) and (given.songs.min() < 0 or given.songs.max() >= songs):
        raise ValueError(f"{name} has columns outside 0..{songs - 1}")
    ascending = np.diff(given.songs) > 0
    starts = given.indptr[1:-1]
    ascending[starts[(starts > 0) & (starts < len(given.songs))] - 1] = True
    if not ascending.all():
        raise ValueError(f"{name} has columns that do not ascend within a user")
    return SongLists(
        np.ascontiguousarray(given.indptr, np.int64),
        np.ascontiguousarray(given.songs, np.int32),
        given.plays,
    )
