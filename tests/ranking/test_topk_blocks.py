"""Ranking block by block against ranking all songs at once."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusionrec.errors import DataError
from fusionrec.ranking.packing import PackedSongs
from fusionrec.ranking.topk import rank_users
from fusionrec.ranking.topk_blocks import rank_in_blocks
from tests.ranking.problems import Problem, assert_same, problems, song_lists

pytestmark = pytest.mark.processor


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
    assert_same(found, rank_users(V, F, k, exclude=out, relevant=own))


def test_many_songs_in_blocks() -> None:
    rng = np.random.default_rng(0)
    V, F = (rng.normal(size=(n, 17)).astype(np.float32) for n in (40, 9000))
    picked = [sorted(rng.permutation(9000)[:60].tolist()) for _ in V]
    out, own = song_lists([p[:30] for p in picked]), song_lists([p[30:] for p in picked])
    blocks = (PackedSongs.of(F[a : a + 2500]) for a in range(0, 9000, 2500))
    vectors = F[np.unique(own.songs)]
    found = rank_in_blocks(V, blocks, 500, exclude=out, relevant=own, relevant_vectors=vectors)
    assert_same(found, rank_users(V, F, 500, exclude=out, relevant=own))


def test_blocks_that_do_not_fit() -> None:
    V, F = np.ones((1, 2), np.float32), np.ones((3, 2), np.float32)
    none, own = song_lists([[]]), song_lists([[5]])
    with pytest.raises(ValueError, match=r"columns outside 0\.\.2"):
        rank_in_blocks(V, [F], 2, exclude=none, relevant=own, relevant_vectors=F[:1])
    with pytest.raises(ValueError, match="3 vectors of 1 relevant"):
        rank_in_blocks(V, [F], 2, exclude=none, relevant=own, relevant_vectors=F)
    with pytest.raises(DataError, match="song column"):
        rank_in_blocks(V, [F * np.nan], 2, exclude=none, relevant=none, relevant_vectors=F[:0])


def test_nobody_has_no_list() -> None:
    V, F, nobody = np.ones((0, 2), np.float32), np.ones((3, 2), np.float32), song_lists([])
    found = rank_in_blocks(V, [F], 2, exclude=nobody, relevant=nobody, relevant_vectors=F[:0])
    assert_same(found, rank_users(V, F, 2, exclude=nobody, relevant=nobody))
    assert found.indices.shape == (0, 2)
