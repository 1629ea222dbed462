"""Ranking on a CPU: by compiled code where that works, by NumPy where it does not."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusionrec import probes
from fusionrec.ranking import bounds, kernel
from fusionrec.ranking.lists import RankedLists, empty_lists
from fusionrec.ranking.packing import PackedSongs, panels_of
from fusionrec.ranking.plain import rank_plainly
from fusionrec.ranking.protocols import SongLists
from fusionrec.ranking.vector_code import BOUNDED_USERS, LANES, PANEL, USERS

GROUP = 128
"""Users whose vectors and scores share the second cache."""

_CACHE_BYTES = 256 << 10
"""Scores of a group at once."""

_MISSES = 3.1
"""Standard deviations by which the survivors expected exceed k: one user in 1,000 has too few."""


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
    if not compiled_code().works:
        rank_plainly(V, packed.rows, exclude, relevant, relevant_vectors, relevant_rows, lists)
        return
    of_few = packed.codes is not None and packed.codes.quicker_for(*lists.indices.shape)
    if of_few and not len(relevant.songs):
        rest = ~_rank_bounded(V, packed, exclude, lists)
        if not rest.any():
            return
        found = empty_lists(int(rest.sum()), lists.indices.shape[1], relevant.of(rest))
        _rank_compiled(
            *(V[rest], packed, exclude.of(rest), relevant.of(rest)),
            *(relevant_vectors, relevant_rows, found, group),
        )
        for name in ("indices", "scores", "counts", "candidates"):
            getattr(lists, name)[rest] = getattr(found, name)
        return
    _rank_compiled(V, packed, exclude, relevant, relevant_vectors, relevant_rows, lists, group)


_FEWEST_SONGS, _FEWEST_DIMENSIONS = 4096, 8
"""Below them there is little to be gained by codes."""


def coded(packed: PackedSongs) -> PackedSongs:
    """The same with codes, by which lists of few users are found several times as quickly.

    For vectors that lists are made by again and again. The lists are the same to the last bit;
    codes take a quarter of the bytes of `rows`, and 8 bytes a song. Where they would bring nothing
    (few songs or dimensions, a processor for which their code does not work), there are none.
    """
    songs, d = packed.rows.shape
    few = songs < _FEWEST_SONGS or d < _FEWEST_DIMENSIONS
    if packed.codes is not None or few or not bounds_work().works:
        return packed
    return replace(packed, codes=bounds.Codes.of(packed.rows))


@cache
def bounds_work() -> probes.Finding:
    """Whether compiled code that bounds scores gives NumPy's lists here; tried once a process."""

    def trial() -> str:
        generator = np.random.default_rng(0)
        users, songs, d, k = 2 * BOUNDED_USERS + 1, 2001, 5, 9
        V = generator.normal(size=(users, d)).astype(np.float32)
        rows = np.repeat(generator.normal(size=(songs // 3, d)), 3, axis=0).astype(np.float32)
        out = np.arange(users * 3, dtype=np.int32).reshape(users, 3) * 7
        exclude = SongLists(np.arange(users + 1) * 3, out.ravel(), np.ones(out.size, np.int64))
        none = np.zeros(0, np.int64)
        nothing = SongLists(np.zeros(users + 1, np.int64), none.astype(np.int32), none)
        found, expected = empty_lists(users, k, nothing), empty_lists(users, k, nothing)
        packed = replace(PackedSongs.of(rows), codes=bounds.Codes.of(rows))
        if not _rank_bounded(V, packed, exclude, found).all():
            return "it leaves too many songs"
        rank_plainly(V, rows, exclude, nothing, rows, nothing.songs, expected)
        for name in ("indices", "scores", "counts", "candidates"):
            if not np.array_equal(getattr(found, name), getattr(expected, name)):
                return f"its {name} are not those of NumPy"
        return ""

    finding = compiled_code()
    finding = probes.attempt(trial) if finding.works else finding
    return probes.report("lists of few users", finding, "bounds of scores", "all scores")


def _rank_bounded(
    V: NDArray[np.float32], packed: PackedSongs, exclude: SongLists, lists: RankedLists
) -> NDArray[np.bool_]:
    """Fill the lists of whom bounds leave few enough songs, and say whose, (U,)."""
    assert packed.codes is not None
    return bounds.rank_bounded(
        *(V, packed.rows, packed.codes, exclude.indptr, exclude.songs),
        *(lists.indices, lists.scores, lists.counts, lists.candidates),
    )


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
        sample = panels_of(packed.rows[np.arange(sampled) * songs // sampled], PANEL)
    else:
        sample = packed.panels[:0]
    room = (4 * expected if quantile else 0) + block + LANES
    scores = np.empty((group, block), np.float32)
    kept = np.empty((group, room), np.float32)
    kept_columns = np.empty((group, room), np.int32)
    for first in range(0, users, group):
        error, user, song = kernel.rank_group(
            panels_of(V[first : first + group], USERS),
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
    """Songs to sample, which best of them is the threshold, and the survivors to expect.

    Of a threshold that is the q-th best of n sampled songs, N q / n songs are expected above,
    with a relative standard deviation of 1 / sqrt(q). Few survivors need a large sample; the
    choice balances the time for both (rough costs in cycles).
    """
    best = (math.inf, 0, 0, 0)
    for ratio in (1.3, 1.4, 1.6, 1.8, 2.2, 2.6, 3.0, 4.0, 6.0, 10.0, 20.0, 40.0, 80.0):
        survivors = ratio * k
        quantile = math.ceil((_MISSES / (1 - 1 / ratio)) ** 2)
        sampled = math.ceil(quantile * songs / survivors)
        if sampled < songs / 2:
            cost = sampled * (d / 16 + 2) + survivors * 20
            best = min(best, (cost, sampled, quantile, math.ceil(survivors)))
    return best[1:]
