"""How popular a cold song will be, from what it is (and, with context, from its artist's fame).

log(1 + listeners) of the songs played is regressed on the features of the sum of kernels and on
neighbour means of log(1 + listeners) over the song's artist, its album and songs of similar
terms (to the fourth power), each drawn to the mean of all. Neighbours are taken as a cold song
has them: without the song itself, and without whatever the split keeps with it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fusionrec.signals import basis
from fusionrec.signals.context import fame
from fusionrec.signals.kernels import CHUNK, gram, most_played
from fusionrec.signals.signal import Factors, Fold
from fusionrec.signals.taste import NEIGHBOURS

_CHUNK = 4096


def alone(fold: Fold, with_context: bool) -> Factors:
    """The same for every user: predicted log-popularity."""
    users = (fold.histories.sizes > 0).astype(np.float32)[:, None]
    return Factors(predicted(fold, with_context)[:, None], users)


def by_activity(fold: Fold, with_context: bool) -> Factors:
    """Log-popularity times log(1 + songs that the user played)."""
    users = np.log1p(fold.histories.sizes).astype(np.float32)[:, None]
    return Factors(predicted(fold, with_context)[:, None], users)


def by_history(fold: Fold, with_context: bool) -> Factors:
    """Log-popularity times the mean log-popularity of the user's history."""
    parts = np.log1p(fold.histories.listeners)[:, None]
    F = predicted(fold, with_context)[:, None]
    return Factors.of_histories(fold.histories, "mean", parts, F)


def predicted(fold: Fold, with_context: bool) -> NDArray[np.float32]:
    """Predicted log(1 + listeners) less its mean, float32 (n,)."""
    return fold.once(f"popularity {with_context}", lambda: _predicted(fold, with_context))


def _predicted(fold: Fold, with_context: bool) -> NDArray[np.float32]:
    learned = fold.learned
    if not len(learned):
        return np.zeros(len(fold.songs), np.float32)
    target = np.log1p(fold.histories.listeners[learned])
    target = target - target.mean()
    X = inputs(fold, with_context)
    mean = X[learned].mean(axis=0)
    A = gram(X, learned, mean)
    A[np.diag_indices(len(A))] += fold.settings.popularity_penalty
    right = np.zeros(len(A))
    for start in range(0, len(learned), CHUNK):
        rows = X[learned[start : start + CHUNK]] - mean
        right += rows.T.astype(np.float64) @ target[start : start + CHUNK]
    solution = np.linalg.solve(A, right)
    found = np.empty(len(X), np.float32)
    for start in range(0, len(X), CHUNK):
        rows = (X[start : start + CHUNK] - mean).astype(np.float64)
        found[start : start + CHUNK] = rows @ solution
    return found


def inputs(fold: Fold, with_context: bool) -> NDArray[np.float32]:
    """What popularity is regressed on, float32 (n, d); the neighbour means come last.

    All have about the size 1: the penalty is the same for each.
    """
    columns = [basis.mixed(fold, with_context)]
    if with_context:
        columns.append(fame(fold.songs)[0].astype(np.float32))
    columns.append(neighbour_means(fold).astype(np.float32))
    return np.concatenate(columns, axis=1)


def neighbour_means(fold: Fold) -> NDArray[np.float64]:
    """Log-popularity of neighbours less the mean of all, (n, 3): artist, album, terms."""
    return fold.once("neighbour means", lambda: _neighbour_means(fold))


def _neighbour_means(fold: Fold) -> NDArray[np.float64]:
    songs, listeners, shrinkage = fold.songs, fold.histories.listeners, fold.settings.shrinkage
    played = listeners > 0
    values = np.where(played, np.log1p(listeners), 0.0)
    values = np.where(played, values - values[played].mean(), 0.0)
    own = basis.groups_of(fold)
    found = np.zeros((len(songs), 3))
    if fold.by != "artist":
        found[:, 0] = _means_of_others(songs.artists, own, values, played, shrinkage)
    if fold.by == "song":
        found[:, 1] = _means_of_others(songs.albums, own, values, played, shrinkage)
    terms = basis.kernel(fold, "terms")
    known = most_played(terms, listeners, NEIGHBOURS)
    known = known[played[known]]
    for start in range(0, len(songs), _CHUNK):
        rows = np.arange(start, min(len(songs), start + _CHUNK))
        weights = terms.block(rows, known) ** 4
        weights[(own[rows][:, None] == own[known][None]) & (own[rows] >= 0)[:, None]] = 0.0
        weights[rows[:, None] == known[None]] = 0.0
        found[rows, 2] = weights @ values[known] / (weights.sum(axis=1) + shrinkage)
    return found


def _means_of_others(
    groups: NDArray[np.int64],
    own: NDArray[np.int64],
    values: NDArray[np.float64],
    played: NDArray[np.bool_],
    shrinkage: float,
) -> NDArray[np.float64]:
    """Means over a song's group without the songs that the split keeps with it; 0 without any."""
    ones = played.astype(np.float64)
    sums, counts = (_totals(groups, of, 0 * of) for of in (values, ones))
    # A song of no group of the split is kept with itself alone.
    own_sums, own_counts = (_totals(own, of, of) for of in (values, ones))
    means = (sums - own_sums) / np.maximum(counts - own_counts + shrinkage, 1e-9)
    return np.where(groups >= 0, means, 0.0)


def _totals(
    groups: NDArray[np.int64], values: NDArray[np.float64], otherwise: NDArray[np.float64]
) -> NDArray[np.float64]:
    """For each song the sum over the songs of its group; `otherwise` for one of no group."""
    known = groups >= 0
    found = otherwise.copy()
    found[known] = np.bincount(groups[known], values[known])[groups[known]]
    return found
