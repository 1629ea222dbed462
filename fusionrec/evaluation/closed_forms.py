"""What a random order is expected to score: the level every metric is read against."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def random_average_precision(
    candidates: ArrayLike, relevant: ArrayLike, k: int
) -> NDArray[np.float64]:
    """Exact expectation of AP@K under a uniformly random order.

    Rank i holds a relevant song with probability R/N, and then each of the i - 1 songs before
    it is relevant with probability (R - 1)/(N - 1). With m = min(K, N) and H the harmonic numbers

        E[AP@K] = R / (N min(R, K)) * (H_m + (R - 1)/(N - 1) * (m - H_m)).

    Parameters
    ----------
    candidates
        N, songs that are ranked; any shape, at least 1.
    relevant
        R, relevant songs among them, from 1 to N; broadcast against `candidates`.
    k
        K, at least 1. AP's divisor is min(R, K), as in
        :func:`fusionrec.evaluation.metrics.average_precision`.

    Returns
    -------
    Array of the common shape, float64.

    Raises
    ------
    ValueError
        A number is out of its bounds.
    """
    N = np.asarray(candidates, dtype=np.int64)
    R = np.asarray(relevant, dtype=np.int64)
    if k < 1 or np.any(R < 1) or np.any(R > N):
        raise ValueError("the random level needs k >= 1 and 1 <= relevant <= candidates")
    m = np.minimum(N, k)
    longest = int(m.max(initial=0))
    harmonic = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, longest + 1))])
    H = harmonic[m]
    others = (R - 1) / np.maximum(N - 1, 1)  # N = 1 has no rank but the first: m - H is 0
    level: NDArray[np.float64] = R / (N * np.minimum(R, k)) * (H + others * (m - H))
    return level
