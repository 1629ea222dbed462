"""Fewer dimensions for a blend: those that make most of all users' scores of cold songs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from fusionrec.signals.kernels import CHUNK, gram
from fusionrec.signals.signal import Factors


@dataclass(frozen=True)
class Rotation:
    """Fewer dimensions: V' = V `users`, F' = (F - `mean`) `songs`.

    Attributes
    ----------
    users, songs
        Float64, shape (d, k).
    energies
        Sums of squared scores that each of the k dimensions makes, descending, float64; a single
        0 where all scores are constant.
    kept
        Their share of the squared scores.
    mean
        Float32, shape (d,): of the cold songs.
    """

    users: NDArray[np.float64]
    songs: NDArray[np.float64]
    energies: NDArray[np.float64]
    kept: float
    mean: NDArray[np.float32]


def rotation(
    F: NDArray[np.float32], users: NDArray[np.float64], cold: NDArray[np.int64], rank: int
) -> Rotation:
    """Dimensions of descending energy, at most `rank`.

    Of that rank the scores of `cold` songs have the least squared error over all users, apart
    from a constant for each user, which changes no ranking: the cold songs' mean is taken out
    of F first. With F = Q R over the cold songs, V F^T = (V R^T) Q^T, whose best approximation
    keeps the leading eigenvectors Z of (V R^T)^T (V R^T): V' = V R^T Z, F' = F R^-1 Z, scaled so
    that both have the same size in each dimension.

    Parameters
    ----------
    users
        V^T V, shape (d, d).
    """
    mean = F[cold].mean(axis=0)
    nothing = np.zeros((F.shape[1], 1))
    constant = Rotation(nothing, nothing, np.zeros(1), 1.0, mean)
    values, vectors = eigh(gram(F, cold, mean))
    some = values > 1e-10 * max(values[-1], 1e-30)
    if not some.any():
        return constant
    root = vectors[:, some] * np.sqrt(values[some])  # R^T
    inverse = vectors[:, some] / np.sqrt(values[some])
    energy, directions = eigh(root.T @ users @ root)
    best = np.flatnonzero(energy > 1e-12 * max(energy[-1], 1e-30))[::-1][:rank]
    if not len(best):
        return constant
    Z, size = directions[:, best], energy[best] ** 0.25
    kept = float(energy[best].sum() / energy[energy > 0].sum())
    return Rotation(root @ (Z / size), inverse @ (Z * size), energy[best], kept, mean)


def rotated(
    factors: Factors, cold: NDArray[np.int64], rank: int
) -> tuple[Factors, NDArray[np.float64]]:
    """A signal in the dimensions of its :func:`rotation`, and their energies, at least one."""
    found = rotation(factors.F, gram_of_users(factors.vectors, _users_of(factors)), cold, rank)
    return factors.projected(found.users, found.songs, found.mean), found.energies


def leading(factors: Factors, k: int) -> Factors:
    """A signal with the first `k` of its dimensions, or with all where it has fewer."""
    if k >= factors.F.shape[1]:
        return factors
    users, atoms = factors.users, factors.atoms
    some = np.eye(factors.F.shape[1], k, dtype=np.float32)
    return replace(
        factors,
        F=factors.F[:, :k].copy(),  # not a view, which would keep the rest
        users=None if users is None else users[:, :k].copy(),
        atoms=None if atoms is None else atoms[:, :k].copy(),
        told=None if factors.told is None else factors.told.times(some),
        unseen=factors.unseen_times(some, some),
    )


def shares_of_rank(energies: Sequence[NDArray[np.float64]], rank: int) -> list[int]:
    """How many leading dimensions each signal keeps so that `rank` in all lose the least."""
    threshold = np.sort(np.concatenate(energies))[::-1]
    least = threshold[min(rank, len(threshold)) - 1]
    return [int((energy >= max(least, 1e-30)).sum()) for energy in energies]


def gram_of_users(
    vectors: Callable[[slice], NDArray[np.float32]], users: int
) -> NDArray[np.float64]:
    """V^T V, (d, d), summed in float64 from some users' V at a time."""
    total: NDArray[np.float64] | None = None
    for start in range(0, users, CHUNK):
        rows = vectors(slice(start, start + CHUNK)).astype(np.float64)
        products = rows.T @ rows
        total = products if total is None else total + products
    assert total is not None
    return total


def _users_of(factors: Factors) -> int:
    if factors.users is not None:
        return len(factors.users)
    assert factors.histories is not None
    return int(factors.histories.counts.shape[0])
