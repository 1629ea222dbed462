"""Ranking on a CPU: by compiled code where that works, by NumPy where it does not."""

from __future__ import annotations

import math
from dataclasses import fields
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusionrec import probes
from fusionrec.ranking import kernel
from fusionrec.ranking.lists import RankedLists, empty_lists
from fusionrec.ranking.packing import PackedSongs, panels_of
from fusionrec.ranking.plain import rank_plainly
from fusionrec.ranking.protocols import SongLists
from fusionrec.ranking.vector_code import LANES, PANEL, USERS

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
    for ratio in (1.3, 1.4, 1.6, 1.8, 2.2, 2.6, 3.0, 4.0, 6.0):
        survivors = ratio * k
        quantile = math.ceil((_MISSES / (1 - 1 / ratio)) ** 2)
        sampled = math.ceil(quantile * songs / survivors)
        if sampled < songs / 2:
            cost = sampled * (d / 16 + 2) + survivors * 20
            best = min(best, (cost, sampled, quantile, math.ceil(survivors)))
    return best[1:]
