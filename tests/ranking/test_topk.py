"""The ranking kernel against a full sort, with and without ties."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fusionrec.errors import DataError
from fusionrec.probes import Finding
from fusionrec.ranking import kernel, plain, topk
from fusionrec.ranking.protocols import SongLists
from fusionrec.ranking.topk import PackedSongs, RankedLists, rank_users
from fusionrec.ranking.topk_blocks import rank_in_blocks
from fusionrec.ranking.topk_torch import multiply_add, rank_on_device


def song_lists(rows: list[list[int]]) -> SongLists:
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    songs = np.array([s for row in rows for s in sorted(row)], dtype=np.int32)
    return SongLists(indptr, songs, np.ones(len(songs), dtype=np.int64))


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


def test_the_emulated_multiply_add_rounds_once() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(2, 3000)).astype(np.float32)
    c = (-(a * b) * rng.choice([1, 1 + 2**-20, 0.5, 1e-7, 3], 3000)).astype(np.float32)
    found = multiply_add(*(torch.from_numpy(x) for x in (a, b, c))).numpy()
    assert np.array_equal(found, exactly(a, b, c))
    assert not np.array_equal(found, a * b + c)  # these numbers can tell


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
    for name in ("indices", "scores", "counts", "candidates", "ranks", "rank_songs"):
        assert np.array_equal(getattr(a, name), getattr(b, name), equal_nan=name == "scores"), name


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


def test_a_device_gives_the_same_lists() -> None:
    V, F, exclude, relevant = large(40, 3000, 7, seed=5)
    V[3], F[100:200] = 0, 0
    lists = rank_users(V, F, 120, exclude=exclude, relevant=relevant)
    other = rank_users(V[:0], F, 120)
    other = RankedLists(
        *(np.zeros_like(x) for x in (lists.indices, lists.scores, lists.counts, lists.candidates)),
        lists.rank_indptr,
        np.zeros_like(lists.ranks),
        np.zeros_like(lists.ranks),
    )
    rank_on_device(V, F, exclude, relevant, other, "cpu", block_bytes=3000 * 40 * 7)
    assert_same(lists, other)
    if torch.cuda.is_available():
        assert_same(lists, rank_users(V, F, 120, exclude=exclude, relevant=relevant, device="cuda"))


def test_packed_songs_and_any_group_give_the_same_lists() -> None:
    V, F, exclude, relevant = large(150, 4000, 12, seed=6)
    whole = rank_users(V, F, 200, exclude=exclude, relevant=relevant)
    packed = PackedSongs.of(F)
    for group in (1, 8, 40, 1000):
        again = rank_users(V, packed, 200, exclude=exclude, relevant=relevant, group=group)
        assert_same(whole, again)


def test_another_processor_gives_the_same_lists(tmp_path: Path) -> None:
    V, F, exclude, relevant = large(60, 4000, 12, seed=7)
    here = rank_users(V, F, 200, exclude=exclude, relevant=relevant)
    np.savez(
        tmp_path / "problem.npz",
        V=V,
        F=F,
        **{f"e{n}": x for n, x in vars(exclude).items()},
        **{f"r{n}": x for n, x in vars(relevant).items()},
    )
    code = """
import sys, numpy as np
from fusionrec.ranking.protocols import SongLists
from fusionrec.ranking.topk import rank_users
from fusionrec.ranking.vector_code import LANES
p = np.load(sys.argv[1])
exclude, relevant = (SongLists(p[n + "indptr"], p[n + "songs"], p[n + "plays"]) for n in "er")
found = rank_users(p["V"], p["F"], 200, exclude=exclude, relevant=relevant)
np.savez(sys.argv[2], lanes=LANES, **vars(found))
"""
    # A processor of 2013 with fused multiply-adds, or any one at all without.
    generic = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    environment = {**os.environ, **generic, "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", code, str(tmp_path / "problem.npz"), str(tmp_path / "out.npz")]
    subprocess.run(command, env=environment, check=True)
    found = np.load(tmp_path / "out.npz")
    assert found["lanes"] == 8
    for name in ("indices", "scores", "ranks", "rank_songs", "counts", "candidates"):
        assert np.array_equal(found[name], getattr(here, name), equal_nan=name == "scores"), name


@settings(max_examples=60, deadline=None)
@given(problem=problems())
def test_numpy_alone_gives_the_same_lists(problem: Problem) -> None:
    V, F, k, excluded, relevant = problem
    out, own = song_lists(excluded), song_lists(relevant)
    expected = rank_users(V, F, k, exclude=out, relevant=own)
    with compiled_code_that(False):
        same(rank_users(V, F, k, exclude=out, relevant=own), expected)


def test_numpy_alone_gives_the_same_lists_in_blocks() -> None:
    V, F, exclude, relevant = large(20, 3000, 17, seed=8)
    expected = rank_users(V, F, 200, exclude=exclude, relevant=relevant)
    vectors = F[np.unique(relevant.songs)]
    blocks = [F[:1000], F[1000:1001], F[1001:]]
    arguments = {"exclude": exclude, "relevant": relevant, "relevant_vectors": vectors}
    same(rank_in_blocks(V, blocks, 200, **arguments), expected)
    with compiled_code_that(False):
        same(rank_in_blocks(V, blocks, 200, **arguments), expected)
        with pytest.raises(ValueError, match="song column 1 is both relevant and excluded"):
            rank_users(V1, F3, 2, exclude=song_lists([[1]]), relevant=song_lists([[1, 2]]))


@contextmanager
def compiled_code_that(works: bool) -> Iterator[None]:
    """As on a processor on which the trial of compiled code ends so."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(topk, "compiled_code", lambda: Finding(works, "as the test says"))
        yield


@pytest.mark.parametrize("wrong", ["raises", "loses a song", "rounds otherwise"])
def test_compiled_code_that_is_wrong_here_is_found_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, wrong: str
) -> None:
    rank_group = kernel.rank_group

    def otherwise(*arguments: Any) -> tuple[int, int, int]:
        if wrong == "raises":
            raise RuntimeError("LLVM ERROR: Cannot select: intrinsic")
        found = rank_group(*arguments)
        indices, listed = arguments[16], arguments[17]
        if wrong == "loses a song":
            indices[-1, 7:-1] = indices[-1, 8:].copy()
        else:
            listed[0, 3] = np.nextafter(listed[0, 3], np.float32(0))
        return found

    monkeypatch.setattr(kernel, "rank_group", otherwise)
    finding = topk.compiled_code.__wrapped__()
    assert not finding.works
    assert finding.reason in caplog.text
    assert "ranking: NumPy" in caplog.text


def test_compiled_code_works_here(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="fusionrec"):
        assert topk.compiled_code.__wrapped__().works
    assert "ranking: compiled code (right on known numbers; " in caplog.text


def test_numpys_multiply_add_rounds_once() -> None:
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(2, 3000)).astype(np.float32)
    c = (-(a * b) * rng.choice([1, 1 + 2**-20, 0.5, 1e-7, 3], 3000)).astype(np.float32)
    assert np.array_equal(plain.multiply_add(a, b, c), exactly(a, b, c))


def test_lists_that_do_not_ascend_are_refused() -> None:
    two = SongLists(np.array([0, 2]), np.array([2, 1], np.int32), np.ones(2, np.int64))
    with pytest.raises(ValueError, match="ascend"):
        rank_users(V1, F3, 2, exclude=two)


def same(a: RankedLists, b: RankedLists) -> None:
    for name in ("indices", "scores", "counts", "candidates", "rank_indptr", "ranks", "rank_songs"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


@settings(max_examples=150, deadline=None)
@given(problems(), st.lists(st.integers(0, 25), max_size=4))
def test_blocks_of_songs_give_the_lists_of_all_at_once(problem: Problem, cuts: list[int]) -> None:
    V, F, k, excluded, relevant = problem
    out, own = song_lists(excluded), song_lists(relevant)
    ends = sorted({min(cut, len(F)) for cut in cuts} | {0, len(F)})
    blocks = [F[a:b] for a, b in pairwise(ends)]
    found = rank_in_blocks(
        V, blocks, k, exclude=out, relevant=own, relevant_vectors=F[np.unique(own.songs)]
    )
    same(found, rank_users(V, F, k, exclude=out, relevant=own))


def test_many_songs_in_blocks() -> None:
    rng = np.random.default_rng(0)
    V, F = (rng.normal(size=(n, 17)).astype(np.float32) for n in (40, 9000))
    picked = [sorted(rng.permutation(9000)[:60].tolist()) for _ in V]
    out, own = song_lists([p[:30] for p in picked]), song_lists([p[30:] for p in picked])
    blocks = (PackedSongs.of(F[a : a + 2500]) for a in range(0, 9000, 2500))
    vectors = F[np.unique(own.songs)]
    found = rank_in_blocks(V, blocks, 500, exclude=out, relevant=own, relevant_vectors=vectors)
    same(found, rank_users(V, F, 500, exclude=out, relevant=own))


def test_blocks_that_do_not_fit() -> None:
    V, F = np.ones((1, 2), np.float32), np.ones((3, 2), np.float32)
    none, own = song_lists([[]]), song_lists([[5]])
    with pytest.raises(ValueError, match=r"columns outside 0\.\.2"):
        rank_in_blocks(V, [F], 2, exclude=none, relevant=own, relevant_vectors=F[:1])
    with pytest.raises(ValueError, match="3 vectors of 1 relevant"):
        rank_in_blocks(V, [F], 2, exclude=none, relevant=own, relevant_vectors=F)
    with pytest.raises(DataError, match="song column"):
        rank_in_blocks(V, [F * np.nan], 2, exclude=none, relevant=none, relevant_vectors=F[:0])
