"""Metrics against hand-worked fractions, a brute force over lists, scikit-learn and ranx."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import ndcg_score, roc_auc_score

from fusionrec import schemas
from fusionrec.evaluation.closed_forms import random_average_precision
from fusionrec.evaluation.metrics import (
    METRICS,
    UNRANKED,
    auc,
    average_precision,
    mean_over_users,
    ndcg,
    per_song_shares,
    per_user_metrics,
    recall,
    reciprocal_rank,
)
from tests.evaluation.second_opinion import by_ranx


def flat(users: list[list[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    indptr = np.concatenate([[0], np.cumsum([len(u) for u in users])]).astype(np.int64)
    return indptr, np.array([r for u in users for r in u], dtype=np.int64)


@pytest.mark.parametrize(
    ("ranks", "k", "expected"),
    [
        ([1, 3], 5, (1 / 1 + 2 / 3) / 2),
        ([1, 3], 2, (1 / 1) / 2),
        ([2, 4, 5], 10, (1 / 2 + 2 / 4 + 3 / 5) / 3),
        ([1, 2, 3], 2, 1.0),  # the divisor is min(R, K)
        ([1, 3, 4], 2, (1 / 1) / 2),
        ([6], 5, 0.0),
        ([5], 5, 1 / 5),
    ],
)
def test_average_precision_by_hand(ranks: list[int], k: int, expected: float) -> None:
    assert average_precision(*flat([ranks]), k)[0] == pytest.approx(expected)


def test_the_others_by_hand() -> None:
    indptr, ranks = flat([[1, 3], [4], [2, 9]])
    assert recall(indptr, ranks, 3) == pytest.approx([1, 0, 1 / 2])
    assert reciprocal_rank(indptr, ranks, 3) == pytest.approx([1, 0, 1 / 2])
    ideal = 1 + 1 / math.log2(3)
    assert ndcg(indptr, ranks, 3) == pytest.approx([1.5 / ideal, 0, 1 / math.log2(3) / ideal])
    # 10 candidates: 8 others of which [1, 3] has 8 and 7 below; 9 others, 6 below; 7 and 1 of 8.
    assert auc(indptr, ranks, np.full(3, 10)) == pytest.approx([15 / 16, 6 / 9, 8 / 16])


def ap_over_a_list(ranking: list[int], relevant: set[int], k: int) -> float:
    """AP@K the slow way, from the definition: precision at each hit of the list."""
    total = 0.0
    for i, song in enumerate(ranking[:k], start=1):
        if song in relevant:
            total += len(relevant & set(ranking[:i])) / i
    return total / min(len(relevant), k)


@st.composite
def rankings(draw: st.DrawFn) -> tuple[list[list[int]], list[set[int]], int]:
    lists, relevant = [], []
    for _ in range(draw(st.integers(1, 6))):
        songs = draw(st.integers(1, 30))
        lists.append(draw(st.permutations(range(songs))))
        relevant.append(draw(st.sets(st.integers(0, songs - 1), min_size=1, max_size=songs)))
    return lists, relevant, draw(st.integers(1, 35))


def ranks_of(lists: list[list[int]], relevant: list[set[int]]) -> list[list[int]]:
    return [
        [i for i, song in enumerate(order, start=1) if song in wanted]
        for order, wanted in zip(lists, relevant, strict=True)
    ]


@settings(max_examples=150, deadline=None)
@given(problem=rankings())
def test_against_brute_force_and_scikit_learn(
    problem: tuple[list[list[int]], list[set[int]], int],
) -> None:
    lists, relevant, k = problem
    indptr, ranks = flat(ranks_of(lists, relevant))
    candidates = np.array([len(order) for order in lists])
    result = per_user_metrics(indptr, ranks, candidates, k)
    for u, (order, wanted) in enumerate(zip(lists, relevant, strict=True)):
        hits = [song in wanted for song in order]
        assert result["average_precision"][u] == pytest.approx(ap_over_a_list(order, wanted, k))
        assert result["recall"][u] == pytest.approx(sum(hits[:k]) / len(wanted))
        first = hits.index(True) + 1
        assert result["reciprocal_rank"][u] == pytest.approx(1 / first if first <= k else 0)
        scores = -np.arange(len(order))  # no ties
        if len(order) > 1:
            expected = ndcg_score([hits], [scores], k=k)
            assert result["ndcg"][u] == pytest.approx(expected)
        if len(wanted) < len(order):
            assert result["auc"][u] == pytest.approx(roc_auc_score(hits, scores))
        else:
            assert math.isnan(result["auc"][u])
        assert result["candidates"][u] == len(order)
        assert result["relevant"][u] == len(wanted)
        assert result["random_level"][u] == random_average_precision(len(order), len(wanted), k)
    mean = mean_over_users(result)["average_precision"]
    assert mean == pytest.approx(
        sum(ap_over_a_list(o, w, k) for o, w in zip(lists, relevant, strict=True)) / len(lists)
    )


def test_against_ranx() -> None:
    """ranx divides AP by R and has no cut in its ideal list but K: the same where R <= K."""
    rng = np.random.default_rng(0)
    k, users = 20, 50
    lists = [rng.permutation(60).tolist() for _ in range(users)]
    relevant = [set(rng.choice(60, rng.integers(1, k + 1), replace=False)) for _ in range(users)]
    names = [f"map@{k}", f"recall@{k}", f"ndcg@{k}", f"mrr@{k}"]
    theirs = by_ranx([sorted(songs) for songs in relevant], lists, names)
    indptr, ranks = flat(ranks_of(lists, relevant))
    ours = per_user_metrics(indptr, ranks, np.full(users, 60), k)
    means = mean_over_users(ours)
    for name, own in zip(names, METRICS, strict=False):
        assert ours[own] == pytest.approx(theirs[name]), name
        assert means[own] == pytest.approx(theirs[name].mean()), name


def test_users_without_a_relevant_song_are_in_no_mean() -> None:
    indptr, ranks = flat([[], [1, 3], [], [2]])
    result = per_user_metrics(indptr, ranks, np.array([4, 5, 0, 6]), 10)
    for name in METRICS:
        assert np.isnan(result[name]).tolist() == [True, False, True, False]
    assert mean_over_users(result)["average_precision"] == pytest.approx((5 / 6 + 1 / 2) / 2)
    nobody = per_user_metrics(*flat([[]]), np.array([3]), 10)
    assert all(math.isnan(mean) for mean in mean_over_users(nobody).values())


def test_the_mean_of_auc_is_over_those_who_have_one() -> None:
    result = per_user_metrics(*flat([[1, 2], [2]]), np.array([2, 3]), 10)
    assert mean_over_users(result)["auc"] == pytest.approx(1 / 2)
    assert mean_over_users(result)["average_precision"] == pytest.approx(3 / 4)


def test_columns_are_the_artifacts() -> None:
    result = per_user_metrics(*flat([[1]]), np.array([3]), 10)
    assert ["user_id", *result] == schemas.METRICS.names


@pytest.mark.parametrize(
    ("users", "candidates", "match"),
    [
        ([[0]], [3], "between 1"),
        ([[4]], [3], "between 1"),
        ([[2, 1]], [3], "ascend"),
        ([[2, 2]], [3], "ascend"),
        ([[UNRANKED, 2]], [3], "ascend"),
        ([[1]], [3, 3], "offsets"),
    ],
)
def test_ranks_that_cannot_be(users: list[list[int]], candidates: list[int], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        per_user_metrics(*flat(users), np.array(candidates), 10)


def test_songs_that_a_list_leaves_out_are_in_no_metric() -> None:
    indptr, ranks = flat([[1, UNRANKED, UNRANKED], [UNRANKED], [2, 3]])
    found = per_user_metrics(indptr, ranks, np.full(3, 4), 10)
    assert found["average_precision"] == pytest.approx([1 / 3, 0, (1 / 2 + 2 / 3) / 2])
    assert found["recall"] == pytest.approx([1 / 3, 0, 1])
    assert found["reciprocal_rank"] == pytest.approx([1, 0, 1 / 2])
    assert np.isnan(found["auc"]).tolist() == [True, True, False]
    assert found["random_level"] == pytest.approx(
        per_user_metrics(*flat([[1, 2, 3], [1], [1, 2]]), np.full(3, 4), 10)["random_level"]
    )


def test_k_must_be_positive() -> None:
    with pytest.raises(ValueError, match="k is 0"):
        per_user_metrics(*flat([[1]]), np.array([3]), 0)


def test_songs_shares_add_up_to_their_users() -> None:
    listed = [[1, 3], [], [2], [1, 2, 3, 9], [1, 2], [2, UNRANKED, UNRANKED], [UNRANKED]]
    indptr, ranks = flat(listed)
    candidates = np.array([5, 4, 4, 12, 2, 9, 3])  # of the fifth one, all are relevant
    metrics, shares = (f(indptr, ranks, candidates, 4) for f in (per_user_metrics, per_song_shares))
    user = np.repeat(np.arange(7), np.diff(indptr))
    for name, number in (("average_precision", "users"), ("auc", "auc_users")):
        expected = metrics[name]
        sums = np.bincount(user, shares[name], minlength=7)
        np.testing.assert_allclose(sums, np.nan_to_num(expected), atol=1e-12)
        numbers = np.bincount(user, shares[number], minlength=7)
        np.testing.assert_allclose(numbers, ~np.isnan(expected), atol=1e-12)
