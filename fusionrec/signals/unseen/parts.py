"""Parts of maps: by landmarks, by the song's artist or album, by means of songs like it.

What a part keeps of songs is what others are compared with. Landmarks are those of the features'
kernels; for means by terms and attention they are the songs with plays that the signal looks at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusionrec.signals.unseen.maps import Matrix
from fusionrec.signals.unseen.read import Read
from fusionrec.signals.unseen.references import Groups, References

Compared = Mapping[str, References | Groups]
"""Reference songs by kernel; the kernel `album` has groups."""


def similarities(read: Read, name: str, references: References | Groups) -> NDArray[np.float64]:
    """Of songs to reference songs in one kernel, (n, m)."""
    if isinstance(references, Groups):
        return references.same(read.groups(name)).astype(np.float64)
    return references.similarities(*read.rows(name))


@dataclass(frozen=True)
class ByLandmarks:
    """sum_k weight_k K_k(s, landmarks) `values`.

    Attributes
    ----------
    weights
        By kernel.
    landmarks
        The same.
    values
        Float64, shape (landmarks, k).
    """

    weights: Mapping[str, float]
    landmarks: Compared
    values: NDArray[np.float64]

    def rows(self, read: Read) -> NDArray[np.float64]:
        """Of songs."""
        K = np.zeros((len(read.songs), len(self.values)))
        for name, references in self.landmarks.items():
            K += self.weights[name] * similarities(read, name, references)
        return K @ self.values

    def times(self, matrix: Matrix) -> ByLandmarks:
        """The part times a matrix."""
        return replace(self, values=self.values @ matrix)


@dataclass(frozen=True)
class ByGroup:
    """What a song has by its artist or album.

    Attributes
    ----------
    by
        `artist` or `album`.
    codes
        Of the groups that have anything, ascending.
    values
        Shape (codes, k), float64 while it is made and then float32; others have zeros.
    """

    by: str
    codes: NDArray[np.int64]
    values: NDArray[np.floating[Any]]

    @staticmethod
    def of(by: str, values: NDArray[np.float64]) -> ByGroup:
        """Of the values of all groups, in the order of their codes."""
        some = np.flatnonzero(values.any(axis=1))
        return ByGroup(by, some, values[some])

    def rows(self, read: Read) -> NDArray[np.float64]:
        """Of songs."""
        codes = read.groups(self.by)
        places = np.searchsorted(self.codes, codes)
        found = np.zeros((len(codes), self.values.shape[1]))
        known = places < len(self.codes)
        known[known] = self.codes[places[known]] == codes[known]
        found[known] = self.values[places[known]]
        return found

    def times(self, matrix: Matrix) -> ByGroup:
        """The part times a matrix."""
        return replace(self, values=self.values @ matrix)


@dataclass(frozen=True)
class ByNumbers:
    """The rows of a kernel, few numbers, times `values`.

    Attributes
    ----------
    kernel
        Its name.
    values
        Float64, shape (d, k).
    """

    kernel: str
    values: NDArray[np.float64]

    def rows(self, read: Read) -> NDArray[np.float64]:
        """Of songs."""
        return np.asarray(read.rows(self.kernel)[0] @ self.values)

    def times(self, matrix: Matrix) -> ByNumbers:
        """The part times a matrix."""
        return replace(self, values=self.values @ matrix)


@dataclass(frozen=True)
class MeansByTerms:
    """(sum_t K(s, t)^4 y_t + shrinkage m) / (sum_t K(s, t)^4 + shrinkage), K that of terms.

    Attributes
    ----------
    references
        The songs t.
    values
        y_t, float64, shape (references, k).
    mean
        m, float64, shape (k,).
    shrinkage
        At least 0.
    by, groups
        Songs of the same artist or album are left out; None: none is.
    """

    references: References
    values: NDArray[np.float64]
    mean: NDArray[np.float64]
    shrinkage: float
    by: str | None = None
    groups: Groups | None = None

    def rows(self, read: Read) -> NDArray[np.float64]:
        """Of songs."""
        weights = self.references.similarities(*read.rows("terms")) ** 4
        if self.by is not None and self.groups is not None:
            weights[self.groups.same(read.groups(self.by))] = 0.0
        total = weights.sum(axis=1, keepdims=True) + self.shrinkage
        return np.asarray((weights @ self.values + self.shrinkage * self.mean) / total)

    def times(self, matrix: Matrix) -> MeansByTerms:
        """The part times a matrix."""
        return replace(self, values=self.values @ matrix, mean=self.mean @ matrix)

    def beside(self, other: MeansByTerms) -> MeansByTerms:
        """Of the same songs both parts, the other's columns after its own."""
        values = np.concatenate([self.values, other.values], axis=1)
        return replace(self, values=values, mean=np.concatenate([self.mean, other.mean]))


@dataclass(frozen=True)
class Attention:
    """n / (n + shrinkage) sum_t softmax_t(sharpness K(s, t)) y_t over the n songs t of the artist.

    Attributes
    ----------
    songs
        By kernel the songs t of all artists, an artist's after the other's; in float32, as they
        are all that were played.
    bounds
        Shape (artists + 1,): where each artist's begin.
    values
        y_t, float32, shape (songs, k).
    sharpness, shrinkage
        As the signal's; K is the mean over the kernels.
    """

    songs: Compared
    bounds: NDArray[np.int64]
    values: NDArray[np.float32]
    sharpness: float
    shrinkage: float

    def rows(self, read: Read) -> NDArray[np.float64]:
        """Of songs."""
        artists = read.groups("artist")
        found = np.zeros((len(artists), self.values.shape[1]))
        for artist in np.unique(artists[artists >= 0]).tolist():
            start, stop = self.bounds[artist : artist + 2].tolist()
            if start < stop:
                some = np.flatnonzero(artists == artist)
                K = self._alike(read, some, start, stop)
                weights = np.exp(self.sharpness * K)
                share = (stop - start) / (stop - start + self.shrinkage)
                of_songs = weights @ self.values[start:stop]
                found[some] = share * of_songs / weights.sum(axis=1, keepdims=True)
        return found

    def _alike(
        self, read: Read, some: NDArray[np.int64], start: int, stop: int
    ) -> NDArray[np.float64]:
        K = np.zeros((len(some), stop - start))
        for name, songs in self.songs.items():
            part = songs.part(start, stop)
            if isinstance(part, Groups):
                K += part.same(read.groups(name)[some])
            else:
                rows, present = read.rows(name)
                K += part.similarities(rows[some], present[some])
        return K / max(1, len(self.songs))  # 0 by none: each song of the artist weighs the same

    def times(self, matrix: Matrix) -> Attention:
        """The part times a matrix."""
        return replace(self, values=np.asarray(self.values @ matrix, np.float32))


def taken(
    kernels: Mapping[str, Any], songs: NDArray[np.integer[Any]], dtype: Any = None
) -> Compared:
    """Reference songs of kernels, by row; of groups, their codes are given for a kernel."""
    return {
        name: Groups(kernel[songs])
        if isinstance(kernel, np.ndarray)
        else References.taken(kernel, songs, dtype)
        for name, kernel in kernels.items()
    }
