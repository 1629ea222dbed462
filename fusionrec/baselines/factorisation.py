"""Weighted matrix factorisation of implicit feedback (Hu, Koren & Volinsky 2008).

What van den Oord et al. (2013, section 3) learn songs' factors with, which their content models
then predict: preference p = 1 where a user played a song and 0 elsewhere, with confidence
c = 1 + alpha log(1 + plays / epsilon), and

    minimise  sum_us c_us (p_us - x_u . y_s)^2 + lambda (sum_u |x_u|^2 + sum_s |y_s|^2)

over all users and songs, by alternating least squares.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix

from fusionrec.errors import DataError


@dataclass(frozen=True)
class Factors:
    """Latent factors; zeros for a user or song without plays.

    Attributes
    ----------
    users
        Float32, shape (U, f).
    songs
        Float32, shape (S, f).
    """

    users: NDArray[np.float32]
    songs: NDArray[np.float32]


def confidence(
    plays: NDArray[np.integer[Any]], alpha: float, epsilon: float
) -> NDArray[np.float32]:
    """c = 1 + alpha log(1 + plays / epsilon) (van den Oord et al. 2013, equation 2)."""
    return (1 + alpha * np.log1p(plays / epsilon)).astype(np.float32)


def factorise(
    users: NDArray[np.integer[Any]],
    songs: NDArray[np.integer[Any]],
    plays: NDArray[np.integer[Any]],
    *,
    shape: tuple[int, int],
    factors: int,
    alpha: float,
    epsilon: float,
    regularisation: float,
    iterations: int,
    seed: int,
) -> Factors:
    """Factorise users' play counts.

    The least squares of each half-step are solved exactly, so that the result does not depend
    on the number of threads.

    Parameters
    ----------
    users, songs, plays
        Shape (rows,): codes and counts; rows of the same user and song are added up.
    shape
        Users and songs altogether.
    factors
        f, latent factors.
    regularisation
        Lambda, of both sides.
    iterations
        Sweeps, each solving for the users and then for the songs.

    Raises
    ------
    DataError
        There are no plays.
    """
    # Imported here, as it loads a BLAS of its own threads.
    from implicit.cpu.als import AlternatingLeastSquares

    if not len(users):
        raise DataError("factorisation: there are no plays to factorise")
    table = coo_matrix((plays.astype(np.float64), (users, songs)), shape=shape).tocsr()
    table.data = confidence(table.data, alpha, epsilon)
    # Only who played anything and what was played: the others' factors are 0, and would else
    # keep some of their random beginnings in sums over all.
    played_by = np.flatnonzero(np.diff(table.indptr))
    played = np.flatnonzero(np.bincount(table.indices, minlength=shape[1]))
    model = AlternatingLeastSquares(
        factors=factors,
        regularization=regularisation,
        alpha=1.0,
        iterations=iterations,
        use_cg=False,
        random_state=seed,
        dtype=np.float32,
    )
    model.fit(table[played_by][:, played].astype(np.float32), show_progress=False)
    X, Y = (np.zeros((n, factors), np.float32) for n in shape)
    X[played_by], Y[played] = model.user_factors, model.item_factors
    return Factors(X, Y)
