"""Ranking against a full sort, with and without ties."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fusionrec.errors import DataError
from fusionrec.ranking.lists import RankedLists
from fusionrec.ranking.packing import PackedSongs
from fusionrec.ranking.protocols import SongLists
from fusionrec.ranking.topk import rank_users
from tests.ranking.problems import Problem, assert_same, large, problems, rounded, song_lists

pytestmark = pytest.mark.processor


def by_full_sort(
    V: NDArray[np.float32], F: NDArray[np.float32], excluded: list[list[int]]
) -> list[list[int]]:
    """All candidates of every user in order, by Python's own sort.

    The numbers of the problems are multiples of a power of two: their sums are exact.
    """
    orders = []
    for v, out in zip(V, excluded, strict=True):
        scores = np.zeros(len(F), dtype=np.float32)
        for d in range(len(v)):
            scores = scores + v[d] * F[:, d]
        candidates = [s for s in range(len(F)) if s not in out]
        orders.append(sorted(candidates, key=lambda s: (-scores[s], s)))
    return orders


def ranks_of(lists: RankedLists, user: int) -> list[int]:
    own = slice(lists.rank_indptr[user], lists.rank_indptr[user + 1])
    return [int(rank) for rank in lists.ranks[own]]


@settings(max_examples=150, deadline=None)
@given(problem=problems(), group=st.sampled_from([1, 5, 128]))
def test_lists_and_ranks_are_those_of_a_full_sort(problem: Problem, group: int) -> None:
    V, F, k, excluded, relevant = problem
    lists = rank_users(
        V,
        F,
        k,
        exclude=song_lists(excluded),
        relevant=song_lists(relevant),
        group=group,
    )
    for user, order in enumerate(by_full_sort(V, F, excluded)):
        best = order[:k]
        assert lists.candidates[user] == len(order)
        assert lists.counts[user] == len(best)
        assert lists.indices[user].tolist() == best + [-1] * (k - len(best))
        np.testing.assert_allclose(
            lists.scores[user, : len(best)], F[best] @ V[user], rtol=1e-5, atol=1e-6
        )
        assert np.isnan(lists.scores[user, len(best) :]).all()
        assert ranks_of(lists, user) == sorted(order.index(s) + 1 for s in relevant[user])


def test_blocks_do_not_change_a_bit() -> None:
    rng = np.random.default_rng(0)
    songs, d = 500, 40
    # Sums of 40 float32 terms round differently in another order; songs in pairs of equals
    # would come apart if one member's score were computed in another way.
    V = rng.normal(size=(37, d)).astype(np.float32)
    F = np.repeat(rng.normal(size=(songs // 2, d)), 2, axis=0).astype(np.float32)
    relevant = song_lists([sorted(rng.choice(songs, 5, replace=False)) for _ in V])
    whole = rank_users(V, F, 101, relevant=relevant)
    for users in (1, 2, 7, 36):
        blocked = rank_users(V, F, 101, relevant=relevant, group=users)
        for name in ("indices", "scores", "ranks", "counts", "candidates"):
            assert np.array_equal(getattr(whole, name), getattr(blocked, name)), (users, name)
    alone = rank_users(V[5:6], F, 101)
    assert np.array_equal(alone.indices[0], whole.indices[5])
    assert np.array_equal(alone.scores[0], whole.scores[5])
    assert np.all(whole.indices[:, 0] + 1 == whole.indices[:, 1])  # pairs stay in index order
    assert np.all(whole.indices[:, 100] % 2 == 0)  # of the pair at place K, the first is in


def test_the_divisor_of_a_user_vector_does_not_change_the_list() -> None:
    rng = np.random.default_rng(1)
    V, F = rng.random((5, 6), dtype=np.float32), rng.random((80, 6), dtype=np.float32)
    assert np.array_equal(rank_users(V, F, 20).indices, rank_users(V / 8, F, 20).indices)


V1 = np.ones((1, 1), dtype=np.float32)

F3 = np.array([[1.0], [3.0], [2.0]], dtype=np.float32)


def test_k_beyond_n() -> None:
    lists = rank_users(V1, F3, 5)
    assert lists.indices.tolist() == [[1, 2, 0, -1, -1]]
    assert lists.scores[0, :3].tolist() == [3, 2, 1]
    assert np.isnan(lists.scores[0, 3:]).all()
    assert (lists.counts[0], lists.candidates[0]) == (3, 3)


def test_everything_ties() -> None:
    F = np.ones((9, 1), dtype=np.float32)
    lists = rank_users(V1, F, 4, exclude=song_lists([[1]]), relevant=song_lists([[0, 5, 8]]))
    assert lists.indices.tolist() == [[0, 2, 3, 4]]
    assert ranks_of(lists, 0) == [1, 5, 8]


def test_zero_and_minus_zero_tie() -> None:
    F = np.array([[-0.0], [0.0], [-0.0]], dtype=np.float32)
    lists = rank_users(V1, F, 2, relevant=song_lists([[2]]))
    assert lists.indices.tolist() == [[0, 1]]
    assert ranks_of(lists, 0) == [3]


def test_one_candidate() -> None:
    lists = rank_users(V1, F3, 2, exclude=song_lists([[0, 1]]), relevant=song_lists([[2]]))
    assert lists.indices.tolist() == [[2, -1]]
    assert ranks_of(lists, 0) == [1]
    assert lists.candidates[0] == 1


def test_everything_excluded() -> None:
    lists = rank_users(V1, F3, 2, exclude=song_lists([[0, 1, 2]]), relevant=song_lists([[]]))
    assert lists.indices.tolist() == [[-1, -1]]
    assert (lists.counts[0], lists.candidates[0]) == (0, 0)
    assert ranks_of(lists, 0) == []


def test_no_relevant_no_users_no_songs() -> None:
    assert rank_users(V1, F3, 2).rank_indptr.tolist() == [0, 0]
    assert rank_users(V1[:0], F3, 2).indices.shape == (0, 2)
    assert rank_users(V1, F3[:0], 2).indices.tolist() == [[-1, -1]]


def test_lowest_finite_score_is_still_a_candidate() -> None:
    lowest = np.finfo(np.float32).min
    F = np.array([[lowest], [0.0]], dtype=np.float32)
    lists = rank_users(V1, F, 2, exclude=song_lists([[1]]))
    assert lists.indices.tolist() == [[0, -1]]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["V", "F"])
def test_scores_that_are_no_numbers_are_named(bad: float, where: str) -> None:
    V, F = np.ones((3, 2), dtype=np.float32), np.ones((4, 2), dtype=np.float32)
    (V if where == "V" else F)[2, 1] = bad
    with pytest.raises(DataError, match="user row 2" if where == "V" else "song column 2"):
        rank_users(V, F, 1)


def test_overflow_is_named() -> None:
    with pytest.raises(DataError, match="inf"):
        rank_users(V1 * np.float32(1e30), F3 * np.float32(1e30), 1)


def test_misuse() -> None:
    with pytest.raises(ValueError, match="both relevant and excluded"):
        rank_users(V1, F3, 2, exclude=song_lists([[1]]), relevant=song_lists([[1, 2]]))
    with pytest.raises(ValueError, match="columns outside"):
        rank_users(V1, F3, 2, exclude=song_lists([[3]]))
    with pytest.raises(ValueError, match="columns outside"):
        rank_users(V1, F3, 2, relevant=song_lists([[-1]]))
    with pytest.raises(ValueError, match="rows for"):
        rank_users(V1, F3, 2, relevant=song_lists([[1], [2]]))
    with pytest.raises(ValueError, match="k is 0"):
        rank_users(V1, F3, 0)
    with pytest.raises(ValueError, match="do not fit"):
        rank_users(V1, np.ones((3, 2)), 2)


def test_workers_need_no_torch() -> None:
    modules = [f"fusionrec.ranking.{m}" for m in ("split", "protocols", "users", "topk")]
    modules += [f"fusionrec.evaluation.{m}" for m in ("metrics", "closed_forms", "intervals")]
    code = f"import sys, {', '.join(modules)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_scores_are_sums_of_fused_multiply_adds() -> None:
    rng = np.random.default_rng(2)
    V = rng.normal(size=(3, 9)).astype(np.float32)
    F = rng.normal(size=(20, 9)).astype(np.float32)
    lists = rank_users(V, F, 20)
    for user, v in enumerate(V):
        for song, score in zip(lists.indices[user], lists.scores[user], strict=True):
            total = np.float32(0)
            for a, b in zip(v, F[song], strict=True):
                total = rounded(Fraction(float(a)) * Fraction(float(b)) + Fraction(float(total)))
            assert score == total


@pytest.mark.parametrize(("songs", "d", "k"), [(5000, 6, 100), (20_000, 3, 50), (700, 5, 500)])
def test_large_lists_are_those_of_a_full_sort(songs: int, d: int, k: int) -> None:
    V, F, exclude, relevant = large(70, songs, d, seed=songs)
    lists = rank_users(V, F, k, exclude=exclude, relevant=relevant)
    for user in range(len(V)):
        scores = np.zeros(songs, np.float64)
        for a, b in zip(V[user], F.T, strict=True):
            # Sums of a few float32 products need a double's 53 bits at most, nearly always:
            # then rounding the exact step is the fused step.
            scores = (a.astype(np.float64) * b + scores).astype(np.float32).astype(np.float64)
        out = exclude.songs[exclude.indptr[user] : exclude.indptr[user + 1]]
        scores[out] = -np.inf
        order = np.argsort(-scores, kind="stable")
        assert np.array_equal(lists.indices[user], order[:k])
        rank = np.empty(songs, np.int64)
        rank[order] = np.arange(1, songs + 1)
        own = slice(relevant.indptr[user], relevant.indptr[user + 1])
        assert np.array_equal(np.sort(rank[relevant.songs[own]]), lists.ranks[own])
        assert np.array_equal(rank[lists.rank_songs[own]], lists.ranks[own])


def test_a_threshold_that_lets_too_few_or_too_many_pass_changes_nothing() -> None:
    songs, k = 6000, 300
    step = np.zeros((songs, 2), np.float32)
    step[:, 0] = np.arange(songs) < k // 2  # few songs lead: the sample may miss them all
    step[:, 1] = np.arange(songs) % 7 == 0
    V = np.array([[1, 0], [0, 1], [1, 1], [0, 0]], np.float32)
    lists = rank_users(V, step, k)
    for user, v in enumerate(V):
        order = np.argsort(-(step @ v), kind="stable")
        assert np.array_equal(lists.indices[user], order[:k])
    # All the best songs of the sample excluded: fewer than k survive.
    rising = np.arange(songs, dtype=np.float32)[:, None]
    exclude = song_lists([list(range(songs - 2000, songs))])
    lists = rank_users(np.ones((1, 1), np.float32), rising, k, exclude=exclude)
    assert np.array_equal(lists.indices[0], np.arange(songs - 2001, songs - 2001 - k, -1))


def test_packed_songs_and_any_group_give_the_same_lists() -> None:
    V, F, exclude, relevant = large(150, 4000, 12, seed=6)
    whole = rank_users(V, F, 200, exclude=exclude, relevant=relevant)
    packed = PackedSongs.of(F)
    for group in (1, 8, 40, 1000):
        again = rank_users(V, packed, 200, exclude=exclude, relevant=relevant, group=group)
        assert_same(whole, again)


def test_lists_that_do_not_ascend_are_refused() -> None:
    two = SongLists(np.array([0, 2]), np.array([2, 1], np.int32), np.ones(2, np.int64))
    with pytest.raises(ValueError, match="ascend"):
        rank_users(V1, F3, 2, exclude=two)
