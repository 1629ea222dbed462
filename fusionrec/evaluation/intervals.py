"""Confidence intervals of means over users."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_CHUNK = 2**21
"""Draws held at once (24 MiB of indices and values)."""


def bootstrap_mean(
    values: NDArray[np.floating[Any]], *, seed: int, resamples: int = 2000, level: float = 0.95
) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean over users.

    Users are the unit: each resample draws as many users as there are, with replacement. Draws
    are made in chunks, so memory does not grow with `resamples`, nor, beyond the values
    themselves, with the number of users; time grows with their product (some 10 ns a
    draw: 2,000 resamples take a second for 50,000 users and half a minute for a million).

    Parameters
    ----------
    values
        Shape (users,). NaN (the metric is not defined for that user) is left out.
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
    users = len(defined)
    if users == 0:
        return float("nan"), float("nan")

    generator = np.random.default_rng(seed)
    sums = np.zeros(resamples)
    if users <= _CHUNK:
        rows = _CHUNK // users
        for start in range(0, resamples, rows):
            stop = min(start + rows, resamples)
            drawn = generator.integers(0, users, size=(stop - start, users), dtype=np.int32)
            sums[start:stop] = defined[drawn].sum(axis=1)
    else:
        for resample in range(resamples):
            for start in range(0, users, _CHUNK):
                size = min(_CHUNK, users - start)
                drawn = generator.integers(0, users, size=size, dtype=np.int32)
                sums[resample] += defined[drawn].sum()
    tail = (1 - level) / 2
    low, high = np.quantile(sums / users, [tail, 1 - tail])
    return float(low), float(high)
