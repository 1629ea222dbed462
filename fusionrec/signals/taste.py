"""Regression from content to taste: to users' histories, and to the factors of songs played.

Kernel ridge is solved in the primal, on the features Phi of a sum of kernels, so that it costs
d^3 and one pass over the songs: with A = Phi_T^T Phi_T + lambda I over the songs played,

    histories   score(u, s) = sum_t y_ut Phi(t) A^-1 Phi(s),
    smoothed    the same for y_ut = x_u . y_t of weighted matrix factorisation.

Lambda is `penalty` times the mean square of the features of the songs played, which is 1.
"""

from __future__ import annotations

from functools import partial
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from fusionrec.baselines import factorisation
from fusionrec.signals import basis
from fusionrec.signals.kernels import CHUNK, gram, most_played
from fusionrec.signals.signal import Factors, Fold
from fusionrec.signals.unseen.fitted import features
from fusionrec.signals.unseen.maps import SongMap, SongMaps
from fusionrec.signals.unseen.parts import MeansByTerms
from fusionrec.signals.unseen.references import References
from fusionrec.signals.user_map import UserMap

NEIGHBOURS = 4096
"""The most-played songs that are looked at for neighbours of each song."""

BLOCK = 4_000_000
"""Plays of a block where matrix factorisation goes by blocks; 32 MB."""

_CHUNK = 4096


def solved(
    Phi: NDArray[np.float32], learned: NDArray[np.int64], penalty: float
) -> NDArray[np.float32]:
    """Phi A^-1, float32 (n, d): a song's weights on what the learned songs' features are told."""
    return np.asarray(Phi @ _inverse(Phi, learned, penalty), np.float32)


def _inverse(
    Phi: NDArray[np.float32], learned: NDArray[np.int64], penalty: float
) -> NDArray[np.float32]:
    """A^-1, float32 (d, d)."""
    A = gram(Phi, learned)
    A[np.diag_indices(len(A))] += max(penalty, 1e-9)
    return np.asarray(cho_solve(cho_factor(A), np.eye(len(A))), np.float32)


def to_histories(fold: Fold, with_context: bool) -> Factors:
    """Kernel ridge to binary histories."""
    Phi = basis.mixed(fold, with_context)
    penalty = fold.settings.context_penalty if with_context else fold.settings.penalty
    matrix = _inverse(Phi, fold.learned, penalty)

    def unseen() -> SongMaps:
        made_of = basis.basis_of_sum(fold, with_context)
        return SongMaps(features(made_of), features(made_of, matrix))

    return Factors.of_histories(fold.histories, "binary", Phi @ matrix, Phi, unseen)


def to_smoothed(fold: Fold, with_context: bool) -> Factors:
    """Kernel ridge to histories smoothed by matrix factorisation.

    A user's vector is the factorisation's, which weighs the songs of a history by one another:
    it is no sum over them.
    """
    Phi, settings = basis.mixed(fold, with_context), fold.settings
    penalty = settings.smooth_context_penalty if with_context else settings.smooth_penalty
    learned = fold.learned
    users, songs = smoothed(fold)
    told = np.zeros((Phi.shape[1], songs.shape[1]), np.float32)
    for start in range(0, len(learned), CHUNK):
        rows = learned[start : start + CHUNK]
        told += Phi[rows].T @ songs[rows]
    matrix = _inverse(Phi, learned, penalty) @ told

    def unseen() -> SongMaps:
        return SongMaps(features(basis.basis_of_sum(fold, with_context), matrix))

    return Factors(Phi @ matrix, users, told=UserMap.of("factors", users), unseen=unseen)


def smoothed(fold: Fold) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Factors of users and songs by weighted matrix factorisation; zeros without plays."""
    found = factorised(fold)
    return found.users, found.songs


def factorised(fold: Fold) -> factorisation.Factors:
    """The same, with the songs' factors that the users' were solved with."""
    return fold.once("factorisation", lambda: _factorised(fold))


def _factorised(fold: Fold) -> factorisation.Factors:
    counts, settings = fold.histories.counts, fold.settings
    if not counts.nnz:
        users, songs = (np.zeros((size, 1), np.float32) for size in counts.shape)
        return factorisation.Factors(users, songs, songs)
    rows = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    solve = factorisation.factorise
    if fold.sweeper is not None:
        solve = partial(factorisation.factorise_in_blocks, block=BLOCK, sweeper=fold.sweeper)
    return solve(
        rows,
        counts.indices,
        counts.data.astype(np.int64),
        shape=cast(tuple[int, int], counts.shape),
        factors=settings.factors,
        alpha=settings.alpha,
        epsilon=settings.epsilon,
        regularisation=settings.regularisation,
        iterations=settings.iterations,
        seed=fold.seed,
    )


def means_by_terms(fold: Fold) -> Factors:
    """Means of the factors of songs with similar terms, drawn to the mean of all.

    F(s) = (sum_t K(s, t)^4 y_t + shrinkage m) / (sum_t K(s, t)^4 + shrinkage), over the
    most-played songs t other than s, m being the mean of their y_t.
    """
    users, songs = smoothed(fold)
    terms = basis.kernel(fold, "terms")
    known = most_played(terms, fold.histories.listeners, NEIGHBOURS)
    known = known[fold.histories.listeners[known] > 0]
    if not len(known):
        nothing = SongMaps(SongMap.of(width=songs.shape[1]))
        told = UserMap.of("factors", users)
        return Factors(np.zeros_like(songs), users, told=told, unseen=lambda: nothing)
    mean = songs[known].mean(axis=0)
    F = np.empty_like(songs)
    for start in range(0, len(songs), _CHUNK):
        rows = np.arange(start, min(len(songs), start + _CHUNK))
        weights = terms.block(rows, known) ** 4
        weights[rows[:, None] == known[None]] = 0.0
        total = weights.sum(axis=1, keepdims=True) + fold.settings.shrinkage
        F[rows] = (weights @ songs[known] + fold.settings.shrinkage * mean) / total

    def unseen() -> SongMaps:
        references = References.taken(terms, known)
        values = songs[known].astype(np.float64)
        means = MeansByTerms(references, values, mean, fold.settings.shrinkage)
        return SongMaps(SongMap.of(means, width=songs.shape[1]))

    return Factors(F, users, told=UserMap.of("factors", users), unseen=unseen)
