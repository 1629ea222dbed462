"""Metric learning to rank (McFee & Lanckriet 2010), for music as McFee et al. (2012).

A metric W, positive semidefinite, is learned so that for a query song q the order of the others
by -(x_q - x_i)' W (x_q - x_i) puts q's relevant songs first. A structural SVM with one slack
variable, margin rescaling and the loss 1 - AUC:

    minimise  |W|_F^2 / 2 + C xi
    subject to  <W, mean_q(psi(q, y*_q) - psi(q, y_q))> >= mean_q(loss(y_q)) - xi

for all choices of orders y_q, where y*_q has the relevant songs first and psi is the partial
order feature. The cutting plane method adds the most violated choice until none is violated by
more than epsilon above xi; over the planes so far, the dual is a smooth concave problem in as
many variables as there are planes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import csr_array

from fusionrec.errors import DataError

Float32 = NDArray[np.float32]
Matrix = NDArray[np.float64]
Integers = NDArray[np.integer[Any]]

_ROWS_AT_ONCE = 256
_SMALLEST = 1e-9
"""Eigenvalues of W below this share of the largest are rounding."""


@dataclass(frozen=True)
class Step:
    """One iteration: bounds of the optimum from the planes so far and from W itself.

    Attributes
    ----------
    lower, upper
        The dual's value, which never falls, and the primal value of this W.
    loss
        Mean loss of the most violated orders.
    """

    lower: float
    upper: float
    loss: float


@dataclass(frozen=True)
class Metric:
    """A learned metric; the squared distance of a and b is |L(a - b)|^2.

    Attributes
    ----------
    L
        Float32, shape (r, d), with W = L'L.
    history
        The iterations.
    """

    L: Float32
    history: tuple[Step, ...]


def relevant_by_listeners(
    users: Integers, songs: Integers, *, n_songs: int, top: int
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Each song's most similar songs by the Jaccard index of their listeners.

    Parameters
    ----------
    users, songs
        Shape (rows,): who played what; repeated rows count once.
    n_songs
        Songs altogether.
    top
        Most similar songs at most; ties by ascending song, and none without a common listener.

    Returns
    -------
    indptr, relevant
        Song q's are `relevant[indptr[q]:indptr[q + 1]]`, ascending; int64 (n_songs + 1,) and
        int32.
    """
    listeners = csr_array(
        (np.ones(len(users)), (songs, users)),
        shape=(n_songs, int(users.max(initial=-1)) + 1),
    )
    listeners.sum_duplicates()
    listeners.data[:] = 1
    sizes = listeners.sum(axis=1)
    indptr, found = [0], []
    for start in range(0, n_songs, _ROWS_AT_ONCE):
        common = (listeners[start : start + _ROWS_AT_ONCE] @ listeners.T).toarray()
        union = sizes[start : start + _ROWS_AT_ONCE, None] + sizes - common
        similarity = common / np.maximum(union, 1)
        for row, values in enumerate(similarity, start):
            values[row] = 0
            best = np.argsort(-values, kind="stable")[:top]
            found.append(np.sort(best[values[best] > 0]).astype(np.int32))
            indptr.append(indptr[-1] + len(found[-1]))
    return np.array(indptr), np.concatenate(found) if found else np.empty(0, np.int32)


def fit_metric(
    X: NDArray[np.floating[Any]],
    indptr: Integers,
    relevant: Integers,
    *,
    C: float = 10_000.0,
    epsilon: float = 0.01,
    iterations: int = 50,
) -> Metric:
    """Learn a metric by cutting planes; nothing is random.

    Parameters
    ----------
    X
        Shape (n, d): songs, each a query for the others. n x n scores are held at once.
    indptr, relevant
        Query q's relevant rows, `relevant[indptr[q]:indptr[q + 1]]`; all others are irrelevant
        to it. Queries with none, or with nothing but relevant songs, are left out.
    C
        Weight of the loss, for squared distances whose mean is brought to 1.
    epsilon
        Violation, in units of the loss, at which it stops.
    iterations
        Planes at most.

    Raises
    ------
    DataError
        No query has both relevant and irrelevant songs.
    """
    n, d = X.shape
    indptr, relevant = np.asarray(indptr), np.asarray(relevant)
    sizes = np.diff(indptr)
    queries = np.flatnonzero((sizes > 0) & (sizes < n - 1))
    if not len(queries):
        raise DataError("metric learning: no song has listeners in common with another one")
    # The mean squared distance of two songs is twice the variance.
    scale = np.sqrt(2 * X.var(axis=0, dtype=np.float64).sum()) or 1.0
    x = X.astype(np.float64) / scale
    planes: list[Matrix] = []
    margins: list[float] = []
    shares = np.zeros(0)
    W, slack, lower = np.zeros((d, d)), 0.0, 0.0
    history: list[Step] = []
    for _ in range(iterations):
        plane, margin = most_violated(x, W, queries, indptr, relevant)
        violation = margin - float((W * plane).sum())
        upper = float((W**2).sum()) / 2 + C * max(0.0, violation)
        history.append(Step(lower, upper, margin))
        if violation <= slack + epsilon:
            break
        planes.append(plane)
        margins.append(margin)
        shares, W, lower = _solve(np.array(planes), np.array(margins), C, shares)
        slack = max(0.0, *(m - float((W * p).sum()) for m, p in zip(margins, planes, strict=True)))
    values, vectors = np.linalg.eigh(W)
    kept = values > _SMALLEST * max(values[-1], 0.0)
    L = (np.sqrt(values[kept]) * vectors[:, kept]).T / scale
    return Metric(L.astype(np.float32), tuple(history))


def most_violated(
    x: Matrix, W: Matrix, queries: Integers, indptr: Integers, relevant: Integers
) -> tuple[Matrix, float]:
    """The plane of the orders that violate the margin most, and their mean loss.

    With the loss 1 - AUC, the worst order is found pair by pair: a relevant song i stands below
    an irrelevant one j wherever score_i - score_j < 1/2.

    Returns
    -------
    plane
        Shape (d, d): mean over queries of psi(q, y*) - psi(q, y).
    loss
        Mean over queries of the share of pairs that are in the wrong order.
    """
    n = len(x)
    squared = np.einsum("nd,de,ne->n", x, W, x)
    projected = x @ W
    # Plane = sum over q and i of S_qi (x_q - x_i)(x_q - x_i)'.
    S = np.zeros((n, n))
    loss = 0.0
    for q in queries:
        score = 2 * (projected[q] @ x.T) - squared  # plus a constant of the query
        good = relevant[indptr[q] : indptr[q + 1]]
        bad = np.ones(n, bool)
        bad[good] = bad[q] = False
        order = np.sort(score[bad])
        pairs = len(good) * len(order)
        # Irrelevant songs that each relevant one is below, and the reverse.
        # score_i - score_j < 1/2 of both sides.
        above = len(order) - np.searchsorted(order, score[good] - 0.5, side="right")
        below = np.searchsorted(np.sort(score[good]), score[bad] + 0.5, side="left")
        S[q, good] = -2 * above / pairs
        S[q, bad] = 2 * below / pairs
        loss += above.sum() / pairs
    S /= len(queries)
    plane = x.T @ ((S.sum(axis=1) + S.sum(axis=0))[:, None] * x)
    cross = x.T @ (S @ x)
    return plane - cross - cross.T, float(loss) / len(queries)


def _solve(
    planes: Matrix, margins: Matrix, C: float, start: Matrix
) -> tuple[Matrix, Matrix, float]:
    """Maximise b . margins - C |[sum b_t planes_t]_+|^2 / 2 over b >= 0, sum b <= 1.

    That is the dual over C, with its variables over C: numbers near 1 whatever C is. Returns
    b, W and the dual's value.
    """

    def metric(b: Matrix) -> Matrix:
        values, vectors = np.linalg.eigh(np.tensordot(b, planes, 1))
        positive: Matrix = (vectors * np.maximum(values, 0)) @ vectors.T
        return positive

    def negative_dual(b: Matrix) -> tuple[float, Matrix]:
        W = metric(b)
        value = float(b @ margins) - C * float((W**2).sum()) / 2
        return -value, C * np.tensordot(planes, W, 2) - margins

    count = len(planes)
    found = minimize(
        negative_dual,
        np.append(start, 0.0),
        jac=True,
        method="SLSQP",
        bounds=[(0, 1)] * count,
        constraints={
            "type": "ineq",
            "fun": lambda b: 1 - b.sum(),
            "jac": lambda b: -np.ones(count),
        },
        options={"maxiter": 200, "ftol": 1e-10},
    )
    b = np.clip(found.x, 0, None)
    b /= max(1.0, b.sum())
    return b, C * metric(b), -C * negative_dual(b)[0]


def profile_vectors(metric: Metric, X: NDArray[np.floating[Any]]) -> Float32:
    """[Lx, 1] of songs (n, d), float32 (n, r + 1); a user's vector is the mean of their songs'."""
    projected = X @ metric.L.T
    return np.hstack([projected, np.ones((len(X), 1))]).astype(np.float32)


def song_factors(metric: Metric, X: NDArray[np.floating[Any]]) -> Float32:
    """[2 Lx, -|Lx|^2] of songs (n, d), float32 (n, r + 1).

    Its product with a user's vector is the mean similarity of the song to the user's songs,
    mean_h -|L(x_h - x)|^2 (van den Oord et al. 2013), but for a constant of the user.
    """
    projected = X @ metric.L.T
    length = np.square(projected).sum(axis=1, keepdims=True)
    return np.hstack([2 * projected, -length]).astype(np.float32)
