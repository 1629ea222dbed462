"""K-Means over label vectors, and the elbow curve (paper sections 3.1 and 5.1)."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from fusionrec.errors import DataError


@dataclass(frozen=True)
class Classes:
    """k clusters, numbered by falling number of songs.

    Attributes
    ----------
    centroids
        Float32, shape (k, m).
    inertia
        Sum over songs of the squared distance to their centroid.
    """

    centroids: np.ndarray
    inertia: float

    def predict(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Nearest centroid, int32 (n,), and the distance to it, float32 (n,)."""
        distances = _distances(X, self.centroids)
        nearest = distances.argmin(axis=1)
        return nearest.astype(np.int32), distances[np.arange(len(X)), nearest].astype(np.float32)


def fit_kmeans(
    X: np.ndarray, k: int, *, sample_weight: np.ndarray, seed: int, n_init: int = 10
) -> Classes:
    """Cluster the vectors of distinct tag lists.

    Each list weighs as many as the songs that carry it: the objective is the paper's,
    over all songs, at a small part of the cost (3,063 rows instead of 116,479).

    Parameters
    ----------
    X
        Float32, shape (lists, m).
    k
        Number of classes.
    sample_weight
        Songs of each list, shape (lists,).
    seed, n_init
        Of scikit-learn's KMeans; the best of `n_init` starts is kept.

    Raises
    ------
    DataError
        If there are fewer distinct vectors than classes.
    """
    from sklearn.cluster import KMeans  # a second: for the few workers that need it

    distinct = len(np.unique(X, axis=0))
    if distinct < k:
        raise DataError(
            f"label.k is {k}, but the training songs have {distinct} distinct tag lists; "
            "lower label.k"
        )
    model = KMeans(k, n_init=n_init, random_state=seed).fit(X, sample_weight=sample_weight)
    songs = np.bincount(model.labels_, weights=sample_weight, minlength=k)
    order = np.lexsort((np.arange(k), -songs))
    return Classes(model.cluster_centers_[order].astype(np.float32), float(model.inertia_))


def elbow_start(
    X: np.ndarray, k: int, *, sample_weight: np.ndarray, seed: int
) -> np.ndarray | None:
    """Centroids of the best of 3 random starts, for :func:`elbow`; float32 (k, m).

    None where there are fewer distinct vectors than k. Those of several k are independent of
    each other, and may be computed in parallel.
    """
    if k > len(np.unique(X, axis=0)):
        return None
    with _clusters_may_coincide():
        return fit_kmeans(X, k, sample_weight=sample_weight, seed=seed, n_init=3).centroids


def elbow(
    X: np.ndarray, starts: Iterable[np.ndarray], *, sample_weight: np.ndarray
) -> list[tuple[int, float]]:
    """(k, inertia) for each k, the elbow method's curve (paper 3.3, figures 4 and 5).

    It never rises: besides its own start, each k is fitted from the centroids of the k before
    and the songs that cost most beside them, whose inertia is lower, and Lloyd's steps only
    lower it further.

    Parameters
    ----------
    starts
        Centroids to start from, of rising k: :func:`elbow_start`.
    """
    from sklearn.cluster import KMeans

    points = X.astype(np.float64)  # in float32, rounding might raise what may not rise
    curve: list[tuple[int, float]] = []
    centroids: np.ndarray | None = None
    for start in starts:
        seeds = [start.astype(np.float64)]
        if centroids is not None:
            seeds.append(_grown(points, centroids, len(start), sample_weight))
        with _clusters_may_coincide():
            fits = [
                KMeans(len(seed), init=seed, n_init=1).fit(points, sample_weight=sample_weight)
                for seed in seeds
            ]
        best = min(fits, key=lambda fit: float(fit.inertia_))
        centroids = best.cluster_centers_
        curve.append((len(start), float(best.inertia_)))
    return curve


@contextmanager
def _clusters_may_coincide() -> Iterator[None]:
    """Without scikit-learn's warning of it: one of a point's starts makes good for the other."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


def _grown(X: np.ndarray, centroids: np.ndarray, k: int, sample_weight: np.ndarray) -> np.ndarray:
    """The centroids, and one after the other the vectors that then cost most: k in all."""
    squared = (_distances(X, centroids) ** 2).min(axis=1)
    chosen = []
    for _ in range(k - len(centroids)):
        most = int(np.argmax(squared * sample_weight))
        chosen.append(X[most])
        squared = np.minimum(squared, ((X - X[most]) ** 2).sum(axis=1))
    return np.concatenate([centroids, chosen]) if chosen else centroids


def knee(curve: Sequence[tuple[int, float]]) -> int | None:
    """The k at the elbow of a falling convex curve (Kneedle, by kneed); None without one."""
    if len(curve) < 3:
        return None
    from kneed import KneeLocator  # brings matplotlib

    ks, inertias = zip(*sorted(curve), strict=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a curve without an elbow, which None says
        found = KneeLocator(ks, inertias, curve="convex", direction="decreasing").elbow
    return None if found is None else int(found)


def _distances(X: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    # In blocks of rows: the differences of all pairs would not fit for many tags.
    blocks = np.array_split(X, max(1, X.size * len(centroids) >> 22))
    return np.concatenate(
        [np.linalg.norm(b[:, None, :].astype(np.float64) - centroids[None], axis=2) for b in blocks]
    )
