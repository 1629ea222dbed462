"""Weighted matrix factorisation of implicit feedback (Hu, Koren & Volinsky 2008).

What van den Oord et al. (2013, section 3) learn songs' factors with, which their content models
then predict: preference p = 1 where a user played a song and 0 elsewhere, with confidence
c = 1 + alpha log(1 + plays / epsilon), and

    minimise  sum_us c_us (p_us - x_u . y_s)^2 + lambda (sum_u |x_u|^2 + sum_s |y_s|^2)

over all users and songs, by alternating least squares.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, csr_matrix

from fusionrec.errors import DataError

_FEW = 64
"""Rows of a half-step that one thread solves in some milliseconds."""


@dataclass(frozen=True)
class Factors:
    """Latent factors; zeros for a user or song without plays.

    Attributes
    ----------
    users
        Float32, shape (U, f).
    songs
        Float32, shape (S, f).
    songs_before
        Those of the sweep before the last, of which :func:`half_step` gives `users`, float32
        (S, f). Of `songs`, which are solved for after the users, it gives others.
    """

    users: NDArray[np.float32]
    songs: NDArray[np.float32]
    songs_before: NDArray[np.float32]


def confidence(
    plays: NDArray[np.integer[Any]] | NDArray[np.floating[Any]], alpha: float, epsilon: float
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
    table, played_by, played = _confidences(users, songs, plays, shape, alpha, epsilon)
    model = _model(factors, regularisation, iterations - 1, seed)
    model.fit(table, show_progress=False)
    before = model.item_factors.copy()
    model.iterations = 1
    model.fit(table, show_progress=False)  # goes on from there
    found = (model.user_factors, model.item_factors, before)
    return _of_all(shape, played_by, played, *found)


class Sweeper(Protocol):
    """What solves half-steps of blocks of rows, here or elsewhere."""

    def blocks(self, confidences: Sequence[csr_matrix]) -> Sequence[Any]:
        """What stands for blocks of rows; called once for the users' and for the songs'."""

    def solve(
        self, blocks: Sequence[Any], others: NDArray[np.float32], regularisation: float
    ) -> Iterable[NDArray[np.float32]]:
        """:func:`half_step` of each block, in their order."""


class Here:
    """One block after the other, in this process."""

    def blocks(self, confidences: Sequence[csr_matrix]) -> Sequence[csr_matrix]:
        """The blocks themselves."""
        return confidences

    def solve(
        self, blocks: Sequence[csr_matrix], others: NDArray[np.float32], regularisation: float
    ) -> Iterable[NDArray[np.float32]]:
        """:func:`half_step` of each block."""
        return [half_step(block, others, regularisation) for block in blocks]


def half_step(
    confidences: csr_matrix,
    others: NDArray[np.float32],
    regularisation: float,
    gram: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """The factors of some users by those of all songs, or the other way; float32 (rows, f).

    Each row's are the exact least squares, whatever other rows there are.

    Parameters
    ----------
    confidences
        Float32, shape (rows, others): c where there are plays, nothing elsewhere.
    gram
        :func:`gram_of` all others, where `others` are only those that the rows have plays of.
    """
    # The compiled code of implicit's `recalculate_user`, which sums Y'Y of what it is given alone.
    # It takes no arrays that are read-only, as those of an object store are.
    from implicit.cpu import _als

    Y = np.require(others, requirements="W")
    gram = gram_of(Y) if gram is None else np.require(gram, requirements="W")
    indptr, indices, data = (
        np.require(part, dtype, "W")
        for part, dtype in (
            (confidences.indptr, np.int32),
            (confidences.indices, np.int32),
            (confidences.data, np.float32),
        )
    )
    found = np.zeros((confidences.shape[0], Y.shape[1]), np.float32)
    # Threads of its own for every thread of a server that asks for one user would be no help.
    threads = 1 if len(found) <= _FEW else 0
    _als._least_squares(gram, indptr, indices, data, found, Y, regularisation, num_threads=threads)
    return found


def gram_of(others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Y'Y, float32 (f, f), as a half-step sums it up."""
    return np.asarray(others.T.dot(others), np.float32)


def factorise_in_blocks(
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
    block: int,
    sweeper: Sweeper,
) -> Factors:
    """:func:`factorise` with each half-step a map over blocks of users, then of songs.

    Takes what it takes, begins as it does and gives the same within rounding. A block needs its
    own plays and the factors of the other side.

    Parameters
    ----------
    block
        Plays of a block, about.
    sweeper
        What solves the blocks.
    """
    table, played_by, played = _confidences(users, songs, plays, shape, alpha, epsilon)
    generator = np.random.default_rng(seed)
    X, Y = (
        generator.random((n, factors), dtype=np.float32) * np.float32(0.01) for n in table.shape
    )
    by_user, by_song = (sweeper.blocks(_blocks(side, block)) for side in (table, table.T.tocsr()))
    del table
    for _ in range(iterations):
        before = Y
        X = np.concatenate(list(sweeper.solve(by_user, before, regularisation)))
        Y = np.concatenate(list(sweeper.solve(by_song, X, regularisation)))
    return _of_all(shape, played_by, played, X, Y, before)


def _of_all(
    shape: tuple[int, int],
    played_by: NDArray[np.int64],
    played: NDArray[np.int64],
    X: NDArray[np.float32],
    Y: NDArray[np.float32],
    before: NDArray[np.float32],
) -> Factors:
    """With zeros of those without plays."""
    users = np.zeros((shape[0], X.shape[1]), np.float32)
    songs, songs_before = (np.zeros((shape[1], X.shape[1]), np.float32) for _ in range(2))
    users[played_by], songs[played], songs_before[played] = X, Y, before
    return Factors(users, songs, songs_before)


def _blocks(table: csr_matrix, plays: int) -> list[csr_matrix]:
    """Rows of a table in blocks that begin where another so many plays are full."""
    full = table.indptr[:-1] // max(plays, 1)
    bounds = [0, *(np.flatnonzero(np.diff(full)) + 1).tolist(), table.shape[0]]
    return [table[start:stop] for start, stop in pairwise(bounds)]


def _confidences(
    users: NDArray[np.integer[Any]],
    songs: NDArray[np.integer[Any]],
    plays: NDArray[np.integer[Any]],
    shape: tuple[int, int],
    alpha: float,
    epsilon: float,
) -> tuple[csr_matrix, NDArray[np.int64], NDArray[np.int64]]:
    """Confidences of those who played anything in what was played, and who and what they are.

    The others' factors are 0, and would else keep some of their random beginnings in sums over
    all.
    """
    if not len(users):
        raise DataError("factorisation: there are no plays to factorise")
    table = coo_matrix((plays.astype(np.float64), (users, songs)), shape=shape).tocsr()
    table.data = confidence(table.data, alpha, epsilon)
    played_by = np.flatnonzero(np.diff(table.indptr))
    played = np.flatnonzero(np.bincount(table.indices, minlength=shape[1]))
    return table[played_by][:, played].astype(np.float32), played_by, played


def _model(factors: int, regularisation: float, iterations: int, seed: int) -> Any:
    # Imported here, as it loads a BLAS of its own threads.
    from implicit.cpu.als import AlternatingLeastSquares

    return AlternatingLeastSquares(
        factors=factors,
        regularization=regularisation,
        alpha=1.0,
        iterations=iterations,
        use_cg=False,
        random_state=seed,
        dtype=np.float32,
    )
