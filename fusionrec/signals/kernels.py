"""Similarities of songs, and explicit features whose products they are.

A kernel gives blocks of K, rows by columns; nothing here holds all pairs of songs. Its features
Phi (K = Phi Phi^T) are those of Nystroem's method with the most-played songs as landmarks:
Phi = K_nL Q L^(-1/2), with Q and L the eigenvectors and eigenvalues of K_LL (Williams & Seeger
2001). They are exact where every song is a landmark; :func:`error` measures them elsewhere. Songs
that a kernel can't tell apart, as an artist's are for many, need one landmark among them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.sparse import csr_array, diags_array

Rows = NDArray[np.integer[Any]]

_CHUNK = 4096
"""Songs whose features are computed at once."""

CHUNK = 16_384
"""Rows of features that are computed with at once, in float64 or less a mean."""

_DENSE = 2**23
"""Elements of a sparse factor that is made dense for a product, at most (64 MiB)."""


class Kernel(Protocol):
    """A positive semi-definite similarity; 0 to every song for one that it knows nothing of."""

    @property
    def present(self) -> NDArray[np.bool_]:
        """Songs that it knows something of, shape (n,)."""

    @property
    def marks(self) -> NDArray[np.float64]:
        """A number for each song, shape (n,): the same for songs that it can't tell apart."""

    def block(self, rows: Rows, columns: Rows) -> NDArray[np.float64]:
        """Similarities of songs `rows` to songs `columns`."""

    def diagonal(self, rows: Rows) -> NDArray[np.float64]:
        """Similarities of songs `rows` to themselves."""


@dataclass(frozen=True)
class Linear:
    """x . y of rows of a matrix, sparse or dense; of unit rows that is their cosine.

    Attributes
    ----------
    X
        A row for each song or, where there is `of`, for each of what songs have in common.
    of
        Shape (n,): each song's row of X.
    """

    X: csr_array | NDArray[np.floating[Any]]
    of: NDArray[np.int64] | None = None

    @property
    def present(self) -> NDArray[np.bool_]:
        """Songs with a row that is not 0."""
        if isinstance(self.X, csr_array):
            present = np.asarray(np.diff(self.X.indptr) > 0)
        else:
            present = np.asarray(np.any(self.X != 0, axis=1))
        return present if self.of is None else present[self.of]

    @property
    def marks(self) -> NDArray[np.float64]:
        """A number for each song, the same for equal rows."""
        marks = _marks(self.X)
        return marks if self.of is None else marks[self.of]

    def block(self, rows: Rows, columns: Rows) -> NDArray[np.float64]:
        """Similarities of songs `rows` to songs `columns`."""
        if self.of is None:
            return self._products(rows, columns)
        some, of_rows = np.unique(self.of[rows], return_inverse=True)
        others, of_columns = np.unique(self.of[columns], return_inverse=True)
        return self._products(some, others)[of_rows][:, of_columns]

    def _products(self, rows: Rows, columns: Rows) -> NDArray[np.float64]:
        if not isinstance(self.X, csr_array):
            return np.asarray(self.X[rows] @ self.X[columns].T, np.float64)
        some, others = self.X[rows], self.X[columns].T
        if others.shape[0] * others.shape[1] <= _DENSE and others.shape[0] <= some.nnz:
            # A product of few zeros is made faster from a dense factor, if that is soon made.
            return np.asarray(some @ others.toarray(), np.float64)
        return np.asarray((some @ others).toarray(), np.float64)

    def diagonal(self, rows: Rows) -> NDArray[np.float64]:
        """Similarities of songs `rows` to themselves."""
        rows = rows if self.of is None else self.of[rows]
        found = np.zeros(len(rows))
        for start in range(0, len(rows), CHUNK):
            some = self.X[rows[start : start + CHUNK]]
            found[start : start + CHUNK] = np.asarray((some * some).sum(axis=1)).ravel()
        return found


class Gaussian:
    """exp(-|x - y|^2 / (2 m^2)), m the median distance of songs that have it.

    Parameters
    ----------
    X
        Shape (n, d).
    present
        Shape (n,).
    """

    def __init__(self, X: NDArray[np.floating[Any]], present: NDArray[np.bool_]) -> None:
        self.X = np.asarray(X, np.float64)
        self.present = present
        self.median = _median_distance(self.X[present])

    @property
    def marks(self) -> NDArray[np.float64]:
        """A number for each song, the same for equal rows."""
        return _marks(self.X)

    def block(self, rows: Rows, columns: Rows) -> NDArray[np.float64]:
        """Similarities of songs `rows` to songs `columns`."""
        found = gaussian(self.X[rows], self.X[columns], self.median)
        found[~self.present[rows]] = 0.0
        found[:, ~self.present[columns]] = 0.0
        return found

    def diagonal(self, rows: Rows) -> NDArray[np.float64]:
        """Similarities of songs `rows` to themselves."""
        return self.present[rows].astype(np.float64)


class Sum:
    """Weights times kernels, added up.

    Parameters
    ----------
    kernels, weights
        Of the same length; weights at least 0.
    """

    def __init__(self, kernels: Sequence[Kernel], weights: Iterable[float]) -> None:
        self.terms = [(k, w) for k, w in zip(kernels, weights, strict=True) if w > 0]
        if not self.terms:
            raise ValueError("a sum of kernels needs one of a weight above 0")
        self.present = np.logical_or.reduce([kernel.present for kernel, _ in self.terms])

    @property
    def marks(self) -> NDArray[np.float64]:
        """A number for each song, the same where it is in every kernel."""
        parts = np.stack([kernel.marks * kernel.present for kernel, _ in self.terms], axis=1)
        return _marks(parts)

    def block(self, rows: Rows, columns: Rows) -> NDArray[np.float64]:
        """Similarities of songs `rows` to songs `columns`."""
        total = np.zeros((len(rows), len(columns)))
        for kernel, weight in self.terms:
            total += weight * kernel.block(rows, columns)
        return total

    def diagonal(self, rows: Rows) -> NDArray[np.float64]:
        """Similarities of songs `rows` to themselves."""
        total = np.zeros(len(rows))
        for kernel, weight in self.terms:
            total += weight * kernel.diagonal(rows)
        return total


def most_played(kernel: Kernel, listeners: NDArray[np.integer[Any]], count: int) -> Rows:
    """Songs that a kernel knows, at most `count`: those with most listeners, ascending.

    Parameters
    ----------
    listeners
        Shape (n,): of songs that may be learned from.
    """
    known = np.flatnonzero(kernel.present)
    return np.sort(known[np.argsort(-listeners[known], kind="stable")[:count]])


def landmarks(kernel: Kernel, listeners: NDArray[np.integer[Any]], count: int) -> Rows:
    """Songs that a kernel's features are made of, ascending.

    Of songs that the kernel can't tell apart, the most-played one stands for all; it is chosen by
    their listeners together.

    Parameters
    ----------
    listeners
        Shape (n,): of songs that may be learned from.
    count
        How many, at most.
    """
    known = np.flatnonzero(kernel.present)
    known = known[np.argsort(-listeners[known], kind="stable")]
    _, first, group = np.unique(kernel.marks[known], return_index=True, return_inverse=True)
    together = np.bincount(group, listeners[known], minlength=len(first))
    order = np.lexsort((first, -together))
    return np.sort(known[first[order[:count]]])


def projection(kernel: Kernel, chosen: Rows, tolerance: float = 1e-7) -> NDArray[np.float64]:
    """Q L^(-1/2), (landmarks, d): d at most their number, and at least 1.

    Directions whose eigenvalue is below `tolerance` of the largest are left out. They are in
    descending order of eigenvalue.
    """
    nothing = np.zeros((len(chosen), 1))
    if not len(chosen):
        return nothing
    values, vectors = eigh(kernel.block(chosen, chosen))
    kept = np.flatnonzero(values > tolerance * max(values[-1], 1e-30))[::-1]
    found: NDArray[np.float64] = vectors[:, kept] / np.sqrt(values[kept])
    return found if len(kept) else nothing


def features(
    kernel: Kernel,
    chosen: Rows,
    projected: NDArray[np.float64] | None = None,
    tolerance: float = 1e-7,
) -> NDArray[np.float32]:
    """Phi of all songs, float32 (n, d), by landmarks.

    Parameters
    ----------
    projected
        Their :func:`projection`; None: it is made here, with `tolerance`.
    """
    if projected is None:
        projected = projection(kernel, chosen, tolerance)
    n = len(kernel.present)
    Phi = np.zeros((n, projected.shape[1]), np.float32)
    if not projected.any():
        return Phi
    for start in range(0, n, _CHUNK):
        rows = np.arange(start, min(n, start + _CHUNK))
        Phi[rows] = kernel.block(rows, chosen) @ projected
    return Phi


def error(
    kernel: Kernel, Phi: NDArray[np.floating[Any]], *, sample: int = 1000, seed: int = 0
) -> float:
    """Relative error |K - Phi Phi^T| / |K| (Frobenius) over pairs of sampled songs."""
    known = np.flatnonzero(kernel.present)
    rows = np.random.default_rng(seed).permutation(known)[:sample]
    K = kernel.block(rows, rows)
    difference = K - Phi[rows].astype(np.float64) @ Phi[rows].T
    size = float(np.linalg.norm(K))
    return float(np.linalg.norm(difference)) / max(size, 1e-30)


def gram(
    X: NDArray[np.float32], rows: Rows, mean: NDArray[np.float32] | None = None
) -> NDArray[np.float64]:
    """The products of the columns of some rows of X, less `mean`, (d, d), in float64."""
    total = np.zeros((X.shape[1], X.shape[1]))
    for start in range(0, len(rows), CHUNK):
        some = X[rows[start : start + CHUNK]]
        some = (some if mean is None else some - mean).astype(np.float64)
        total += some.T @ some
    return total


def unit_rows(X: csr_array) -> csr_array:
    """A sparse matrix with rows of length 1; empty rows stay."""
    X = csr_array(X).astype(np.float64)
    X.eliminate_zeros()
    lengths = np.sqrt(np.asarray((X * X).sum(axis=1)).ravel())
    scale = np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    return csr_array(diags_array(scale) @ X)


def _marks(X: csr_array | NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Random projections of rows: equal rows have the same, and others hardly ever."""
    direction = np.random.default_rng(0).standard_normal(X.shape[1])
    if isinstance(X, csr_array):
        # Row by row in the order of the columns, so that equal rows give equal sums.
        ordered = X if X.has_sorted_indices else X.sorted_indices()
        return np.asarray(ordered @ direction, np.float64)
    found = np.empty(len(X))
    for start in range(0, len(X), _CHUNK):  # not a matrix product: its sums turn on the row
        found[start : start + _CHUNK] = (X[start : start + _CHUNK] * direction).sum(axis=1)
    return found


def gaussian(X: NDArray[np.float64], Y: NDArray[np.float64], median: float) -> NDArray[np.float64]:
    """exp(-|x - y|^2 / (2 m^2)) of the rows of X with those of Y."""
    return np.asarray(np.exp(-_squared_distances(X, Y) / (2 * median**2)))


def _squared_distances(X: NDArray[np.float64], Y: NDArray[np.float64]) -> NDArray[np.float64]:
    found = (X**2).sum(axis=1)[:, None] + (Y**2).sum(axis=1)[None] - 2 * X @ Y.T
    return np.asarray(np.maximum(found, 0.0))


def _median_distance(X: NDArray[np.float64], sample: int = 1000) -> float:
    """Of distinct points of an evenly spaced sample; 1 where all are the same."""
    X = X[np.linspace(0, len(X) - 1, min(len(X), sample)).astype(int)] if len(X) else X
    squared = _squared_distances(X, X)[np.triu_indices(len(X), 1)]
    # Rounding leaves a little between equal points.
    squared = squared[squared > 1e-9 * max(squared.max(initial=0.0), 1e-30)]
    return float(np.sqrt(np.median(squared))) if len(squared) else 1.0
