"""Fewer dimensions for a blend: those that make most of all users' scores of cold songs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from fusionrec.signals.kernels import CHUNK, gram
from fusionrec.signals.signal import Factors


def rotated(
    factors: Factors, cold: NDArray[np.int64], rank: int
) -> tuple[Factors, NDArray[np.float64]]:
    """A signal in dimensions of descending energy, at most `rank`, and their energies.

    Of that rank the scores of `cold` songs have the least squared error over all users, apart
    from a constant for each user, which changes no ranking: the cold songs' mean is taken out
    of F first. With F = Q R over the cold songs, V F^T = (V R^T) Q^T, whose best approximation
    keeps the leading eigenvectors Z of (V R^T)^T (V R^T): V' = V R^T Z, F' = F R^-1 Z.

    Returns
    -------
    Factors
        V' and F' scaled so that both have the same size in each dimension.
    energies
        Sums of squared scores that each dimension makes, float64, at least one (0 for a signal
        that is constant).
    """
    mean = factors.F[cold].mean(axis=0)
    nothing = np.zeros((factors.F.shape[1], 1))
    values, vectors = eigh(gram(factors.F, cold, mean))
    kept = values > 1e-10 * max(values[-1], 1e-30)
    if not kept.any():
        return factors.projected(nothing, nothing), np.zeros(1)
    root = vectors[:, kept] * np.sqrt(values[kept])  # R^T
    inverse = vectors[:, kept] / np.sqrt(values[kept])
    energy, directions = eigh(root.T @ _gram(factors) @ root)
    best = np.flatnonzero(energy > 1e-12 * max(energy[-1], 1e-30))[::-1][:rank]
    if not len(best):
        return factors.projected(nothing, nothing), np.zeros(1)
    Z, size = directions[:, best], energy[best] ** 0.25
    return factors.projected(root @ (Z / size), inverse @ (Z * size), mean), energy[best]


def leading(factors: Factors, k: int) -> Factors:
    """A signal with the first `k` of its dimensions, or with all where it has fewer."""
    if k >= factors.F.shape[1]:
        return factors
    users, atoms = factors.users, factors.atoms
    return replace(
        factors,
        F=factors.F[:, :k].copy(),  # not a view, which would keep the rest
        users=None if users is None else users[:, :k].copy(),
        atoms=None if atoms is None else atoms[:, :k].copy(),
    )


def shares_of_rank(energies: Sequence[NDArray[np.float64]], rank: int) -> list[int]:
    """How many leading dimensions each signal keeps so that `rank` in all lose the least."""
    threshold = np.sort(np.concatenate(energies))[::-1]
    least = threshold[min(rank, len(threshold)) - 1]
    return [int((energy >= max(least, 1e-30)).sum()) for energy in energies]


def _gram(factors: Factors) -> NDArray[np.float64]:
    """V^T V, summed in float64."""
    source = factors.users if factors.users is not None else factors.histories
    assert source is not None
    users = len(source) if isinstance(source, np.ndarray) else source.counts.shape[0]
    total = np.zeros((factors.F.shape[1], factors.F.shape[1]))
    for start in range(0, users, CHUNK):
        rows = factors.vectors(slice(start, start + CHUNK)).astype(np.float64)
        total += rows.T @ rows
    return total
