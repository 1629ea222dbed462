"""Bootstrap over users and songs together: the two-way "pigeonhole" bootstrap.

A song that is relevant to many users moves all their average precisions at once, so that users
are not independent, and an interval that resamples users alone is too short for a claim about
other songs. Here users and songs (or artists) are both drawn with replacement, independently of
each other, and a user's relevant song counts w_u m_s times (Owen, "The pigeonhole bootstrap",
Annals of Applied Statistics 1(2), 2007). Of a mean over cells the variance errs on the large
side: the part that belongs neither to the user nor to the song alone is counted up to three
times. :func:`resample` says how far that holds for mAP, a mean of means.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fusionrec.errors import DataError

Draws = NDArray[np.float64]

_CHUNK = 2**21
"""Weights of cells held at once (16 MiB), or those of one resample where that is more."""


@dataclass(frozen=True)
class Difference:
    """A method's mean less another's.

    Attributes
    ----------
    mean
        The estimate, from the users and songs as they are.
    low, high
        Ends of its percentile interval.
    p
        Two-sided p-value of no difference.
    """

    mean: float
    low: float
    high: float
    p: float


def precisions(
    indptr: NDArray[np.integer[Any]], ranks: NDArray[np.integer[Any]], k: int
) -> NDArray[np.float64]:
    """P_us, what each relevant song adds to its user's average precision before it is divided.

    The precision at the song's rank where that is at most K, otherwise 0.

    Parameters
    ----------
    indptr
        Shape (users + 1,): user u's cells are `ranks[indptr[u]:indptr[u + 1]]`.
    ranks
        Ranks of the relevant songs, from 1, ascending within a user.
    k
        K, at least 1.

    Returns
    -------
    Like `ranks`, float64.
    """
    hits = np.arange(len(ranks)) - np.repeat(indptr[:-1], np.diff(indptr)) + 1
    return np.where(ranks <= k, hits / ranks, 0.0)


def resample(
    indptr: NDArray[np.integer[Any]],
    songs: NDArray[np.integer[Any]],
    values: Mapping[str, NDArray[np.floating[Any]]],
    *,
    clusters: NDArray[np.integer[Any]] | None = None,
    seed: int,
    resamples: int,
    two_way: bool = True,
    count: Literal["users", "cells"] = "users",
) -> dict[str, Draws]:
    """Resampled mAP of every method, from the same draws for all, so that methods are paired.

    With w_u the times that user u's cluster was drawn and m_s those of song s's,

        mAP* = sum_u w_u AP*_u / sum_u w_u,    AP*_u = sum_s m_s P_us / sum_s m_s,

    s over the user's relevant songs. A user none of whose songs was drawn drops out of both
    sums. AP*_u is an approximation: ranks, and so P_us, are those of the songs as they are, not
    of a catalogue with some songs missing and others twice. Its divisor is R_u and not
    min(R_u, K) where all m are 1: it is AP@K for the users with at most K relevant songs.

    AP*_u evens out what its own user's m differ by (a user's only song counts once, were it
    drawn three times), so that the songs' part of the variance comes out too small: in
    simulations with strong song effects two thirds of the true one for up to five relevant
    songs a user, nine tenths for 20. With `count="cells"` users count by how often their songs
    were drawn, w_u times sum_s m_s / R_u. mAP* is then a weighted mean over cells,

        sum_u w_u sum_s m_s P_us / R_u  /  sum_u w_u sum_s m_s / R_u,

    whose variance is within 15 % of the true one in the same simulations. The two are the
    same where all m are 1.

    Time is some 10 ns a cell and resample for a dozen methods: a second for 1,000 resamples of
    20,000 users with five songs each. Memory, beyond the values, is that of one chunk.

    Parameters
    ----------
    indptr
        Shape (users + 1,): user u's cells are numbers `indptr[u]` to `indptr[u + 1] - 1`.
        A user without a cell is left out.
    songs
        Shape (cells,): the cluster of the cell's song, from 0: its own number, or its artist's.
    values
        By method, shape (cells,): P_us, as from :func:`precisions`.
    clusters
        Shape (users,): integers; users (rows) of the same number are drawn together, such as
        the rows of one user in several folds. By default each row is its own.
    seed
        The same seed, cells and clusters give the same weights, whatever the methods; the users'
        are the same with and without `two_way`.
    resamples
        At least 1.
    two_way
        False keeps all m at 1: users are resampled alone.
    count
        What mAP* is a weighted mean over: see above.

    Returns
    -------
    By method, shape (resamples,). NaN for a resample with no user left, which takes a handful
    of users or songs.

    Raises
    ------
    DataError
        No user has a cell.
    ValueError
        Shapes do not fit, or `resamples` or `count` is out of its bounds.
    """
    if count not in ("users", "cells"):
        raise ValueError(f"count is {count!r}: it must be users or cells")
    indptr, songs = np.asarray(indptr), np.asarray(songs)
    if clusters is None:
        clusters = np.arange(len(indptr) - 1)
    _check(indptr, songs, values, clusters, resamples)
    sizes = np.diff(indptr)
    some = sizes > 0
    if not some.any():
        raise DataError("no user has a relevant song: there is nothing to resample")
    sizes, starts = sizes[some], indptr[:-1][some]
    # Clusters that no cell is of would only make the number of the others vary.
    names, cluster_of = np.unique(clusters[some], return_inverse=True)
    song_names, song_of = np.unique(songs, return_inverse=True)
    of_users, of_songs = (np.random.default_rng([seed, side]) for side in (0, 1))

    columns = {name: np.asarray(column, dtype=np.float64) for name, column in values.items()}
    draws = {name: np.empty(resamples) for name in columns}
    rows = max(1, min(resamples, _CHUNK // len(songs)))
    weights = np.empty((rows, len(songs)))  # w_u m_s / (sum_s m_s of the user)
    totals = np.empty(rows)
    for first in range(0, resamples, rows):
        chunk = min(rows, resamples - first)
        for row in range(chunk):
            w = _times_drawn(of_users, len(names))[cluster_of]
            if two_way:
                m = _times_drawn(of_songs, len(song_names))[song_of]
                drawn = np.add.reduceat(m, starts)
            else:
                m, drawn = np.ones(len(songs)), sizes.astype(np.float64)
            left = drawn > 0
            if count == "cells":
                w *= drawn / sizes
            share = np.divide(w, drawn, out=np.zeros(len(w)), where=left)
            np.multiply(np.repeat(share, sizes), m, out=weights[row])
            totals[row] = w[left].sum()
        totals[:chunk][totals[:chunk] == 0] = np.nan
        for name, column in columns.items():
            draws[name][first : first + chunk] = weights[:chunk] @ column / totals[:chunk]
    return draws


def interval(draws: Draws, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of resampled means, without the resamples that are NaN.

    Returns
    -------
    low, high
        NaN and NaN where no draw is left.

    Raises
    ------
    ValueError
        `level` is not within (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"level {level} must be within (0, 1)")
    defined = draws[~np.isnan(draws)]
    if len(defined) == 0:
        return float("nan"), float("nan")
    tail = (1 - level) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)


def paired(
    draws_a: Draws, draws_b: Draws, estimate_difference: float, level: float = 0.95
) -> Difference:
    """Method a less method b, of the same call of :func:`resample`.

    p is the largest 1 - level at which the percentile interval still holds 0: twice the smaller
    of the shares of draws at most 0 and at least 0. One is added to both counts and to their
    number (Davison & Hinkley, Bootstrap Methods and their Application, 1997, section 4.2), so
    that p is at least 2 / (draws + 1) and says no more than so many draws can.

    Parameters
    ----------
    draws_a, draws_b
        Shape (resamples,).
    estimate_difference
        The difference of the methods' means over the users as they are.
    level
        Confidence level of the interval.

    Raises
    ------
    ValueError
        The draws are not of the same length, or `level` is not within (0, 1).
    """
    if draws_a.shape != draws_b.shape:
        raise ValueError(f"draws of shapes {draws_a.shape} and {draws_b.shape} are not paired")
    differences = draws_a - draws_b
    low, high = interval(differences, level)
    differences = differences[~np.isnan(differences)]
    if len(differences) == 0:
        return Difference(float(estimate_difference), low, high, float("nan"))
    fewer = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
    p = min(1.0, 2 * (fewer + 1) / (len(differences) + 1))
    return Difference(float(estimate_difference), low, high, p)


def _times_drawn(generator: np.random.Generator, clusters: int) -> NDArray[np.float64]:
    """How often each cluster is among as many draws, with replacement, as there are clusters."""
    drawn = generator.integers(0, clusters, size=clusters, dtype=np.int32)
    return np.bincount(drawn, minlength=clusters).astype(np.float64)


def _check(
    indptr: NDArray[np.integer[Any]],
    songs: NDArray[np.integer[Any]],
    values: Mapping[str, NDArray[np.floating[Any]]],
    clusters: NDArray[np.integer[Any]],
    resamples: int,
) -> None:
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}: it must be 1 or more")
    if len(indptr) < 1 or indptr[0] != 0 or indptr[-1] != len(songs) or np.any(np.diff(indptr) < 0):
        raise ValueError(f"the offsets do not cut {len(songs)} cells into users")
    if len(clusters) != len(indptr) - 1:
        raise ValueError(f"{len(clusters)} clusters do not fit {len(indptr) - 1} users")
    for name, column in values.items():
        if np.shape(column) != np.shape(songs):
            raise ValueError(f"{name}: {np.shape(column)} values for {np.shape(songs)} cells")
