"""The plays that may be learned from."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

Weighting = Literal["log", "binary", "mean"]
"""What a song of a user's history weighs: log(1 + plays) over the sum of it, 1, or 1 / songs."""


@dataclass(frozen=True)
class Histories:
    """Plays by user and song.

    Attributes
    ----------
    counts
        Float32, shape (U, n), no explicit zeros; columns of hidden songs are empty.
    """

    counts: csr_array
    _weights: dict[Weighting, csr_array] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(
        cls,
        users: NDArray[np.integer[Any]],
        songs: NDArray[np.integer[Any]],
        plays: NDArray[np.integer[Any]],
        shape: tuple[int, int],
    ) -> Histories:
        """Histories of rows (user, song, plays); rows of the same user and song are added up."""
        counts = csr_array((plays.astype(np.float32), (users, songs)), shape=shape)
        counts.sum_duplicates()
        counts.eliminate_zeros()
        return cls(counts)

    def without(self, songs: NDArray[np.bool_]) -> Histories:
        """The same without any play of the songs of a mask, shape (n,)."""
        counts = self.counts
        kept = ~songs[counts.indices]
        # Of all rows up to each.
        before = np.zeros(len(kept) + 1, counts.indptr.dtype)
        np.cumsum(kept, out=before[1:])
        parts = (counts.data[kept], counts.indices[kept], before[counts.indptr])
        return Histories(csr_array(parts, shape=counts.shape))

    def weights(self, weighting: Weighting) -> csr_array:
        """What each song of each history weighs, float32 (U, n)."""
        if weighting not in self._weights:
            counts = self.counts
            values = weights(weighting, counts.data, counts.indptr)
            # The same places, in the same memory.
            parts = (values, counts.indices, counts.indptr)
            self._weights[weighting] = csr_array(parts, shape=counts.shape)
        return self._weights[weighting]

    @cached_property
    def listeners(self) -> NDArray[np.int64]:
        """Users who played each song, shape (n,)."""
        found = np.bincount(self.counts.indices, minlength=self.counts.shape[1])
        return found.astype(np.int64)

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """Songs that each user played, shape (U,)."""
        return np.asarray(np.diff(self.counts.indptr), np.int64)


def weights(
    weighting: Weighting, plays: NDArray[np.floating[Any]], indptr: NDArray[np.integer[Any]]
) -> NDArray[np.float32]:
    """Weights of plays, float32, user u's being those from `indptr[u]` to `indptr[u + 1]`."""
    values = np.log1p(plays) if weighting == "log" else np.ones(len(plays))
    if weighting == "binary":
        return values.astype(np.float32)
    sizes = np.diff(indptr)
    user = np.repeat(np.arange(len(sizes)), sizes)
    sums = np.bincount(user, values, len(sizes))
    return np.asarray(values / sums[user], np.float32)
