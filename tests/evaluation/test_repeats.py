"""Repetitions drawn with replacement have the variance of their mean."""

import numpy as np
import pytest

from fusionrec.evaluation.repeats import over_repeats, times_drawn


@pytest.mark.parametrize("n", [2, 3, 5])
def test_the_spread_is_the_standard_error_of_a_mean_of_so_many(n) -> None:
    values = np.random.default_rng(0).normal(size=n)
    resamples = 40_000
    times = times_drawn(n, resamples, seed=1, purpose=0)
    found = over_repeats(np.repeat(values[:, None], resamples, axis=1), times)
    assert found.mean() == pytest.approx(values.mean(), abs=0.02)
    assert found.std() == pytest.approx(values.std(ddof=1) / np.sqrt(n), rel=0.03)


def test_of_one_repetition_nothing_is_added() -> None:
    draws = np.random.default_rng(0).normal(size=(1, 50))
    times = times_drawn(1, 50, seed=0, purpose=0)
    np.testing.assert_array_equal(over_repeats(draws, times), draws[0])


def test_what_is_paired_moves_together_and_what_is_not_does_not() -> None:
    one, same = (times_drawn(4, 2_000, seed=3, purpose=7) for _ in range(2))
    other = times_drawn(4, 2_000, seed=3, purpose=8)
    np.testing.assert_array_equal(one, same)
    assert abs(np.corrcoef(one[:, 0], other[:, 0])[0, 1]) < 0.1
