"""What each song of a history adds to its user's vector, in NumPy alone.

A score is the product of a user's vector and a song's, so that these parts, times the song's
vector, are what each song of the history adds to the score.

Shapes: L songs of a history, f factors, d dimensions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]


def of_factors(
    gram: Floats, factors: Floats, confidence: Floats, regularisation: float
) -> NDArray[np.float64]:
    """Parts of x_u = A^-1 sum_i c_ui y_i, float64 (L, f), which add up to it.

    With A = Y'Y + sum_i (c_ui - 1) y_i y_i' + lambda I (Hu et al. 2008, section 5): what a song
    adds depends on the others of the history, through A.

    Parameters
    ----------
    gram
        Y'Y of all songs, those of the history among them, shape (f, f).
    factors
        y_i of the songs of the history, shape (L, f).
    confidence
        c_ui of them, shape (L,).
    regularisation
        Lambda.
    """
    Y, c = factors.astype(np.float64), confidence.astype(np.float64)
    A = gram.astype(np.float64) + (Y * (c - 1)[:, None]).T @ Y
    A = A + regularisation * np.eye(Y.shape[1])
    return np.asarray(np.linalg.solve(A, (Y * c[:, None]).T).T, np.float64)


def of_attention(
    vectors: Floats, plays: Floats, query: Floats, slope: float
) -> NDArray[np.float64]:
    """What each song weighs in the mean of :class:`fusionrec.models.user_tower.Attention`, (L,).

    Parameters
    ----------
    vectors
        Of the songs played, without their biases, shape (L, d).
    plays
        Counts above 0, shape (L,).
    query, slope
        Of the attention, shapes (d,) and ().
    """
    by_vector = vectors.astype(np.float64) @ query / np.sqrt(vectors.shape[1])
    scores = by_vector + slope * np.log(np.log1p(plays.astype(np.float64)))
    each = np.exp(scores - scores.max())
    return np.asarray(each / each.sum(), np.float64)
