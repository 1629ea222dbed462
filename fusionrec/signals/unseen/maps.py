"""What makes a signal's features or atoms of any song: a sum of parts, and a constant."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fusionrec.signals.unseen.read import Read

Matrix = NDArray[np.floating[Any]]


class Scaled(Protocol):
    """A part of a map while it is being made."""

    def times(self, matrix: Matrix) -> Scaled:
        """The part whose rows are these times a matrix, (k, d)."""


class Part(Protocol):
    """A number for each song and dimension."""

    def rows(self, read: Read) -> NDArray[np.float64]:
        """Of songs, shape (n, k)."""


@dataclass(frozen=True)
class SongMap:
    """The sum of parts and a constant.

    Attributes
    ----------
    parts
        All of the same k.
    constant
        Float64, shape (k,).
    """

    parts: tuple[Scaled, ...]
    constant: NDArray[np.float64]

    @staticmethod
    def of(*parts: Scaled, width: int) -> SongMap:
        """Of parts alone."""
        return SongMap(parts, np.zeros(width))

    def times(self, matrix: Matrix, mean: NDArray[np.float32] | None = None) -> SongMap:
        """The map whose rows are these, less a mean, (k,), times a matrix, (k, d)."""
        matrix = matrix.astype(np.float64)
        less = self.constant if mean is None else self.constant - mean
        return SongMap(tuple(part.times(matrix) for part in self.parts), less @ matrix)


@dataclass(frozen=True)
class SongMaps:
    """A signal's maps.

    Attributes
    ----------
    F
        What makes features.
    atoms
        What makes the rows of its atoms that a song without plays has; None: zeros, or there are
        none.
    """

    F: SongMap
    atoms: SongMap | None = None

    def projected(
        self, users: Matrix, songs: Matrix, mean: NDArray[np.float32] | None = None
    ) -> SongMaps:
        """As :meth:`fusionrec.signals.signal.Factors.projected`."""
        atoms = None if self.atoms is None else self.atoms.times(users)
        return replace(self, F=self.F.times(songs, mean), atoms=atoms)
