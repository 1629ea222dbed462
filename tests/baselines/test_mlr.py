"""Metric learning to rank: the cutting planes, the optimum, and what is learned."""

from itertools import pairwise, permutations

import numpy as np
import pytest

from fusionrec.baselines.mlr import (
    fit_metric,
    most_violated,
    profile_vectors,
    relevant_by_listeners,
    song_factors,
)
from fusionrec.errors import DataError


def feature(x: np.ndarray, q: int, order: tuple[int, ...], good: set[int]) -> np.ndarray:
    """The partial order feature psi of one order, as the paper defines it."""
    place = {song: i for i, song in enumerate(order)}
    bad = set(order) - good
    total = np.zeros((x.shape[1],) * 2)
    for i in good:
        for j in bad:
            sign = 1 if place[i] < place[j] else -1
            phi_i, phi_j = (-np.outer(x[q] - x[s], x[q] - x[s]) for s in (i, j))
            total += sign * (phi_i - phi_j)
    return total / (len(good) * len(bad))


def loss(order: tuple[int, ...], good: set[int]) -> float:
    """1 - AUC."""
    pairs = [(i, j) for i in good for j in set(order) - good]
    return sum(order.index(i) > order.index(j) for i, j in pairs) / len(pairs)


def test_the_most_violated_orders_are_those_of_all_orders() -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(6, 3))
    root = generator.normal(size=(3, 3))
    W = root @ root.T / 10
    indptr, relevant = np.array([0, 2, 2, 3, 3, 3, 3]), np.array([1, 4, 5])
    plane, mean_loss = most_violated(x, W, np.array([0, 2]), indptr, relevant)
    worst = []
    for q, good in ((0, {1, 4}), (2, {5})):
        others = [s for s in range(6) if s != q]
        best = max(
            permutations(others), key=lambda o: loss(o, good) + (W * feature(x, q, o, good)).sum()
        )
        truth = tuple(sorted(others, key=lambda s: s not in good))
        difference = feature(x, q, truth, good) - feature(x, q, best, good)
        worst.append((difference, loss(best, good)))
    # Orders may tie; the violation may not differ.
    expected = np.mean([margin - (W * psi).sum() for psi, margin in worst])
    assert mean_loss - (W * plane).sum() == pytest.approx(expected)
    np.testing.assert_allclose(plane, np.mean([psi for psi, _ in worst], axis=0), atol=1e-12)


@pytest.fixture(scope="module")
def songs() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Songs near each other in 2 of 12 dimensions are relevant to each other."""
    x = np.random.default_rng(1).normal(size=(240, 12))
    distance = np.square(x[:, None, :2] - x[None, :, :2]).sum(-1)
    np.fill_diagonal(distance, np.inf)
    nearest = np.argsort(distance, axis=1)[:, :8]
    return x, np.arange(241) * 8, np.sort(nearest, axis=1).ravel()


def auc(x: np.ndarray, L: np.ndarray, nearest: np.ndarray) -> float:
    y = x @ L.T
    distance = np.square(y[:, None] - y[None]).sum(-1)
    found = []
    for q, good in enumerate(nearest.reshape(-1, 8)):
        rest = np.setdiff1d(np.arange(len(x)), [*good, q])
        found.append((distance[q, good][:, None] < distance[q, rest]).mean())
    return float(np.mean(found))


def test_it_finds_the_dimensions_that_matter(songs) -> None:
    x, indptr, nearest = songs
    metric = fit_metric(x, indptr, nearest, C=1000.0)
    other = np.random.default_rng(2).normal(size=(200, 12))
    distance = np.square(other[:, None, :2] - other[None, :, :2]).sum(-1)
    np.fill_diagonal(distance, np.inf)
    held_out = np.sort(np.argsort(distance, axis=1)[:, :8], axis=1).ravel()
    assert auc(other, np.eye(12), held_out) < 0.8
    assert auc(other, metric.L, held_out) > 0.95
    weight = np.square(metric.L).sum(axis=0)
    assert weight[:2].min() > 10 * weight[2:].max()


def test_the_bounds_meet(songs) -> None:
    x, indptr, nearest = songs
    history = fit_metric(x, indptr, nearest, C=10.0, epsilon=0.001, iterations=100).history
    lower = [step.lower for step in history]
    best = min(step.upper for step in history)
    assert len(history) < 100
    assert (np.diff(lower) > -1e-5 * best).all()
    assert 0 <= best - lower[-1] <= 10.0 * 0.001 + 1e-3 * best


def test_scores_are_mean_similarities(songs) -> None:
    x, indptr, nearest = songs
    metric = fit_metric(x, indptr, nearest, C=10.0)
    profile, candidates = x[:5], x[5:40]
    score = song_factors(metric, candidates) @ profile_vectors(metric, profile).mean(axis=0)
    y, z = profile @ metric.L.T, candidates @ metric.L.T
    similarity = -np.square(z[:, None] - y[None]).sum(-1).mean(axis=1)
    np.testing.assert_allclose(score - similarity, (score - similarity)[0], rtol=1e-3)


def test_similar_songs_have_listeners_in_common() -> None:
    users, songs = np.array([0, 0, 1, 1, 1, 2, 3, 0]), np.array([0, 1, 0, 1, 2, 2, 3, 1])
    # Jaccard: 0 and 1 share both listeners; 2 shares one of three with each; 3 none.
    indptr, relevant = relevant_by_listeners(users, songs, n_songs=5, top=1)
    assert [relevant[a:b].tolist() for a, b in pairwise(indptr)] == [
        [1],
        [0],
        [0],
        [],
        [],
    ]
    indptr, relevant = relevant_by_listeners(users, songs, n_songs=5, top=3)
    assert relevant[: indptr[1]].tolist() == [1, 2]


def test_songs_without_common_listeners() -> None:
    with pytest.raises(DataError, match="no song has listeners in common"):
        fit_metric(np.eye(3), np.zeros(4, int), np.empty(0, int))
