"""Problems for the ways of ranking, and what their results are compared by."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from fusionrec.ranking.lists import RankedLists
from fusionrec.ranking.protocols import SongLists


def song_lists(rows: list[list[int]]) -> SongLists:
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    songs = np.array([s for row in rows for s in sorted(row)], dtype=np.int32)
    return SongLists(indptr, songs, np.ones(len(songs), dtype=np.int64))


Problem = tuple[NDArray[np.float32], NDArray[np.float32], int, list[list[int]], list[list[int]]]


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    users, songs, d = draw(st.integers(1, 6)), draw(st.integers(1, 25)), draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    levels = draw(st.sampled_from([1, 2, 4, 1024]))  # few levels: nearly everything ties
    V = rng.integers(-levels, levels + 1, size=(users, d)) / np.float32(levels)
    F = rng.integers(0, levels + 1, size=(songs, d)) / np.float32(4 * levels)
    kinds = rng.integers(0, 3, size=(users, songs))
    excluded = [np.flatnonzero(row == 0).tolist() for row in kinds]
    relevant = [np.flatnonzero(row == 1).tolist() for row in kinds]
    return V.astype(np.float32), F.astype(np.float32), draw(st.integers(1, 30)), excluded, relevant


def large(
    users: int, songs: int, d: int, seed: int
) -> tuple[NDArray, NDArray, SongLists, SongLists]:
    """A problem of the sampled path, with ties, exclusions and relevant songs."""
    rng = np.random.default_rng(seed)
    V = rng.normal(size=(users, d)).astype(np.float32)
    F = np.repeat(rng.normal(size=(songs // 2, d)), 2, axis=0).astype(np.float32)
    drawn = [rng.permutation(songs)[: rng.integers(0, 60)] for _ in range(users)]
    relevant = song_lists([row[:20].tolist() for row in drawn])
    return V, F, song_lists([row[20:].tolist() for row in drawn]), relevant


def assert_same(a: RankedLists, b: RankedLists) -> None:
    for name in ("indices", "scores", "counts", "candidates", "rank_indptr", "ranks", "rank_songs"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


def rounded(value: Fraction) -> np.float32:
    """The float32 nearest to an exact value, found without the help of any rounding."""
    near = np.float32(float(value))
    around = [np.nextafter(near, np.float32(-np.inf)), near, np.nextafter(near, np.float32(np.inf))]

    def distance(x: np.float32) -> tuple[Fraction, int]:
        return abs(Fraction(float(x)) - value), int(x.view(np.int32)) & 1  # ties to even

    return min(around, key=distance)


def exactly(a: NDArray, b: NDArray, c: NDArray) -> list[np.float32]:
    """a * b + c, rounded once."""
    return [
        rounded(Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z)))
        for x, y, z in zip(a, b, c, strict=True)
    ]
