"""From scores to metrics where there is next to nothing to rank, and AP at the paper's K."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from fusionrec.evaluation.beyond import Catalogue, ListStatistics
from fusionrec.evaluation.closed_forms import random_average_precision
from fusionrec.evaluation.metrics import (
    METRICS,
    average_precision,
    mean_over_users,
    per_user_metrics,
)
from fusionrec.ranking.lists import RankedLists
from fusionrec.ranking.protocols import SongLists
from fusionrec.ranking.topk import rank_users
from tests.evaluation.second_opinion import by_ranx


def song_lists(rows: list[list[int]]) -> SongLists:
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    songs = np.array([s for row in rows for s in sorted(row)], dtype=np.int32)
    return SongLists(indptr, songs, np.ones(len(songs), dtype=np.int64))


def ranked(
    V: NDArray[np.float64],
    F: NDArray[np.float64],
    k: int,
    relevant: list[list[int]],
    exclude: list[list[int]] | None = None,
) -> tuple[RankedLists, dict[str, NDArray[np.float64]]]:
    lists = rank_users(
        V,
        F,
        k,
        exclude=song_lists(exclude or [[] for _ in relevant]),
        relevant=song_lists(relevant),
    )
    return lists, per_user_metrics(lists.rank_indptr, lists.ranks, lists.candidates, k)


def test_a_user_without_a_relevant_song_is_in_no_mean() -> None:
    rng = np.random.default_rng(0)
    V, F = rng.random((3, 2)), rng.random((6, 2))
    some = [[], [1, 4], []]
    # The last user has no candidate at all.
    _, result = ranked(V, F, 4, some, exclude=[[0], [], list(range(6))])
    for name in METRICS:
        assert np.isnan(result[name]).tolist() == [True, False, True], name
    assert result["candidates"].tolist() == [5, 6, 0]
    alone = ranked(V[1:2], F, 4, some[1:2])[1]
    assert mean_over_users(result) == mean_over_users(alone)
    nobody = ranked(V, F, 4, [[], [], []])[1]
    assert all(math.isnan(mean) for mean in mean_over_users(nobody).values())


def test_one_candidate() -> None:
    rng = np.random.default_rng(1)
    lists, result = ranked(rng.random((2, 3)), rng.random((1, 3)), 5, [[0], []])
    assert lists.indices.tolist() == [[0, -1, -1, -1, -1]] * 2
    for name in ("average_precision", "recall", "ndcg", "reciprocal_rank", "random_level"):
        assert result[name][0] == 1, name
    assert np.isnan(result["auc"]).all()  # no other song to be above


def test_one_candidate_is_left_by_the_profile() -> None:
    F = np.random.default_rng(2).random((4, 3))
    lists, result = ranked(np.ones((1, 3)), F, 5, [[2]], exclude=[[0, 1, 3]])
    assert lists.indices[0].tolist() == [2, -1, -1, -1, -1]
    assert result["average_precision"].tolist() == [1]
    assert result["random_level"].tolist() == [1]


@pytest.mark.parametrize("V", [np.zeros((1, 2)), np.ones((1, 2))])
def test_all_scores_tied(V: NDArray[np.float64]) -> None:
    # The rank is the column's place among the candidates.
    lists, result = ranked(V, np.full((9, 2), 0.5), 4, [[2, 5, 8]], exclude=[[0, 4]])
    assert lists.indices[0].tolist() == [1, 2, 3, 5]
    assert lists.ranks.tolist() == [2, 4, 7]
    assert result["average_precision"][0] == pytest.approx((1 / 2 + 2 / 4) / 3)
    # Of the 4 others 1, 3, 6 and 7: below 2 three, below 5 two, below 8 none.
    assert result["auc"][0] == pytest.approx(5 / 12)


def test_ties_by_column_are_random_on_average() -> None:
    rng = np.random.default_rng(3)
    songs, users, k = 60, 3_000, 20
    relevant = [rng.choice(songs, 3, replace=False).tolist() for _ in range(users)]
    own = ranked(np.ones((users, 1)), np.ones((songs, 1)), k, relevant)[1]["average_precision"]
    error = own.std() / math.sqrt(users)
    assert abs(own.mean() - random_average_precision(songs, 3, k)) < 4 * error


def test_k_beyond_the_candidates() -> None:
    rng = np.random.default_rng(4)
    V, F = rng.random((5, 3)), rng.random((7, 3))
    relevant = [[0], [1, 2], [3, 4, 5], list(range(7)), [6]]
    lists, beyond = ranked(V, F, 500, relevant)
    assert lists.indices.shape == (5, 500)
    assert (lists.indices[:, 7:] == -1).all()
    assert np.sort(lists.indices[:, :7], axis=1).tolist() == [list(range(7))] * 5
    exact = ranked(V, F, 7, relevant)[1]
    for name in METRICS:
        np.testing.assert_array_equal(beyond[name], exact[name])
    assert (beyond["recall"] == 1).all()
    assert beyond["average_precision"][3] == 1  # all candidates are relevant

    catalogue = Catalogue.of(np.arange(7), F)
    statistics = ListStatistics.empty(7)
    statistics.update(lists.indices, catalogue)
    assert statistics.counts.tolist() == [5] * 7
    measures = statistics.finish(catalogue)
    assert (measures.coverage, measures.gini) == (1, 0)
    assert measures.popularity_bias == pytest.approx(1)


RELEVANT = (1, 2, 5, 499, 500, 501, 800)


def at_500(seed: int) -> list[list[int]]:
    """Ranks of users with few and with more than 500 relevant songs, of up to 2,000."""
    rng = np.random.default_rng(seed)
    users = []
    for songs, relevant in itertools.product((1, 499, 500, 501, 2_000), RELEVANT):
        drawn = rng.choice(songs, min(relevant, songs), replace=False) + 1
        # And with the edge: the last rank that counts and the first not to.
        users += [np.sort(drawn).tolist(), np.union1d(drawn, [500, 501]).tolist()]
    return users


def own_at_500(users: list[list[int]]) -> NDArray[np.float64]:
    indptr = np.concatenate([[0], np.cumsum([len(ranks) for ranks in users])])
    return average_precision(indptr, np.concatenate(users), 500)


@pytest.mark.parametrize("seed", range(3))
def test_average_precision_at_500_by_brute_force(seed: int) -> None:
    users = at_500(seed)
    for ranks, value in zip(users, own_at_500(users), strict=True):
        found, hits, total = set(ranks), 0, 0.0
        for i in range(1, 501):
            if i in found:
                hits += 1
                total += hits / i
        assert value == pytest.approx(total / min(len(ranks), 500))


def test_average_precision_at_500_against_ranx() -> None:
    """ranx divides AP@K by R: the same up to the divisor, min(R, K)."""
    users = at_500(seed=9)
    orders = [range(1, max(ranks) + 1) for ranks in users]
    theirs = by_ranx(users, [list(order) for order in orders], ["map@500"])["map@500"]
    sizes = np.array([len(ranks) for ranks in users])
    assert own_at_500(users) * np.minimum(sizes, 500) == pytest.approx(theirs * sizes)
