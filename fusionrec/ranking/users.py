"""User vectors: the play-weighted sum of a user's song vectors (paper 3.4)."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fusionrec.errors import ConfigError

Weighting = Literal["raw", "log", "binary"]


def user_vectors(
    indptr: NDArray[np.int64],
    songs: NDArray[np.integer[Any]],
    plays: NDArray[np.integer[Any]],
    F: NDArray[np.floating[Any]],
    weighting: Weighting = "raw",
) -> NDArray[np.float32]:
    """v_u = (1/|S_u|) * sum over s in S_u of w(c) * F(s), c being u's plays of s (paper 3.4).

    Parameters
    ----------
    indptr
        Shape (users + 1,): user u's songs are `songs[indptr[u]:indptr[u + 1]]`.
    songs
        Rows of `F`.
    plays
        Play counts c, like `songs`.
    F
        Song vectors, shape (songs, k).
    weighting
        `raw`: w(c) = c, the paper's. `log`: w(c) = log(1 + c). `binary`: w(c) = 1.

    Returns
    -------
    Array of shape (users, k), float32; summed in float64, song by song, so that a user's vector
    does not depend on the other users of the call.

    Raises
    ------
    ConfigError
        `weighting` is none of the three.
    ValueError
        A user has no song: such users are to be left out before (and counted).
    """
    weights: NDArray[np.float64]
    if weighting == "raw":
        weights = plays.astype(np.float64)
    elif weighting == "log":
        weights = np.log1p(plays.astype(np.float64))
    elif weighting == "binary":
        weights = np.ones(len(songs))
    else:
        raise ConfigError(f"recommend.weighting is {weighting!r}: set it to raw, log or binary")
    sizes = np.diff(indptr)
    if np.any(sizes < 1):
        raise ValueError(f"user row {int(np.argmin(sizes))} has no song to make a vector of")

    user = np.repeat(np.arange(len(sizes)), sizes)
    V = np.empty((len(sizes), F.shape[1]), dtype=np.float32)
    for column in range(F.shape[1]):
        # One column at a time: (plays, k) in float64 would not fit for a large shard.
        terms = weights * F[songs, column]
        V[:, column] = np.bincount(user, weights=terms, minlength=len(sizes)) / sizes
    return V
