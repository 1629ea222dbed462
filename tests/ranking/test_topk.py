"""The ranking kernel against a full sort, with and without ties."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fusionrec.errors import DataError
from fusionrec.ranking.protocols import SongLists
from fusionrec.ranking.topk import RankedLists, rank_users


def song_lists(rows: list[list[int]]) -> SongLists:
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    songs = np.array([s for row in rows for s in sorted(row)], dtype=np.int32)
    return SongLists(indptr, songs, np.ones(len(songs), dtype=np.int64))


def by_full_sort(
    V: NDArray[np.float32], F: NDArray[np.float32], excluded: list[list[int]]
) -> list[list[int]]:
    """All candidates of every user in order, by Python's own sort."""
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


Problem = tuple[NDArray[np.float32], NDArray[np.float32], int, list[list[int]], list[list[int]]]


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    users, songs, d = draw(st.integers(1, 6)), draw(st.integers(1, 25)), draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    levels = draw(st.sampled_from([1, 2, 4, 1000]))  # few levels: nearly everything ties
    V = rng.integers(-levels, levels + 1, size=(users, d)) / np.float32(levels)
    F = rng.integers(0, levels + 1, size=(songs, d)) / np.float32(3 * levels)
    kinds = rng.integers(0, 3, size=(users, songs))
    excluded = [np.flatnonzero(row == 0).tolist() for row in kinds]
    relevant = [np.flatnonzero(row == 1).tolist() for row in kinds]
    return V.astype(np.float32), F.astype(np.float32), draw(st.integers(1, 30)), excluded, relevant


@settings(max_examples=150, deadline=None)
@given(problem=problems(), byte_budget=st.sampled_from([1, 1000, 4 * 2**20]))
def test_lists_and_ranks_are_those_of_a_full_sort(problem: Problem, byte_budget: int) -> None:
    V, F, k, excluded, relevant = problem
    lists = rank_users(
        V,
        F,
        k,
        exclude=song_lists(excluded),
        relevant=song_lists(relevant),
        byte_budget=byte_budget,
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
        blocked = rank_users(V, F, 101, relevant=relevant, byte_budget=users * 13 * songs)
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
        rank_users(V, F, 1, byte_budget=1)


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
