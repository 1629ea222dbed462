"""Features that several signals of a fold share: of single kernels, and of weighted sums of them.

The weights of a sum are those that align it best with what is listened to together (after
Cortes, Mohri & Rostamizadeh 2012, "Algorithms for learning kernels based on centered alignment"):
least squares, weights at least 0, from the off-diagonal kernels of the most-played songs to the
cosine of their listeners. Pairs that the split keeps apart are left out, as no cold song has
such a neighbour; an even part of all kernels is added, as few songs tell little.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls
from scipy.sparse import csr_array

from fusionrec.signals import content, context
from fusionrec.signals.kernels import Kernel, Sum, features, landmarks, projection, unit_rows
from fusionrec.signals.signal import Fold
from fusionrec.signals.songs import Songs

_VARIED = 1e-5
"""Deviation over pairs below which a kernel, at most 1, is the same for all."""


def kernel(fold: Fold, name: str) -> Kernel:
    """A kernel of the fold's songs, of content or context."""
    return kernel_of(fold.songs, name)


def kernel_of(songs: Songs, name: str) -> Kernel:
    """A kernel of songs, of content or context."""
    return (context.kernel if name in context.KERNELS else content.kernel)(songs, name)


def names(songs: Songs, with_context: bool) -> tuple[str, ...]:
    """Names of all kernels of songs, with or without those of context."""
    return (*content.names(songs), *(context.KERNELS if with_context else ()))


@dataclass(frozen=True)
class Basis:
    """What features are made of, of any songs: sum_k weight_k K_k(s, landmarks) projection.

    Attributes
    ----------
    weights
        Of kernels by name, above 0.
    landmarks
        Rows of songs, ascending.
    projection
        Float64, shape (landmarks, d).
    """

    weights: Mapping[str, float]
    landmarks: NDArray[np.integer[Any]]
    projection: NDArray[np.float64]


def single(fold: Fold, name: str) -> NDArray[np.float32]:
    """Features of one kernel, float32 (n, d)."""
    make = partial(_features, fold, partial(basis_of, fold, name))
    return fold.memo.while_it_fits(f"features {name}", _size(fold), make)


def basis_of(fold: Fold, name: str) -> Basis:
    """What those of one kernel are made of."""
    return fold.once(f"features {name}: basis", lambda: _basis(fold, {name: 1.0}))


def mixed(fold: Fold, with_context: bool) -> NDArray[np.float32]:
    """Features of the weighted sum of all kernels; its mean over the learned songs' diagonal is 1.

    Returns
    -------
    Float32, shape (n, d).
    """
    make = partial(_features, fold, partial(basis_of_sum, fold, with_context))
    return fold.memo.while_it_fits(f"features of the sum {with_context}", _size(fold), make)


def _size(fold: Fold) -> int:
    """Bytes of features, at most."""
    return 4 * len(fold.songs) * min(fold.settings.landmarks, len(fold.songs))


def basis_of_sum(fold: Fold, with_context: bool) -> Basis:
    """What those of the weighted sum are made of."""
    return fold.once(f"features of the sum {with_context}: basis", lambda: _sum(fold, with_context))


def _sum(fold: Fold, with_context: bool) -> Basis:
    known = names(fold.songs, with_context)
    kernels = [kernel(fold, name) for name in known]
    weights = kernel_weights(fold, known)
    total = Sum(kernels, weights)
    learned = fold.learned
    scale = total.diagonal(learned).mean() if len(learned) else 1.0
    weights = weights / max(scale, 1e-30)
    return _basis(fold, {n: float(w) for n, w in zip(known, weights, strict=True) if w > 0})


def _basis(fold: Fold, weights: Mapping[str, float]) -> Basis:
    total = _total(fold, weights)
    chosen = landmarks(total, fold.histories.listeners, fold.settings.landmarks)
    return Basis(weights, chosen, projection(total, chosen))


def _total(fold: Fold, weights: Mapping[str, float]) -> Kernel:
    kernels = [kernel(fold, name) for name in weights]
    if list(weights.values()) == [1.0]:
        return kernels[0]
    return Sum(kernels, weights.values())


def _features(fold: Fold, basis: Callable[[], Basis]) -> NDArray[np.float32]:
    found = basis()
    return features(_total(fold, found.weights), found.landmarks, found.projection)


def kernel_weights(fold: Fold, known: Sequence[str]) -> NDArray[np.float64]:
    """Weights of kernels in their sum, adding up to 1; float64 (kernels,)."""
    kernels = [kernel(fold, name) for name in known]
    usable = np.array([bool(k.present.any()) for k in kernels])
    if not usable.any():
        usable[:] = True
    even = usable / usable.sum()
    share = fold.settings.aligned
    found: NDArray[np.float64] = even
    if share:
        found = (1 - share) * even + share * aligned(fold, kernels, even)
    return found


def aligned(
    fold: Fold, kernels: Sequence[Kernel], otherwise: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Weights of the best alignment, adding up to 1; `otherwise` where nothing aligns."""
    order = np.argsort(-fold.histories.listeners, kind="stable")[: fold.settings.landmarks]
    chosen = np.sort(order[fold.histories.listeners[order] > 0])
    together = listened_together(fold, chosen)
    pairs = np.triu(~apart(fold, chosen), 1)
    if not pairs.any():
        return otherwise
    columns = np.stack([k.block(chosen, chosen)[pairs] for k in kernels], axis=1)
    target = together[pairs]
    centred = columns - columns.mean(axis=0)
    products = centred.T @ centred
    # One that is the same for all of these pairs, as the artist's is where the split keeps artists
    # apart, would take any weight: what it adds is rounding.
    varied = np.flatnonzero(np.diag(products) > _VARIED**2 * len(target))
    products = products[np.ix_(varied, varied)]
    right = centred[:, varied].T @ (target - target.mean())
    # Least squares of as many rows as columns, with the same normal equations.
    values, vectors = np.linalg.eigh(products)
    kept = values > 1e-10 * values.max(initial=1e-30)
    root, found = vectors[:, kept] * np.sqrt(values[kept]), np.zeros(len(kernels))
    if kept.any():
        found[varied] = nnls(root.T, (vectors[:, kept].T @ right) / np.sqrt(values[kept]))[0]
    total = found.sum()
    return found / total if total > 0 else otherwise


def listened_together(fold: Fold, chosen: NDArray[np.int64]) -> NDArray[np.float64]:
    """Cosine of songs' listeners, each user weighing 1 / sqrt(songs); shape (chosen, chosen)."""
    weights = 1 / np.sqrt(np.maximum(fold.histories.sizes, 1))
    columns = csr_array(fold.histories.weights("binary")[:, chosen].multiply(weights[:, None]).T)
    unit = unit_rows(columns)
    return np.asarray((unit @ unit.T).toarray())


def apart(fold: Fold, chosen: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Pairs of songs that the fold's split puts on the same side; shape (chosen, chosen)."""
    groups = groups_of(fold)[chosen]
    same: NDArray[np.bool_] = (groups[:, None] == groups[None]) & (groups >= 0)[:, None]
    return same | np.eye(len(chosen), dtype=bool)


def groups_of(fold: Fold) -> NDArray[np.int64]:
    """What the split keeps together: a code of song, artist or album; -1 where unknown."""
    if fold.by == "artist":
        return fold.songs.artists
    return fold.songs.albums if fold.by == "album" else np.arange(len(fold.songs))
