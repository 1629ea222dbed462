"""The ceiling of known classes against every order, simulation and the figures it explains."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusionrec.evaluation.ceiling import expected_average_precision
from fusionrec.evaluation.closed_forms import random_average_precision
from fusionrec.evaluation.metrics import average_precision


def exhaustive(sizes: list[int], relevant: list[int], k: int) -> Fraction:
    """Mean AP@K over all ways to place the relevant songs within their blocks."""
    starts = np.cumsum([0, *sizes[:-1]]).tolist()
    ways = [
        list(combinations(range(o + 1, o + n + 1), r))
        for o, n, r in zip(starts, sizes, relevant, strict=True)
    ]
    placements = [sum(way, ()) for way in product(*ways)]
    total = Fraction(0)
    for ranks in placements:
        total += sum((Fraction(j, r) for j, r in enumerate(ranks, 1) if r <= k), Fraction(0))
    return total / len(placements) / min(sum(relevant), k)


@st.composite
def blocks(draw: st.DrawFn) -> tuple[list[int], list[int], int]:
    sizes = draw(st.lists(st.integers(0, 5), min_size=1, max_size=4))
    relevant = [draw(st.integers(0, n)) for n in sizes]
    return sizes, relevant, draw(st.integers(1, 22))


@settings(max_examples=200, deadline=None)
@given(problem=blocks())
def test_against_all_orders(problem: tuple[list[int], list[int], int]) -> None:
    sizes, relevant, k = problem
    expected = expected_average_precision(sizes, relevant, k)
    if sum(relevant) == 0:
        assert np.isnan(expected)
    else:
        assert float(expected) == pytest.approx(float(exhaustive(sizes, relevant, k)), abs=1e-12)


def test_by_hand() -> None:
    # Second of two blocks of one: rank 2. One of a block of two after one: rank 2 or 3.
    assert expected_average_precision([1, 1], [0, 1], 5) == pytest.approx(1 / 2)
    assert expected_average_precision([1, 2], [0, 1], 5) == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert expected_average_precision([1, 2], [0, 1], 2) == pytest.approx((1 / 2) / 2)
    assert expected_average_precision([3, 4], [3, 0], 5) == pytest.approx(1)


@pytest.mark.parametrize("k", [1, 7, 500])
def test_one_block_is_the_random_level(k: int) -> None:
    songs, relevant = np.array([1, 5, 60, 1881]), np.array([1, 5, 3, 5])
    one = expected_average_precision(songs[:, None], relevant[:, None], k)
    assert one == pytest.approx(random_average_precision(songs, relevant, k), rel=1e-12)


def test_users_at_once_are_users_one_by_one() -> None:
    rng = np.random.default_rng(0)
    sizes = rng.integers(0, 300, size=(50, 6))
    relevant = rng.binomial(sizes, 0.02)
    together = expected_average_precision(sizes, relevant, 500)
    alone = [
        float(expected_average_precision(n, r, 500)) for n, r in zip(sizes, relevant, strict=True)
    ]
    np.testing.assert_allclose(together, alone, rtol=1e-12)


def test_against_simulation_with_ties_between_classes() -> None:
    rng = np.random.default_rng(1)
    songs, classes, relevant, k, orders = 400, 6, 8, 100, 4_000
    of_class = rng.choice(classes, songs, p=[0.4, 0.2, 0.2, 0.1, 0.05, 0.05])
    wanted = rng.choice(songs, relevant, replace=False)
    weights = np.array([0, 3, 7, 3, 0, 1])  # two pairs of classes tie
    noise = rng.random((orders, songs))
    order = np.argsort(-weights[of_class] + noise, axis=1)
    rank = np.argsort(order, axis=1) + 1
    ranks = np.sort(rank[:, wanted], axis=1)
    simulated = average_precision(np.arange(orders + 1) * relevant, ranks.ravel(), k)
    block = np.array([3, 1, 0, 1, 3, 2])[of_class]  # the classes by weight, largest first
    sizes, found = (np.bincount(some, minlength=4) for some in (block, block[wanted]))
    expected = float(expected_average_precision(sizes, found, k))
    error = simulated.std() / np.sqrt(orders)
    assert error < expected / 20
    assert abs(simulated.mean() - expected) < 4 * error


@pytest.mark.parametrize(("classes", "level"), [(3, 0.016), (4, 0.023), (6, 0.033), (13, 0.065)])
def test_bounds_the_papers_map(classes: int, level: float) -> None:
    # 1,881 candidates and 5 relevant songs, the size of van den Oord et al.'s test set.
    own = 1881 // classes
    known = expected_average_precision([own, 1881 - own], [5, 0], 500)
    assert known == pytest.approx(level, abs=0.0015)


def test_out_of_bounds() -> None:
    with pytest.raises(ValueError, match="shape"):
        expected_average_precision([1, 2], [1], 5)
    with pytest.raises(ValueError, match="relevant <= size"):
        expected_average_precision([1, 2], [1, 3], 5)
    with pytest.raises(ValueError, match="k >= 1"):
        expected_average_precision([1, 2], [1, 1], 0)
