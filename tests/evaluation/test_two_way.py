"""The two-way bootstrap against a plain loop, variance theory, coverage and exact cases."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from fusionrec.errors import DataError
from fusionrec.evaluation import two_way
from fusionrec.evaluation.intervals import bootstrap_mean
from fusionrec.evaluation.metrics import average_precision
from fusionrec.evaluation.two_way import interval, paired, precisions, resample

Cells = tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int64]]


def some_cells(seed: int, users: int = 30, songs: int = 12) -> Cells:
    """Offsets, songs and ranks of users with 0 to 4 relevant songs each."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(0, 5, size=users)
    indptr = np.concatenate([[0], np.cumsum(sizes)])
    own = [rng.choice(songs, n, replace=False) for n in sizes]
    ranks = [np.sort(rng.choice(40, n, replace=False)) + 1 for n in sizes]
    return indptr, np.concatenate(own).astype(np.int32), np.concatenate(ranks)


def test_precisions_add_up_to_average_precision() -> None:
    assert precisions(np.array([0, 2, 3]), np.array([1, 3, 6]), 5) == pytest.approx([1, 2 / 3, 0])
    indptr, _, ranks = some_cells(0)
    sums = np.add.reduceat(np.append(precisions(indptr, ranks, 10), 0.0), indptr[:-1])
    some = np.diff(indptr) > 0
    expected = average_precision(indptr, ranks, 10)[some]
    assert sums[some] / np.diff(indptr)[some] == pytest.approx(expected)


@pytest.mark.parametrize("both", [True, False])
@pytest.mark.parametrize("count", ["users", "cells"])
@pytest.mark.parametrize("chunk", [two_way._CHUNK, 130, 1])
def test_against_a_plain_loop(
    monkeypatch: pytest.MonkeyPatch, both: bool, count: Literal["users", "cells"], chunk: int
) -> None:
    monkeypatch.setattr(two_way, "_CHUNK", chunk)
    indptr, songs, ranks = some_cells(1)
    users, artists = len(indptr) - 1, 12
    people = np.arange(users) % 11  # rows of one user in several folds
    assert len(np.unique(people[np.diff(indptr) > 0])) == 11
    assert len(np.unique(songs)) == artists
    values = {"a": precisions(indptr, ranks, 20), "b": np.random.default_rng(2).random(len(songs))}

    drawn = []
    times = two_way._times_drawn

    def remembered(generator: np.random.Generator, clusters: int) -> NDArray[np.float64]:
        drawn.append(times(generator, clusters))
        return drawn[-1]

    monkeypatch.setattr(two_way, "_times_drawn", remembered)
    draws = resample(
        indptr, songs, values, clusters=people, seed=3, resamples=25, two_way=both, count=count
    )
    assert all(counts.sum() == len(counts) for counts in drawn)
    for b in range(25):
        w, m = (drawn[2 * b], drawn[2 * b + 1]) if both else (drawn[b], np.ones(artists))
        for name, P in values.items():
            above = below = 0.0
            for u in range(users):
                cells = range(indptr[u], indptr[u + 1])
                divisor = sum(m[songs[c]] for c in cells)
                if divisor > 0:
                    found = sum(m[songs[c]] * P[c] for c in cells)
                    counted = divisor / len(cells) if count == "cells" else 1
                    above += w[people[u]] * counted * found / divisor
                    below += w[people[u]] * counted
            assert draws[name][b] == pytest.approx(above / below, rel=1e-12)


@pytest.mark.parametrize("count", ["users", "cells"])
def test_all_weights_one_give_the_exact_mean(
    monkeypatch: pytest.MonkeyPatch, count: Literal["users", "cells"]
) -> None:
    monkeypatch.setattr(two_way, "_times_drawn", lambda generator, clusters: np.ones(clusters))
    indptr, songs, ranks = some_cells(4)
    P = {"a": precisions(indptr, ranks, 25)}
    draws = resample(indptr, songs, P, seed=0, resamples=3, count=count)
    expected = np.nanmean(average_precision(indptr, ranks, 25))
    assert draws["a"] == pytest.approx([expected] * 3, rel=1e-12)


def test_users_only_agrees_with_the_bootstrap_of_the_mean() -> None:
    indptr, songs, ranks = some_cells(5, users=400)
    P = {"a": precisions(indptr, ranks, 40)}
    draws = resample(indptr, songs, P, seed=1, resamples=8_000, two_way=False)["a"]
    per_user = average_precision(indptr, ranks, 40)
    low, high = bootstrap_mean(per_user, seed=2, resamples=8_000)
    # The standard error of an end of the interval is some 1/50 of its length here.
    assert interval(draws) == pytest.approx((low, high), abs=0.05 * (high - low))
    assert draws.mean() == pytest.approx(np.nanmean(per_user), abs=0.02 * (high - low))


def effects(
    rng: np.random.Generator, users: int, songs: int, relevant: int, of_songs: float
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float64]]:
    """Values 1 + user effect + song effect + noise."""
    indptr = np.arange(users + 1) * relevant
    own = np.argsort(rng.random((users, songs)), axis=1)[:, :relevant].ravel().astype(np.int32)
    a, b = rng.normal(0, 0.3, users), rng.normal(0, of_songs, songs)
    noise = rng.normal(0, 0.1, users * relevant)
    return indptr, own, 1 + np.repeat(a, relevant) + b[own] + noise


def test_variance_has_the_parts_of_users_and_songs() -> None:
    users, songs, relevant, of_songs = 600, 60, 5, 0.5
    variances = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        indptr, own, P = effects(rng, users, songs, relevant, of_songs)
        cells = indptr, own, {"a": P}
        both = resample(*cells, seed=seed, resamples=300)["a"].var()
        by_cell = resample(*cells, seed=seed, resamples=300, count="cells")["a"].var()
        alone = resample(*cells, seed=seed, resamples=300, two_way=False)["a"].var()
        variances.append([both, by_cell, alone])
    both, by_cell, alone = np.mean(variances, axis=0)
    # Users: sigma_a^2 + sigma_b^2 / relevant over U; songs: sigma_b^2 / S for the mean over them.
    expected_users = (0.3**2 + of_songs**2 / relevant) / users
    expected = of_songs**2 / songs + expected_users
    assert alone == pytest.approx(expected_users, rel=0.15)
    assert both > 8 * alone
    assert by_cell == pytest.approx(expected, rel=0.2)
    assert 0.55 * expected < both < 0.9 * expected  # AP*_u evens the m of its songs out


def test_covers_the_mean_over_other_users_and_songs() -> None:
    rng = np.random.default_rng(7)
    both = by_cell = users_only = 0
    simulations = 150
    for seed in range(simulations):
        indptr, own, P = effects(rng, 120, 40, 4, 0.3)
        cells = indptr, own, {"a": P}
        kinds = (
            resample(*cells, seed=seed, resamples=200),
            resample(*cells, seed=seed, resamples=200, count="cells"),
            resample(*cells, seed=seed, resamples=200, two_way=False),
        )
        covered = [low <= 1 <= high for low, high in (interval(k["a"], 0.8) for k in kinds)]
        both, by_cell = both + covered[0], by_cell + covered[1]
        users_only += covered[2]
    assert 0.66 < both / simulations < 0.95
    assert 0.7 < by_cell / simulations < 0.95
    assert users_only / simulations < 0.65


def test_without_an_effect_of_songs_the_interval_is_not_shorter() -> None:
    indptr, own, P = effects(np.random.default_rng(8), 400, 40, 5, 0.0)
    both = resample(indptr, own, {"a": P}, seed=0, resamples=2_000)["a"].std()
    alone = resample(indptr, own, {"a": P}, seed=0, resamples=2_000, two_way=False)["a"].std()
    assert 0.95 * alone < both < 3**0.5 * alone


def test_rows_of_a_cluster_are_drawn_together() -> None:
    indptr, songs, ranks = some_cells(9, users=100)
    P = precisions(indptr, ranks, 40)
    once = resample(indptr, songs, {"a": P}, seed=1, resamples=50, two_way=False)["a"]
    twice = resample(
        np.concatenate([indptr, indptr[-1] + indptr[1:]]),
        np.tile(songs, 2),
        {"a": np.tile(P, 2)},
        clusters=np.tile(np.arange(100), 2) * 7 - 3,
        seed=1,
        resamples=50,
        two_way=False,
    )["a"]
    assert twice == pytest.approx(once, rel=1e-12)


def test_deterministic_by_seed_and_paired() -> None:
    indptr, songs, ranks = some_cells(10)
    P = precisions(indptr, ranks, 40)
    first = resample(indptr, songs, {"a": P, "b": P / 2 + 1}, seed=1, resamples=30)
    again = resample(indptr, songs, {"b": P / 2 + 1}, seed=1, resamples=30)
    other = resample(indptr, songs, {"a": P}, seed=2, resamples=30)
    assert np.array_equal(first["b"], again["b"])
    assert not np.array_equal(first["a"], other["a"])
    assert first["b"] == pytest.approx(first["a"] / 2 + 1)


def test_no_user_left_is_nan_and_in_no_interval() -> None:
    # Two users with a song each: a resample that draws user 0 alone and song 1 alone has none.
    draws = resample(
        np.array([0, 1, 2]), np.array([0, 1]), {"a": np.array([0.2, 0.6])}, seed=0, resamples=4_000
    )["a"]
    assert np.isnan(draws).mean() == pytest.approx(2 * (1 / 4) ** 2, abs=0.02)
    assert interval(draws, 0.95) == (0.2, 0.6)
    assert all(np.isnan(end) for end in interval(np.array([np.nan]), 0.95))


def test_difference_by_hand() -> None:
    draws = np.array([-1.0] + [2.0] * 38)
    difference = paired(draws, np.zeros(39), 1.5, level=0.9)
    assert (difference.mean, difference.low, difference.high) == (1.5, 2.0, 2.0)
    assert difference.p == pytest.approx(2 * 2 / 40)
    assert paired(np.zeros(39), draws, -1.5).p == difference.p
    assert paired(draws, np.full(39, -5.0), 6.5).p == pytest.approx(2 * 1 / 40)
    assert paired(draws, draws, 0.0).p == 1.0


def test_p_value_agrees_with_the_normal_one() -> None:
    rng = np.random.default_rng(11)
    draws = rng.normal(2.0, 1.0, size=100_000)  # z = 2: p = 0.0455
    assert paired(draws, np.zeros(100_000), 2.0).p == pytest.approx(0.0455, abs=0.003)


def test_what_does_not_fit() -> None:
    one = {"a": np.ones(2)}
    indptr, songs = np.array([0, 2]), np.array([0, 1])
    with pytest.raises(DataError, match="no user"):
        resample(np.array([0, 0]), np.array([], int), {"a": np.ones(0)}, seed=0, resamples=1)
    with pytest.raises(ValueError, match="resamples"):
        resample(indptr, songs, one, seed=0, resamples=0)
    with pytest.raises(ValueError, match="count is 'songs'"):
        resample(indptr, songs, one, seed=0, resamples=1, count="songs")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="offsets"):
        resample(np.array([0, 3]), songs, one, seed=0, resamples=1)
    with pytest.raises(ValueError, match="clusters"):
        resample(indptr, songs, one, clusters=np.arange(2), seed=0, resamples=1)
    with pytest.raises(ValueError, match="a: "):
        resample(indptr, songs, {"a": np.ones(3)}, seed=0, resamples=1)
    with pytest.raises(ValueError, match="paired"):
        paired(np.ones(2), np.ones(3), 0.0)
    with pytest.raises(ValueError, match="level"):
        interval(np.ones(2), 1.0)
