"""Exact ranking of all candidates for every user, blocked by users (paper 3.4).

A score is summed over the dimensions one at a time, each step a fused multiply-add in float32:
it depends on its user and its song alone, not on the shapes that are computed at once, on the
processor or on its number of threads. A matrix library may sum in another order for another
shape, and a last-bit difference is enough to swap two songs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusionrec import probes
from fusionrec.errors import DataError
from fusionrec.ranking import kernel
from fusionrec.ranking.plain import rank_plainly
from fusionrec.ranking.protocols import SongLists
from fusionrec.ranking.vector_code import LANES, PANEL, USERS

GROUP = 128
"""Users whose vectors and scores share the second cache."""

_CACHE_BYTES = 256 << 10
"""Scores of a group at once."""

_MISSES = 3.1
"""Standard deviations by which the survivors expected exceed k: one user in 1,000 has too few."""


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


@dataclass(frozen=True)
class PackedSongs:
    """Song vectors as :func:`rank_users` reads them; made once, used for any number of users.

    Attributes
    ----------
    rows
        Shape (N, d), float32.
    panels
        The same numbers by panels of songs, (panels, d, songs of a panel), zeros beyond N.
    largest
        Shape (d,), float64: the largest absolute value of each dimension.
    """

    rows: NDArray[np.float32]
    panels: NDArray[np.float32]
    largest: NDArray[np.float64]

    @staticmethod
    def of(F: NDArray[np.floating[Any]]) -> PackedSongs:
        """Pack F of shape (N, d).

        Raises
        ------
        DataError
            A value is NaN or infinite.
        """
        rows = np.ascontiguousarray(F, dtype=np.float32)
        check_finite(rows, "song column")
        largest = np.abs(rows).max(axis=0, initial=0).astype(np.float64)
        return PackedSongs(rows, _panels(rows, PANEL), largest)


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
    exclude = _checked("exclude", exclude, users, songs)
    relevant = _checked("relevant", relevant, users, songs)

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
        from fusionrec.ranking.topk_torch import rank_on_device

        rank_on_device(vectors, packed.rows, exclude, relevant, lists, device)
    else:
        rank_on_cpu(vectors, packed, exclude, relevant, packed.rows, relevant.songs, lists, group)
    return lists


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


def rank_on_cpu(
    V: NDArray[np.float32],
    packed: PackedSongs,
    exclude: SongLists,
    relevant: SongLists,
    relevant_vectors: NDArray[np.float32],
    relevant_rows: NDArray[np.integer[Any]],
    lists: RankedLists,
    group: int,
) -> None:
    """Fill `lists` by compiled code, or by NumPy where that does not work."""
    if compiled_code().works:
        _rank_compiled(V, packed, exclude, relevant, relevant_vectors, relevant_rows, lists, group)
    else:
        rank_plainly(V, packed.rows, exclude, relevant, relevant_vectors, relevant_rows, lists)


@cache
def compiled_code() -> probes.Finding:
    """Whether the compiled kernel gives on this processor what NumPy gives; tried once a process.

    The problem has ties, exclusions and relevant songs, and is large enough for thresholds.
    """

    def trial() -> str:
        generator = np.random.default_rng(0)
        users, songs, d, k = 9, 2000, 3, 100
        V = generator.normal(size=(users, d)).astype(np.float32)
        rows = np.repeat(generator.normal(size=(songs // 2, d)), 2, axis=0).astype(np.float32)
        drawn = np.sort(generator.permuted(np.tile(np.arange(songs), (users, 1)), axis=1)[:, :30])
        kinds = np.arange(30) % 3 == 0
        exclude, relevant = (
            SongLists(
                np.arange(users + 1) * kind.sum(),
                drawn[:, kind].ravel().astype(np.int32),
                np.ones(users * kind.sum(), np.int64),
            )
            for kind in (kinds, ~kinds)
        )
        found, expected = empty_lists(users, k, relevant), empty_lists(users, k, relevant)
        own = relevant.songs
        _rank_compiled(V, PackedSongs.of(rows), exclude, relevant, rows, own, found, GROUP)
        rank_plainly(V, rows, exclude, relevant, rows, own, expected)
        for field in fields(RankedLists):
            a, b = getattr(found, field.name), getattr(expected, field.name)
            if not np.array_equal(a, b, equal_nan=a.dtype == np.float32):
                return f"its {field.name} are not those of NumPy"
        return ""

    finding = probes.attempt(trial)
    return probes.report("ranking", finding, "compiled code", "NumPy, hundreds of times slower")


def _rank_compiled(
    V: NDArray[np.float32],
    packed: PackedSongs,
    exclude: SongLists,
    relevant: SongLists,
    relevant_vectors: NDArray[np.float32],
    relevant_rows: NDArray[np.integer[Any]],
    lists: RankedLists,
    group: int,
) -> None:
    songs, d = packed.rows.shape
    users, k = lists.indices.shape
    rows = relevant_rows.astype(np.int64)
    group = -(-min(max(1, group), users) // USERS) * USERS
    block = max(1, _CACHE_BYTES // (4 * group * PANEL)) * PANEL
    block = min(block, len(packed.panels) * PANEL)
    sampled, quantile, expected = _sampling(k, songs, d)
    if quantile:
        sample = _panels(packed.rows[np.arange(sampled) * songs // sampled], PANEL)
    else:
        sample = packed.panels[:0]
    room = (4 * expected if quantile else 0) + block + LANES
    scores = np.empty((group, block), np.float32)
    kept = np.empty((group, room), np.float32)
    kept_columns = np.empty((group, room), np.int32)
    for first in range(0, users, group):
        error, user, song = kernel.rank_group(
            _panels(V[first : first + group], USERS),
            packed.panels,
            packed.rows,
            sample,
            sampled,
            quantile,
            exclude.indptr,
            exclude.songs,
            relevant.indptr,
            relevant.songs,
            relevant_vectors,
            rows,
            first,
            scores,
            kept,
            kept_columns,
            lists.indices,
            lists.scores,
            lists.counts,
            lists.candidates,
            lists.ranks,
            lists.rank_songs,
        )
        if error == kernel.BOTH:
            raise ValueError(
                f"song column {song} is both relevant and excluded for user row {user}"
            )


def _sampling(k: int, songs: int, d: int) -> tuple[int, int, int]:
    """Songs to sample, the place of the threshold among them, and the survivors to expect.

    Of a threshold that is the q-th best of n sampled songs, N q / n songs are expected above,
    with a relative standard deviation of 1 / sqrt(q). Few survivors need a large sample; the
    choice balances the time for both (rough costs in cycles).
    """
    best = (math.inf, 0, 0, 0)
    for ratio in (1.3, 1.4, 1.6, 1.8, 2.2, 2.6, 3.0, 4.0, 6.0):
        survivors = ratio * k
        quantile = math.ceil((_MISSES / (1 - 1 / ratio)) ** 2)
        sampled = math.ceil(quantile * songs / survivors)
        if sampled < songs / 2:
            cost = sampled * (d / 16 + 2) + survivors * 20
            best = min(best, (cost, sampled, quantile, math.ceil(survivors)))
    return best[1:]


def _panels(rows: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Rows (n, d) as (panels, d, width), each panel beginning a cache line; zeros beyond n."""
    n, d = rows.shape
    panels = -(-n // width)
    size = panels * d * width
    memory = np.zeros(size + 16, np.float32)
    offset = (-memory.ctypes.data % 64) // 4
    packed = memory[offset : offset + size].reshape(panels, d, width)
    whole = n // width
    packed[:whole] = rows[: whole * width].reshape(whole, width, d).transpose(0, 2, 1)
    if whole < panels:
        packed[whole, :, : n - whole * width] = rows[whole * width :].T
    return packed


def _checked(name: str, given: SongLists | None, users: int, songs: int) -> SongLists:
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


def check_finite(rows: NDArray[np.float32], what: str) -> None:
    if not np.isfinite(rows).all():
        row, dimension = np.argwhere(~np.isfinite(rows))[0]
        raise DataError(
            f"ranking: {what} {row} has {rows[row, dimension]} in dimension {dimension}: "
            "look for NaN or infinite values in its vector"
        )


def check_range(V: NDArray[np.float32], packed: PackedSongs) -> None:
    """No partial sum may leave float32's range."""
    limit = float(np.finfo(np.float32).max)
    bound = np.abs(V).max(axis=0).astype(np.float64) @ packed.largest
    if bound <= limit:
        return
    # Rare: look closer, first by user, then by song.
    for user in np.flatnonzero(np.abs(V).astype(np.float64) @ packed.largest > limit):
        sizes = np.abs(packed.rows).astype(np.float64) @ np.abs(V[user]).astype(np.float64)
        if sizes.max() > limit:
            raise DataError(
                f"ranking: the score of user row {user} and song column {sizes.argmax()} may "
                "become infinite: look for huge values in their vectors"
            )
