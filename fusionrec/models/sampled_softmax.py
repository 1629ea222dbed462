"""Softmax over all songs, estimated from some of them.

With songs drawn and e_j the number of times that song j is expected among the draws, the sum over
all songs but the positive p, sum_j exp(s_j), is the mean of sum over the draws j != p of
exp(s_j) / e_j, whatever the draws' chances: the "logQ correction" s_j - log e_j (Bengio & Senecal
2008; of in-batch negatives, Yi et al. 2019). The positive is there always and is drawn by no
chance, so that its own score is not corrected (Khrylchenko et al. 2025, arXiv:2507.09331).

Shapes: B examples, C candidates.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def candidates(
    positives: NDArray[np.integer[Any]],
    evenly: NDArray[np.integer[Any]],
    share: NDArray[np.floating[Any]],
    songs: int,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The distinct songs among a batch's positives and songs drawn evenly, and their correction.

    For an example, the draws are the other examples' positives and the even ones; what falls on
    its own positive is left out by :func:`sampled_softmax`.

    Parameters
    ----------
    positives, evenly
        Songs, shapes (B,) and (m,).
    share
        Of each song among all positives, shape (n,).
    songs
        How many songs the even draws are from.

    Returns
    -------
    tuple
        Songs ascending, int64 (C,), and log(draws / expected draws), float32 (C,).
    """
    drawn = np.concatenate([positives, evenly])
    found, counts = np.unique(drawn, return_counts=True)
    expected = (len(positives) - 1) * share[found] + len(evenly) / songs
    return found, np.log(counts / expected).astype(np.float32)


def sampled_softmax(scores_BC: Tensor, positive_B: Tensor, correction_C: Tensor) -> Tensor:
    """-log of the estimated chance of each example's positive, shape (B,).

    Parameters
    ----------
    scores_BC
        Of all candidates; the positives are among them.
    positive_B
        Each example's positive, as a column.
    correction_C
        log(draws / expected draws) of each candidate.
    """
    columns_B1 = positive_B[:, None]
    own_B1 = scores_BC.gather(1, columns_B1)
    others_BC = scores_BC + correction_C
    others_BC = others_BC.scatter(1, columns_B1, -torch.inf)
    return torch.cat([own_B1, others_BC], dim=1).logsumexp(dim=1) - own_B1[:, 0]
