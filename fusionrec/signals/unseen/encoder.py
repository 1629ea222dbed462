"""The maps of all signals of a blend, joined: unseen songs to rows of F and of atoms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fusionrec.signals.readers import Reader
from fusionrec.signals.songs import Songs
from fusionrec.signals.unseen.maps import Part
from fusionrec.signals.unseen.read import Catalogued, Read

_CHUNK = 2048
"""Songs that are compared with all reference songs at once."""


@dataclass(frozen=True)
class Placed:
    """A part, and which of the 2 D columns it adds to: those of features, then those of atoms."""

    part: Part
    columns: NDArray[np.int64]


@dataclass(frozen=True)
class UnseenRows:
    """What a blend makes of n songs.

    Attributes
    ----------
    F
        Float32, shape (n, d): what they are ranked by.
    features
        Float32, shape (n, D): in the dimensions of all signals, as `Blend.features`.
    atoms
        Float32, shape (n, D): as `Blend.atoms` of a song without plays.
    present
        Shape (n,): songs of which any signal knows something; the rows of others are zeros, also
        where the fit has one row for all songs of its own of which nothing is known.
    """

    F: NDArray[np.float32]
    features: NDArray[np.float32]
    atoms: NDArray[np.float32]
    present: NDArray[np.bool_]


@dataclass(frozen=True)
class UnseenSongs:
    """A blend, of songs that it was not fitted on.

    Attributes
    ----------
    readers
        By kernel: those that parts ask for.
    catalogued
        Artists and albums of the songs that it was fitted on.
    parts
        Of all signals.
    constant
        Float64, shape (2 D,).
    mean, rotation
        Float32, shapes (D,) and (D, d): F = (features - mean) rotation.
    """

    readers: Mapping[str, Reader]
    catalogued: Catalogued
    parts: tuple[Placed, ...]
    constant: NDArray[np.float64]
    mean: NDArray[np.float32]
    rotation: NDArray[np.float32]

    def rows(self, songs: Songs, unknown: Counter[str] | None = None) -> UnseenRows:
        """What the blend makes of songs, some thousand at a time.

        Parameters
        ----------
        songs
            One or more, of the columns of :data:`fusionrec.signals.songs.COLUMNS`; their lyrics
            counted by the same words, and their vectors of the same kinds, as at the fit. Fame
            that a song lacks is that of its artist.
        unknown
            Artists, terms and so on that the fit did not have, and which are left out, are counted
            in it.
        """
        unknown = Counter() if unknown is None else unknown
        n, D = len(songs), len(self.mean)
        found = np.empty((n, 2 * D), np.float32)
        present = np.empty(n, bool)
        for start in range(0, n, _CHUNK):
            some = slice(start, min(start + _CHUNK, n))
            read = Read(_part(songs, some, self.catalogued), self.readers, self.catalogued, unknown)
            found[some] = self._rows(read)
            present[some] = read.present
            strange = (read.songs.artists >= 0) & (read.groups("artist") < 0)
            unknown["artist"] += int(strange.sum())
        found[~present] = 0.0
        F = np.asarray((found[:, :D] - self.mean) @ self.rotation, np.float32)
        F[~present] = 0.0
        return UnseenRows(F, found[:, :D], found[:, D:], present)

    def _rows(self, read: Read) -> NDArray[np.float64]:
        found = np.tile(self.constant, (len(read.songs), 1))
        for placed in self.parts:
            found[:, placed.columns] += placed.part.rows(read)
        return found


def _part(songs: Songs, some: slice, catalogued: Catalogued) -> Songs:
    table = songs.table.slice(some.start, some.stop - some.start)
    lyrics = None if songs.lyrics is None else songs.lyrics[some]
    vectors = {name: rows[some] for name, rows in songs.vectors.items()}
    return catalogued.with_fame(Songs(table, table.num_rows, lyrics, vectors))
