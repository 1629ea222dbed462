"""Reference songs of one kernel: all of it that other songs are compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from fusionrec.signals.kernels import Gaussian, Kernel, Linear, gaussian
from fusionrec.signals.readers import Matrix


@dataclass(frozen=True)
class References:
    """Rows of m songs in a kernel's space.

    Attributes
    ----------
    X
        Rows, each once where many songs have the same.
    of
        Shape (m,): each song's row of X.
    median
        Of a Gaussian; None: the kernel is linear.
    """

    X: Matrix
    of: NDArray[np.integer[Any]]
    median: float | None = None

    @staticmethod
    def taken(kernel: Kernel, songs: NDArray[np.integer[Any]], dtype: Any = None) -> References:
        """Of songs of a kernel, by row; in `dtype`, if it is given."""
        assert isinstance(kernel, Linear | Gaussian)
        marks = np.where(kernel.present[songs], kernel.marks[songs], np.nan)
        _, first, of = np.unique(marks, return_index=True, return_inverse=True)
        rows, of = songs[first], of.astype(np.int32)
        if isinstance(kernel, Linear):
            X = kernel.X[rows if kernel.of is None else kernel.of[rows]]
            if isinstance(X, csr_array):
                parts = X.data, X.indices.astype(np.int32), X.indptr.astype(np.int64)
                X = csr_array(parts, shape=X.shape)
            return References(X if dtype is None else X.astype(dtype), of)
        absent = ~kernel.present[rows]
        X = kernel.X[rows]
        X[absent] = np.nan  # like nothing
        return References(X if dtype is None else X.astype(dtype), of, kernel.median)

    def similarities(self, rows: Matrix, present: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Of songs, rows of the same kernel, to these: float64 (n, m).

        Parameters
        ----------
        present
            Shape (n,): songs that the kernel knows.
        """
        if self.median is not None:
            X = np.asarray(self.X, np.float64)
            found = np.nan_to_num(gaussian(np.asarray(rows), X, self.median))
            found[~present] = 0.0
        elif isinstance(self.X, csr_array):
            found = np.asarray((rows @ self.X.T).toarray(), np.float64)
        else:
            found = np.asarray(rows @ self.X.T, np.float64)
        return found if self._each else found[:, self.of]

    @property
    def _each(self) -> bool:
        return len(self.of) == self.X.shape[0] and bool(
            (self.of == np.arange(len(self.of), dtype=self.of.dtype)).all()
        )

    def part(self, start: int, stop: int) -> References:
        """Those from `start` to before `stop`."""
        rows, of = np.unique(self.of[start:stop], return_inverse=True)
        return References(self.X[rows], of.astype(np.int32), self.median)


@dataclass(frozen=True)
class Groups:
    """Groups (artists, albums) of m songs, for a kernel of whether two songs are of the same one.

    Attributes
    ----------
    codes
        Shape (m,), -1 for none.
    """

    codes: NDArray[np.int64]

    def same(self, codes: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Of songs, (n,), with these: (n, m)."""
        found: NDArray[np.bool_] = (codes[:, None] == self.codes) & (codes >= 0)[:, None]
        return found

    def part(self, start: int, stop: int) -> Groups:
        """Those from `start` to before `stop`."""
        return Groups(self.codes[start:stop])
