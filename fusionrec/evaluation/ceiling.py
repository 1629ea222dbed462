"""The mAP that perfect knowledge of the songs' classes gives: a ceiling of genre models.

A model that only tells k classes apart cannot order the songs of one class. Its user vector is
at best the histogram of the profile's classes, all songs of a class have the same score, and
their order is as good as random (paper section 3.4; F(s) is then one-hot). A model whose class
probabilities tell more of a song than its class may be above it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def expected_average_precision(
    sizes: ArrayLike, relevant: ArrayLike, k: int
) -> NDArray[np.float64]:
    """Exact expectation of AP@K where candidates come in blocks of ties, ordered at random.

    Let a block have n songs of which r relevant, after o songs of which h relevant. Its position j,
    from 1, holds a relevant song with probability r/n; given that, each of the j - 1 before it
    is relevant with probability c = (r - 1)/(n - 1). With m = min(n, K - o) positions among the
    first K, not fewer than 0, the block adds to the sum of the precisions

        r/n * sum_{j=1..m} (h + 1 + c (j - 1)) / (o + j)
            = r/n * ((h + 1 - c (o + 1)) (H_{o+m} - H_o) + c m),

    H being the harmonic numbers. E[AP@K] is the sum over blocks, divided by min(R, K). With one
    block it is :func:`fusionrec.evaluation.closed_forms.random_average_precision`.

    Parameters
    ----------
    sizes
        Shape (users, blocks): n, in descending order of score; 0 for a block that is not there.
        Leading axes may also be none or several.
    relevant
        r, of the same shape, at most n.
    k
        K, at least 1.

    Returns
    -------
    Shape (users,), float64; NaN for a user without a relevant song. Users are independent of
    each other, so that memory is bounded by passing some at a time.

    Raises
    ------
    ValueError
        Shapes do not fit, or a number is out of its bounds.
    """
    n, r = np.asarray(sizes, dtype=np.int64), np.asarray(relevant, dtype=np.int64)
    if n.shape != r.shape or n.ndim < 1:
        raise ValueError(f"sizes of shape {n.shape} and relevant of shape {r.shape} do not fit")
    if k < 1 or np.any(r < 0) or np.any(r > n):
        raise ValueError("the ceiling needs k >= 1 and 0 <= relevant <= size in every block")
    o, h = np.cumsum(n, axis=-1) - n, np.cumsum(r, axis=-1) - r
    first, last = np.minimum(o, k), np.minimum(o + n, k)
    harmonic = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, last.max(initial=0) + 1))])
    c = (r - 1) / np.maximum(n - 1, 1)  # n = 1 has no position but the first: the terms cancel
    added = (h + 1 - c * (o + 1)) * (harmonic[last] - harmonic[first]) + c * (last - first)
    found = (r / np.maximum(n, 1) * added).sum(axis=-1)
    divisor = np.minimum(r.sum(axis=-1), k)
    expected = np.full(found.shape, np.nan)
    np.divide(found, divisor, out=expected, where=divisor > 0)
    return expected
