"""Bootstrap intervals against normal theory, coverage and exact cases."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fusionrec.evaluation import intervals
from fusionrec.evaluation.intervals import bootstrap_mean

Z = {0.8: 1.2816, 0.95: 1.96}


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_against_normal_theory(level: float) -> None:
    values = np.random.default_rng(0).gamma(2.0, size=2_000)
    low, high = bootstrap_mean(values, seed=1, resamples=4_000, level=level)
    half = Z[level] * values.std() / math.sqrt(len(values))
    assert low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_covers_the_true_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(2)
    covered = 0
    for seed in range(200):
        low, high = bootstrap_mean(rng.exponential(size=100), seed=seed, resamples=300, level=0.8)
        covered += low <= 1 <= high
    assert 0.68 < covered / 200 < 0.88


def test_two_values_are_binomial() -> None:
    # The mean of n draws from {0, 1} is 0 with probability 2^-n: the 95 % interval of n = 4
    # is all of [0, 1], the 80 % one [1/4, 3/4].
    values = np.array([0.0, 1.0, 0.0, 1.0])
    assert bootstrap_mean(values, seed=0, level=0.95) == (0.0, 1.0)
    assert bootstrap_mean(values, seed=0, level=0.8) == (0.25, 0.75)


def test_deterministic_by_seed() -> None:
    values = np.random.default_rng(0).random(50)
    assert bootstrap_mean(values, seed=5) == bootstrap_mean(values, seed=5)
    assert bootstrap_mean(values, seed=5) != bootstrap_mean(values, seed=6)


@pytest.mark.parametrize("chunk", [100, 250, 64, 7])
def test_chunks_do_not_change_the_draws(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    values = np.random.default_rng(0).random(100)
    whole = bootstrap_mean(values, seed=5, resamples=200)
    monkeypatch.setattr(intervals, "_CHUNK", chunk)
    assert bootstrap_mean(values, seed=5, resamples=200) == pytest.approx(whole, rel=1e-12)


def test_undefined_values_are_left_out() -> None:
    values = np.random.default_rng(0).random(40)
    with_gaps = np.insert(values, [3, 10, 10], np.nan)
    assert bootstrap_mean(with_gaps, seed=1) == bootstrap_mean(values, seed=1)
    assert all(math.isnan(end) for end in bootstrap_mean(np.array([np.nan]), seed=1))
    assert bootstrap_mean(np.array([0.25]), seed=1) == (0.25, 0.25)


@pytest.mark.parametrize(("resamples", "level"), [(0, 0.95), (10, 0.0), (10, 1.0)])
def test_out_of_bounds(resamples: int, level: float) -> None:
    with pytest.raises(ValueError, match="resamples"):
        bootstrap_mean(np.ones(3), seed=0, resamples=resamples, level=level)
