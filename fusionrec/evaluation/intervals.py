"""Confidence intervals of means over users, of the users alone or of users and songs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_CHUNK = 2**21
"""Draws held at once (24 MiB of indices and values)."""


def bootstrap_mean(
    values: NDArray[np.floating[Any]],
    *,
    songs: tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]] | None = None,
    seed: int,
    resamples: int = 2000,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean over users.

    Each resample draws as many users as there are, with replacement. That is the luck of which
    users there are. A song that is relevant to many of them moves all their values at once, so with
    `songs`, these are resampled, too, independently: with T and C the sums of a song's shares,

        mean* = (mean of the users drawn) + (sum_s m_s T_s / sum_s m_s C_s) - mean.

    That is the two-way bootstrap of :mod:`fusionrec.evaluation.two_way` (`count="cells"`) but for
    the product of both deviations, and takes a number a song where that takes one a user and song.

    Draws are made in chunks, so memory does not grow with `resamples`, nor, beyond the values
    themselves, with the number of users; time grows with their product (some 10 ns a
    draw: 2,000 resamples take a second for 50,000 users and half a minute for a million).

    Parameters
    ----------
    values
        Shape (users,). NaN (the metric is not defined for that user) is left out.
    songs
        T and C, shape (songs,) or (artists,) each: sums over users of what the songs add to the
        values and to the number of users (:func:`fusionrec.evaluation.metrics.per_song_shares`).
    seed
        The same seed and values give the same interval.
    resamples
        At least 1.
    level
        Confidence level, between 0 and 1.

    Returns
    -------
    low, high
        NaN and NaN where no value is left.

    Raises
    ------
    ValueError
        `resamples` or `level` is out of its bounds.
    """
    if resamples < 1 or not 0 < level < 1:
        raise ValueError(f"resamples {resamples} must be 1 or more, level {level} within (0, 1)")
    defined = np.asarray(values, dtype=np.float64)
    defined = defined[~np.isnan(defined)]
    if len(defined) == 0:
        return float("nan"), float("nan")
    means = _resampled([defined], np.random.default_rng(seed), resamples)[0] / len(defined)
    if songs is not None:
        totals, users = _resampled(songs, np.random.default_rng([seed, 1]), resamples)
        # Where no song of any user was drawn there is no other mean.
        some = users > 0
        means[some] += totals[some] / users[some] - defined.mean()
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def _resampled(
    columns: Sequence[NDArray[np.floating[Any]]], generator: np.random.Generator, resamples: int
) -> NDArray[np.float64]:
    """Sums of columns over rows drawn with replacement, as many as there are: (columns, draws)."""
    rows = len(columns[0])
    sums = np.zeros((len(columns), resamples))
    if rows <= _CHUNK:
        at_once = _CHUNK // rows
        for start in range(0, resamples, at_once):
            stop = min(start + at_once, resamples)
            drawn = generator.integers(0, rows, size=(stop - start, rows), dtype=np.int32)
            for number, column in enumerate(columns):
                sums[number, start:stop] = column[drawn].sum(axis=1)
    else:
        for resample in range(resamples):
            for start in range(0, rows, _CHUNK):
                size = min(_CHUNK, rows - start)
                drawn = generator.integers(0, rows, size=size, dtype=np.int32)
                for number, column in enumerate(columns):
                    sums[number, resample] += column[drawn].sum()
    return sums
