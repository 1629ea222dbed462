"""Measures beyond accuracy against their definitions, pair by pair and list by list."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import cosine

from fusionrec.evaluation.beyond import BeyondAccuracy, Catalogue, ListStatistics, gini

Problem = tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.float32]]


def some_lists(seed: int, users: int, songs: int, k: int, d: int = 3) -> Problem:
    """Lists of 0 to k songs, plays with some zeros, and vectors."""
    rng = np.random.default_rng(seed)
    lists = np.full((users, k), -1, dtype=np.int32)
    for row in lists:
        size = int(rng.integers(0, min(k, songs) + 1))
        row[:size] = rng.choice(songs, size, replace=False)
    return lists, rng.geometric(0.1, songs) - 1, rng.normal(size=(songs, d)).astype(np.float32)


def finished(lists: NDArray[np.int32], plays: NDArray[np.int64], F: NDArray[np.float32]) -> object:
    catalogue = Catalogue.of(plays, F)
    statistics = ListStatistics.empty(len(plays))
    statistics.update(lists, catalogue)
    return statistics.finish(catalogue)


def mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def by_definition(problem: Problem) -> BeyondAccuracy:
    lists, plays, F = problem
    N = len(plays)
    rows = [[int(s) for s in row if s >= 0] for row in lists]
    rows = [row for row in rows if row]
    counts = [sum(s in row for row in rows) for s in range(N)]
    # The Gini index is the mean absolute difference of two songs, over twice the mean.
    differences = [abs(a - b) for a, b in combinations(counts, 2)]
    arp = mean([mean([float(plays[s]) for s in row]) for row in rows])
    p = (plays + 1) / (plays.sum() + N)
    return BeyondAccuracy(
        coverage=len({s for row in rows for s in row}) / N,
        gini=mean(differences) / (2 * mean(counts)) if N > 1 and sum(counts) else math.nan,
        popularity=arp,
        popularity_bias=arp / plays.mean() if plays.sum() else math.nan,
        diversity=mean(
            [
                mean([float(cosine(F[a], F[b])) for a, b in combinations(row, 2)])
                for row in rows
                if len(row) > 1
            ]
        ),
        novelty=mean([mean([-math.log2(p[s]) for s in row]) for row in rows]),
    )


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    users=st.integers(0, 8),
    songs=st.integers(1, 9),
    k=st.integers(1, 12),
)
def test_against_the_definitions(seed: int, users: int, songs: int, k: int) -> None:
    problem = some_lists(seed, users, songs, k)
    own, expected = finished(*problem), by_definition(problem)
    for name in vars(expected):
        assert getattr(own, name) == pytest.approx(
            getattr(expected, name), abs=1e-6, nan_ok=True
        ), name


def test_by_hand() -> None:
    lists = np.array([[0, 1], [0, -1]])
    F = np.array([[2.0, 0.0], [0.0, 5.0], [0.0, 0.0], [1.0, 1.0]])
    result = finished(lists, np.array([3, 1, 0, 0]), F)
    assert vars(result) == pytest.approx(
        {
            "coverage": 1 / 2,
            "gini": (-3 * 0 - 1 * 0 + 1 * 1 + 3 * 2) / (3 * 3),
            "popularity": ((3 + 1) / 2 + 3) / 2,
            "popularity_bias": 2.5 / 1,
            "diversity": 1.0,
            "novelty": ((1 + 2) / 2 + 1) / 2,  # p = 4/8 and 2/8
        }
    )
    # A zero vector has no direction: its cosine with any other counts as 0.
    assert vars(finished(np.array([[0, 2]]), np.ones(4, int), F))["diversity"] == 1.0
    assert vars(finished(np.array([[0, 3]]), np.ones(4, int), F))["diversity"] == pytest.approx(
        1 - 1 / math.sqrt(2)
    )


def test_extremes_of_the_gini_index() -> None:
    assert gini(np.full(7, 3)) == 0
    assert gini(np.array([0, 0, 9, 0])) == 1
    assert math.isnan(gini(np.zeros(4)))
    assert math.isnan(gini(np.array([3])))
    # A uniform distribution's index is 1/3.
    assert gini(np.random.default_rng(0).random(20_000)) == pytest.approx(1 / 3, abs=0.01)


def test_equal_vectors_have_no_diversity() -> None:
    F = np.tile(np.random.default_rng(0).random(6).astype(np.float32), (40, 1))
    result = finished(np.arange(40)[None], np.ones(40, int), F)
    assert vars(result)["diversity"] == pytest.approx(0, abs=1e-12)
    assert vars(result)["popularity_bias"] == 1.0


@pytest.mark.parametrize("cut", [0, 1, 23, 60])
def test_merged_shards_are_all_at_once(cut: int) -> None:
    lists, plays, F = some_lists(3, 60, 30, 10)
    catalogue = Catalogue.of(plays, F)
    shards = [ListStatistics.empty(30) for _ in range(3)]
    shards[0].update(lists[:cut], catalogue)
    shards[1].update(lists[cut:], catalogue)
    shards[2].update(lists, catalogue)
    merged = shards[0].merge(shards[1])
    assert np.array_equal(merged.counts, shards[2].counts)
    assert merged.counts.dtype == np.int64
    assert (merged.lists, merged.pair_lists) == (shards[2].lists, shards[2].pair_lists)
    assert vars(merged.finish(catalogue)) == pytest.approx(vars(shards[2].finish(catalogue)))
    shards[0].update(lists[cut:], catalogue)
    assert np.array_equal(shards[0].counts, shards[2].counts)


def test_what_does_not_fit() -> None:
    catalogue = Catalogue.of(np.ones(3), np.ones((3, 2)))
    with pytest.raises(ValueError, match="do not fit"):
        Catalogue.of(np.ones(3), np.ones((2, 2)))
    with pytest.raises(ValueError, match="0 or more"):
        Catalogue.of(np.array([1.0, np.nan]), np.ones((2, 2)))
    with pytest.raises(ValueError, match="3 candidates where 4"):
        ListStatistics.empty(4).update(np.zeros((1, 1), int), catalogue)
    with pytest.raises(ValueError, match="columns from -1 to 2"):
        ListStatistics.empty(3).update(np.array([[3]]), catalogue)
    with pytest.raises(ValueError, match="do not merge"):
        ListStatistics.empty(3).merge(ListStatistics.empty(4))
