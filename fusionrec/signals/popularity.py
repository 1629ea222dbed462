"""How popular a cold song will be, from what it is (and, with context, from its artist's fame).

log(1 + listeners) of the songs played is regressed on the features of the sum of kernels and on
neighbour means of log(1 + listeners) over the song's artist, its album and songs of similar
terms (to the fourth power), each drawn to the mean of all. Neighbours are taken as a cold song
has them: without the song itself, and without whatever the split keeps with it.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from fusionrec.signals import basis
from fusionrec.signals.context import fame
from fusionrec.signals.kernels import CHUNK, gram
from fusionrec.signals.neighbour_means import neighbour_means, unseen_means
from fusionrec.signals.signal import Factors, Fold
from fusionrec.signals.unseen.fitted import features
from fusionrec.signals.unseen.maps import SongMap, SongMaps
from fusionrec.signals.unseen.parts import ByNumbers
from fusionrec.signals.user_map import UserMap


def alone(fold: Fold, with_context: bool) -> Factors:
    """The same for every user: predicted log-popularity."""
    users = (fold.histories.sizes > 0).astype(np.float32)[:, None]
    told, unseen = UserMap.of("one", users), partial(_unseen, fold, with_context)
    return Factors(predicted(fold, with_context)[:, None], users, told=told, unseen=unseen)


def by_activity(fold: Fold, with_context: bool) -> Factors:
    """Log-popularity times log(1 + songs that the user played)."""
    users = np.log1p(fold.histories.sizes).astype(np.float32)[:, None]
    told, unseen = UserMap.of("activity", users), partial(_unseen, fold, with_context)
    return Factors(predicted(fold, with_context)[:, None], users, told=told, unseen=unseen)


def by_history(fold: Fold, with_context: bool) -> Factors:
    """Log-popularity times the mean log-popularity of the user's history."""
    parts = np.log1p(fold.histories.listeners)[:, None]
    F = predicted(fold, with_context)[:, None]
    unseen = partial(_unseen, fold, with_context)
    found = Factors.of_histories(fold.histories, "mean", parts, F, unseen)
    return replace(found, told=UserMap.of("popularity", parts))


def predicted(fold: Fold, with_context: bool) -> NDArray[np.float32]:
    """Predicted log(1 + listeners) less its mean, float32 (n,)."""
    return _regression(fold, with_context)[0]


Regression = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float64]]


def _regression(fold: Fold, with_context: bool) -> Regression:
    """What is predicted, (n,); the means of the inputs and their coefficients, (d,)."""
    return fold.once(f"popularity {with_context}", lambda: _regressed(fold, with_context))


def _regressed(fold: Fold, with_context: bool) -> Regression:
    learned = fold.learned
    if not len(learned):
        return np.zeros(len(fold.songs), np.float32), np.zeros(0, np.float32), np.zeros(0)
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
    solution = np.linalg.solve(A, right).astype(np.float64)
    found = np.empty(len(X), np.float32)
    for start in range(0, len(X), CHUNK):
        rows = (X[start : start + CHUNK] - mean).astype(np.float64)
        found[start : start + CHUNK] = rows @ solution
    return found, mean, solution


def _unseen(fold: Fold, with_context: bool) -> SongMaps:
    """The same regression of a song without plays; its own popularity is nobody's atom."""
    _, mean, solution = _regression(fold, with_context)
    if not len(solution):
        return SongMaps(SongMap.of(width=1))
    made_of = basis.basis_of_sum(fold, with_context)
    d = made_of.projection.shape[1]
    parts = [*features(made_of, solution[:d, None]).parts]
    if with_context:
        parts.append(ByNumbers("fame", solution[d:-3, None]))
    for coefficient, of_these in zip(solution[-3:], unseen_means(fold), strict=True):
        parts += [part.times(np.full((1, 1), coefficient)) for part in of_these]
    return SongMaps(SongMap(tuple(parts), np.full(1, -(mean.astype(np.float64) @ solution))))


def inputs(fold: Fold, with_context: bool) -> NDArray[np.float32]:
    """What popularity is regressed on, float32 (n, d); the neighbour means come last.

    All have about the size 1: the penalty is the same for each.
    """
    columns = [basis.mixed(fold, with_context)]
    if with_context:
        columns.append(fame(fold.songs)[0].astype(np.float32))
    columns.append(neighbour_means(fold).astype(np.float32))
    return np.concatenate(columns, axis=1)
