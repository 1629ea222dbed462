"""Ranking on a device of PyTorch gives the compiled kernel's lists, to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fusionrec.ranking.lists import RankedLists
from fusionrec.ranking.on_device import multiply_add, rank_on_device
from fusionrec.ranking.topk import rank_users
from tests.ranking.problems import assert_same, exactly, large

pytestmark = pytest.mark.processor


def test_the_emulated_multiply_add_rounds_once() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(2, 3000)).astype(np.float32)
    c = (-(a * b) * rng.choice([1, 1 + 2**-20, 0.5, 1e-7, 3], 3000)).astype(np.float32)
    found = multiply_add(*(torch.from_numpy(x) for x in (a, b, c))).numpy()
    assert np.array_equal(found, exactly(a, b, c))
    assert not np.array_equal(found, a * b + c)  # these numbers can tell


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
