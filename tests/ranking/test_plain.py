"""NumPy alone gives the compiled kernel's lists, to the last bit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings

from fusionrec.probes import Finding
from fusionrec.ranking import on_cpu
from fusionrec.ranking.plain import multiply_add
from fusionrec.ranking.topk import rank_users
from fusionrec.ranking.topk_blocks import rank_in_blocks
from tests.ranking.problems import Problem, assert_same, exactly, large, problems, song_lists

pytestmark = pytest.mark.processor


@contextmanager
def compiled_code_that(works: bool) -> Iterator[None]:
    """As on a processor on which the trial of compiled code ends so."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(on_cpu, "compiled_code", lambda: Finding(works, "as the test says"))
        yield


@settings(max_examples=60, deadline=None)
@given(problem=problems())
def test_numpy_alone_gives_the_same_lists(problem: Problem) -> None:
    V, F, k, excluded, relevant = problem
    out, own = song_lists(excluded), song_lists(relevant)
    expected = rank_users(V, F, k, exclude=out, relevant=own)
    with compiled_code_that(False):
        assert_same(rank_users(V, F, k, exclude=out, relevant=own), expected)


def test_numpy_alone_gives_the_same_lists_in_blocks() -> None:
    V, F, exclude, relevant = large(20, 3000, 17, seed=8)
    expected = rank_users(V, F, 200, exclude=exclude, relevant=relevant)
    vectors = F[np.unique(relevant.songs)]
    blocks = [F[:1000], F[1000:1001], F[1001:]]
    arguments = {"exclude": exclude, "relevant": relevant, "relevant_vectors": vectors}
    assert_same(rank_in_blocks(V, blocks, 200, **arguments), expected)
    one = np.ones((1, 1), np.float32)
    three = np.array([[1.0], [3.0], [2.0]], np.float32)
    with compiled_code_that(False):
        assert_same(rank_in_blocks(V, blocks, 200, **arguments), expected)
        with pytest.raises(ValueError, match="song column 1 is both relevant and excluded"):
            rank_users(one, three, 2, exclude=song_lists([[1]]), relevant=song_lists([[1, 2]]))


def test_numpys_multiply_add_rounds_once() -> None:
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(2, 3000)).astype(np.float32)
    c = (-(a * b) * rng.choice([1, 1 + 2**-20, 0.5, 1e-7, 3], 3000)).astype(np.float32)
    assert np.array_equal(multiply_add(a, b, c), exactly(a, b, c))
