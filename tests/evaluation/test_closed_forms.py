"""The random level against every order of a few songs, and against random orders of many."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest

from fusionrec.evaluation.closed_forms import random_average_precision
from fusionrec.evaluation.metrics import auc, average_precision


def exhaustive(songs: int, relevant: int, k: int) -> Fraction:
    """Mean AP@K over all ways to place the relevant songs (all orders, up to repetition)."""
    placements = list(combinations(range(1, songs + 1), relevant))
    total = Fraction(0)
    for ranks in placements:
        found = sum((Fraction(j, r) for j, r in enumerate(ranks, 1) if r <= k), Fraction(0))
        total += found / min(relevant, k)
    return total / len(placements)


@pytest.mark.parametrize("songs", [1, 2, 3, 6, 8])
@pytest.mark.parametrize("k", [1, 2, 5, 8, 20])
def test_against_all_orders(songs: int, k: int) -> None:
    relevant = np.arange(1, songs + 1)
    levels = random_average_precision(np.full(songs, songs), relevant, k)
    assert levels == pytest.approx([float(exhaustive(songs, int(r), k)) for r in relevant])


def test_by_hand() -> None:
    # One relevant song of N: the mean of 1/rank over the first K places.
    assert random_average_precision(4, 1, 3) == pytest.approx((1 + 1 / 2 + 1 / 3) / 4)
    assert random_average_precision(5, 5, 3) == pytest.approx(1)


def test_against_simulation_at_the_papers_size() -> None:
    rng = np.random.default_rng(0)
    songs, relevant, k, orders = 1881, 5, 500, 20_000
    drawn = rng.integers(1, songs + 1, size=(orders, relevant))
    drawn.sort(axis=1)
    distinct = drawn[(np.diff(drawn, axis=1) > 0).all(axis=1)]  # given distinct, uniform
    indptr = np.arange(len(distinct) + 1) * relevant
    simulated = average_precision(indptr, distinct.ravel(), k)
    error = simulated.std() / np.sqrt(len(simulated))
    level = float(random_average_precision(songs, relevant, k))
    assert abs(simulated.mean() - level) < 4 * error
    assert error < level / 20
    areas = auc(indptr, distinct.ravel(), np.full(len(distinct), songs))
    assert abs(areas.mean() - 0.5) < 4 * areas.std() / np.sqrt(len(areas))


def test_broadcasts() -> None:
    levels = random_average_precision(np.array([[10], [20]]), np.array([1, 2, 3]), 5)
    assert levels.shape == (2, 3)
    assert levels[1, 2] == random_average_precision(20, 3, 5)
    assert random_average_precision([], [], 5).shape == (0,)


@pytest.mark.parametrize(("songs", "relevant", "k"), [(3, 0, 5), (3, 4, 5), (3, 1, 0)])
def test_out_of_bounds(songs: int, relevant: int, k: int) -> None:
    with pytest.raises(ValueError, match="random level"):
        random_average_precision(songs, relevant, k)
