"""Bootstrap intervals against normal theory, coverage and exact cases."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fusionrec.evaluation import intervals, two_way
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


def effects(seed: int, users: int = 400, songs: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Values of five songs a user, shape (users, 5), that the song decides; and which songs."""
    rng = np.random.default_rng(seed)
    of_song, of_user = rng.normal(size=songs), 0.3 * rng.normal(size=(users, 1))
    chosen = np.array([rng.choice(songs, 5, replace=False) for _ in range(users)])
    return of_song[chosen] + of_user + 0.3 * rng.normal(size=chosen.shape), chosen


def sums(values: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    share = 1 / values.shape[1]
    totals = np.bincount(chosen.ravel(), share * values.ravel())
    return totals, np.bincount(chosen.ravel()) * share


def test_songs_that_many_users_share_widen_the_interval_to_what_is_true() -> None:
    means, widths, alone = [], [], []
    for seed in range(60):
        values, chosen = effects(seed)
        means.append(values.mean())
        of_users = values.mean(axis=1)
        ends = [
            bootstrap_mean(of_users, songs=songs, seed=seed, resamples=400)
            for songs in (sums(values, chosen), None)
        ]
        widths.append(ends[0][1] - ends[0][0])
        alone.append(ends[1][1] - ends[1][0])
    true = 2 * Z[0.95] * np.std(means)
    assert np.mean(widths) == pytest.approx(true, rel=0.25)
    assert np.mean(alone) < 0.4 * true


def test_it_is_the_two_way_bootstrap_of_cells() -> None:
    values, chosen = effects(0)
    drawn = two_way.resample(
        np.arange(0, values.size + 1, 5),
        chosen.ravel(),
        {"a": values.ravel()},
        seed=0,
        resamples=4000,
        count="cells",
    )["a"]
    found = bootstrap_mean(values.mean(axis=1), songs=sums(values, chosen), seed=0, resamples=4000)
    low, high = two_way.interval(drawn)
    assert found == pytest.approx((low, high), abs=0.1 * (high - low))


def test_users_of_the_same_song_are_one_draw() -> None:
    """Of a single song there is nothing to draw: the interval is that of the users."""
    values = np.random.default_rng(0).random(40)
    one = np.array([values.sum()]), np.array([40.0])
    assert bootstrap_mean(values, songs=one, seed=1) == pytest.approx(
        bootstrap_mean(values, seed=1)
    )
