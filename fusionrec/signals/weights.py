"""Weights of signals by a listwise softmax over lists of inner folds.

For each relevant song p of user u, with the weighted sum s of the standardised signals,

    loss = -log( exp s_up / (exp s_up + c_u sum_n exp s_un) ),

n over the sampled negatives and c_u what one of them stands for (the correction for sampling);
the mean over a user's relevant songs, then over users and inner folds, plus l2 |w|^2 / 2;
weights at least 0, by L-BFGS-B. In these means a song that many played counts less, by
listeners^-1/4: whether its popularity was foreseen is one draw of luck for all of its listeners,
from which signals of popularity would else learn too much.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from fusionrec.signals.lists import CLIP, Lists, average_precision
from fusionrec.signals.signal import Factors

L2 = (1.0, 0.3, 0.1, 0.03, 0.01, 0.001)
"""What the penalty is chosen from; of equal ones the first."""

_DAMPING = 0.25
"""Power of a song's listeners that its listeners' loss is divided by."""

CONSTANT = 1e-5
"""Deviation, relative to the largest possible score, below which it is rounding of a constant."""


@dataclass(frozen=True)
class Table:
    """Standardised scores of one inner fold's lists by all signals.

    Attributes
    ----------
    positives
        Float32, shape (positives, K).
    others
        Float32, shape (users, others, K).
    sizes
        Float64, shape (K,): the largest score that vectors of each signal's lengths could have.
    """

    lists: Lists
    positives: NDArray[np.float32]
    others: NDArray[np.float32]
    sizes: NDArray[np.float64]

    def of(self, columns: NDArray[np.int64]) -> Table:
        """The same with some signals."""
        others = np.ascontiguousarray(self.others[..., columns])
        return Table(self.lists, self.positives[:, columns], others, self.sizes[columns])


def table(lists: Lists, signals: Iterable[Factors]) -> Table:
    """Scores of one inner fold, not yet standardised; no signal is kept beyond its scores."""
    both = list(map(lists.scores, signals))
    positives = np.stack([p for p, _, _ in both], axis=1)
    others = np.stack([o for _, o, _ in both], axis=2)
    return Table(lists, positives, others, np.array([size for _, _, size in both]))


def standardise(tables: Sequence[Table]) -> tuple[list[Table], NDArray[np.float64]]:
    """Signals over their deviation in all inner folds, cut off at 12, and the deviations.

    Their means are those of each user, and taken out already. The deviation of a signal that
    is constant is inf, and the signal 0: it tells no song from another.
    """
    squares = sum((t.others.astype(np.float64) ** 2).sum(axis=(0, 1)) for t in tables)
    number = sum(t.others.shape[0] * t.others.shape[1] for t in tables)
    deviations = np.sqrt(squares / max(number, 1))
    sizes = np.max([t.sizes for t in tables], axis=0)
    deviations = np.where(constant(deviations, sizes), np.inf, deviations)
    scale = (1 / deviations).astype(np.float32)
    clipped = [
        Table(
            t.lists,
            np.clip(t.positives * scale, -CLIP, CLIP),
            np.clip(t.others * scale, -CLIP, CLIP),
            t.sizes,
        )
        for t in tables
    ]
    return clipped, deviations


def constant(deviations: NDArray[np.float64], sizes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether scores of these deviations, of which the largest could be `sizes`, are rounding."""
    found: NDArray[np.bool_] = deviations <= np.maximum(CONSTANT * sizes, 1e-12)
    return found


def learn(
    tables: Sequence[Table], l2: float, start: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Weights of the signals, at least 0, float64 (K,); from `start` on."""
    signals = tables[0].positives.shape[1]
    if start is None:
        start = np.full(signals, 1.0 / signals)

    def objective(w: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        value, slope = 0.5 * l2 * float(w @ w), l2 * w
        for t in tables:
            loss, gradient = _loss(t, w)
            value += loss / len(tables)
            slope = slope + gradient / len(tables)
        return value, slope

    found = minimize(
        objective,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=[(0, None)] * signals,
        options={"maxiter": 200, "ftol": 1e-7},
    )
    weights: NDArray[np.float64] = found.x
    return weights


def _loss(t: Table, w: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    lists, weights = t.lists, w.astype(np.float32)
    users, others, signals = t.others.shape
    flat = t.others.reshape(-1, signals)
    s_p = (t.positives @ weights).astype(np.float64)
    s_n = (flat @ weights).reshape(users, others).astype(np.float64)
    s_n[~lists.negative] = -np.inf
    top = s_n.max(axis=1)
    np.maximum.at(top, lists.owner, s_p)
    e_n = np.exp(s_n - top[:, None]) * lists.correction[:, None]
    e_p = np.exp(s_p - top[lists.owner])
    total = e_p + e_n.sum(axis=1)[lists.owner]
    share = _shares(lists)
    loss = float(share @ (np.log(total) - (s_p - top[lists.owner])))
    of_negatives = np.bincount(lists.owner, share / total, minlength=users)
    gradient = (share * (e_p / total - 1)) @ t.positives.astype(np.float64)
    mass = (e_n * of_negatives[:, None]).astype(np.float32).ravel()
    return loss, gradient + (mass @ flat).astype(np.float64)


def _shares(lists: Lists) -> NDArray[np.float64]:
    """What each relevant song counts, together 1.

    Each user the same, and each relevant song of a user, but for how many played it.
    """
    listeners = np.bincount(lists.positives)[lists.positives]
    shares = listeners**-_DAMPING / np.bincount(lists.owner)[lists.owner]
    found: NDArray[np.float64] = shares / shares.sum()
    return found


def precision(tables: Sequence[Table], w: NDArray[np.float64]) -> float:
    """Mean average precision of a weighted sum in inner folds."""
    return float(
        np.mean([average_precision(t.lists, t.positives @ w, t.others @ w) for t in tables])
    )


def choose(tables: Sequence[Table]) -> tuple[NDArray[np.float64], float]:
    """Weights learned from all inner folds, and the penalty they were learned with.

    Of :data:`L2` the penalty is taken with which weights of two inner folds rank those of the
    other two best, either way.
    """
    half = len(tables) // 2
    sides = (tables[:half], tables[half:])
    one = other = None
    found = []
    for l2 in L2:
        one, other = learn(sides[0], l2, one), learn(sides[1], l2, other)
        found.append(precision(sides[1], one) + precision(sides[0], other))
    l2 = L2[int(np.argmax(found))]
    return learn(tables, l2), l2
