"""What repeating a measurement adds to its uncertainty: trainings and splits by other seeds.

Users and songs are resampled with the models as they are (:mod:`fusionrec.evaluation.two_way`). A
model trained from another seed, or on another cut of the songs, would be another one, and a mean
over n of them still varies. So the n are drawn with replacement, too, and a draw's distance from
their mean is widened by sqrt(n / (n - 1)): the plain bootstrap of n values has a variance that is
too small by that much (Davison & Hinkley, Bootstrap Methods and their Application, 1997, 2.3). Of a
single one nothing can be said.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def times_drawn(n: int, resamples: int, *, seed: int, purpose: int) -> NDArray[np.float64]:
    """How often each of n repetitions is drawn, by resample, over n; shape (resamples, n).

    What is paired, as two methods on the same splits, shares one such array.

    Parameters
    ----------
    purpose
        Arrays of another number are independent of these.
    """
    generator = np.random.default_rng([seed, 2, purpose])
    found: NDArray[np.float64] = generator.multinomial(n, np.full(n, 1 / n), size=resamples) / n
    return found


def over_repeats(
    draws: NDArray[np.floating[Any]], times: NDArray[np.floating[Any]]
) -> NDArray[np.float64]:
    """Resampled means over repetitions, of their own resampled means.

    Parameters
    ----------
    draws
        Shape (n, resamples): each repetition's draws, of the same users and songs.
    times
        Shape (resamples, n), from :func:`times_drawn`.

    Returns
    -------
    Shape (resamples,).
    """
    n = len(draws)
    mean: NDArray[np.float64] = draws.mean(axis=0)
    if n == 1:
        return mean
    drawn = np.einsum("rn,nr->r", times, draws)
    widened: NDArray[np.float64] = mean + np.sqrt(n / (n - 1)) * (drawn - mean)
    return widened
