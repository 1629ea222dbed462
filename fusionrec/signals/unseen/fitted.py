"""Parts of the maps of a fold's signals, made of what the signals were computed with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusionrec.signals import content, context
from fusionrec.signals.basis import Basis, kernel_of
from fusionrec.signals.readers import Reader
from fusionrec.signals.songs import Songs
from fusionrec.signals.unseen.maps import Matrix, Part, SongMap
from fusionrec.signals.unseen.parts import ByGroup, ByLandmarks, taken

OF_ARTISTS = ("artist", "lists", "walks", "links")
"""Kernels by which all songs of an artist are the same, whatever else is known of them."""

_CHUNK = 4096


@dataclass(frozen=True)
class Features:
    """Features of a basis, times a matrix: a part that is yet to be joined with others.

    Attributes
    ----------
    basis
        Of :mod:`fusionrec.signals.basis`, one object for all signals that share it.
    matrix
        Float64, shape (d, k).
    """

    basis: Basis
    matrix: NDArray[np.float64]

    def times(self, matrix: Matrix) -> Features:
        """The part times a matrix."""
        return replace(self, matrix=self.matrix @ matrix)


def features(found: Basis, matrix: NDArray[np.floating[Any]] | None = None) -> SongMap:
    """The map of a basis' features, times a matrix if one is given."""
    size = found.projection.shape[1]
    whole = np.eye(size) if matrix is None else matrix.astype(np.float64)
    return SongMap.of(Features(found, whole), width=whole.shape[1])


def by_landmarks(songs: Songs, some: Basis, matrix: NDArray[np.float64]) -> list[Part]:
    """Parts that make features of a basis times a matrix, (d, k): by landmarks, and by artist."""
    values = some.projection @ matrix
    found: list[Part] = []
    for_songs = {name: w for name, w in some.weights.items() if name not in OF_ARTISTS}
    kernels = {name: kernel_of(songs, name) for name in some.weights}
    known = {name: compared(songs, name) for name in for_songs if kernels[name].present.any()}
    if known and len(some.landmarks):
        found.append(ByLandmarks(for_songs, taken(known, some.landmarks), values))
    for_artists = {name: w for name, w in some.weights.items() if name in OF_ARTISTS}
    if for_artists and len(some.landmarks):
        found.append(ByGroup.of("artist", _of_artists(songs, for_artists, some, values)))
    return found


def _of_artists(
    songs: Songs, weights: Mapping[str, float], some: Basis, values: NDArray[np.float64]
) -> NDArray[np.float64]:
    """What any song of each artist has by the artists' kernels, (artists, k)."""
    first = first_of_artists(songs)
    found = np.zeros((len(first), values.shape[1]))
    for start in range(0, len(first), _CHUNK):
        rows = first[start : start + _CHUNK]
        for name, weight in weights.items():
            K = kernel_of(songs, name).block(rows, some.landmarks)
            found[start : start + _CHUNK] += weight * (K @ values)
    return found


def first_of_artists(songs: Songs) -> NDArray[np.int64]:
    """The first song of each artist, in the order of their codes."""
    rows = np.flatnonzero(songs.artists >= 0)
    return rows[np.unique(songs.artists[rows], return_index=True)[1]]


def compared(songs: Songs, name: str) -> Any:
    """What reference songs are taken from: a kernel, or codes of albums."""
    return songs.albums if name == "album" else kernel_of(songs, name)


def readers_of(songs: Songs, names: set[str]) -> dict[str, Reader]:
    """The readers of kernels by name; groups have none."""
    found = {
        name: context.fame_reader(songs) if name == "fame" else content.reader(songs, name)
        for name in sorted(names)
    }
    return {name: reader for name, reader in found.items() if reader is not None}
