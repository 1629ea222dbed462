"""Beyond accuracy: what share of the catalogue is recommended, how popular, new and varied.

Definitions follow Castells, Hurley & Vargas, "Novelty and Diversity in Recommender Systems"
(Recommender Systems Handbook, 2nd ed., 2015, chapter 26): coverage and the Gini index (both of
aggregate diversity), intra-list distance and self-information. The average recommendation
popularity (ARP) is that of Abdollahpouri, Burke & Mobasher, "Managing Popularity Bias in
Recommender Systems with Personalized Re-ranking" (FLAIRS 2019). None of them looks at whether a
song is relevant.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array


@dataclass(frozen=True)
class Catalogue:
    """The candidates, as :meth:`ListStatistics.update` reads them.

    Attributes
    ----------
    popularity
        Shape (N,), float64: plays.
    information
        Shape (N,), float64: self-information -log2 p(s) in bits, p(s) = (plays + 1) /
        (all plays + N): a song nobody has played is as if played once.
    directions
        Shape (N, d), float64: vectors of length 1, and zeros where the vector is zero.
    """

    popularity: NDArray[np.float64]
    information: NDArray[np.float64]
    directions: NDArray[np.float64]

    @staticmethod
    def of(popularity: NDArray[Any], vectors: NDArray[Any]) -> Catalogue:
        """Popularity of shape (N,), such as plays in training, and vectors of shape (N, d).

        Raises
        ------
        ValueError
            Shapes do not fit, or a popularity is negative or not finite.
        """
        plays, rows = np.asarray(popularity, np.float64), np.asarray(vectors, np.float64)
        if plays.ndim != 1 or rows.ndim != 2 or len(plays) != len(rows):
            raise ValueError(f"popularity {plays.shape} and vectors {rows.shape} do not fit")
        if not np.all((plays >= 0) & (plays < np.inf)):
            raise ValueError("popularity must be finite and 0 or more, as plays are")
        information = np.log2(plays.sum() + len(plays)) - np.log2(plays + 1)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        directions = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
        return Catalogue(plays, information, directions)


@dataclass(frozen=True)
class BeyondAccuracy:
    """Measures of all lists together; NaN where nothing defines one.

    Attributes
    ----------
    coverage
        Share of the candidates that are in at least one list.
    gini
        Gini index of how often the candidates are recommended: 0 where all are as often,
        1 where one song takes every position.
    popularity
        ARP, the mean over lists of the mean popularity of a list's songs.
    popularity_bias
        ARP over the mean popularity of the candidates: 1 for songs picked at random.
    diversity
        Mean over lists of two songs and more of the mean cosine distance of their pairs
        (intra-list distance).
    novelty
        Mean over lists of the mean self-information of a list's songs, in bits.
    """

    coverage: float
    gini: float
    popularity: float
    popularity_bias: float
    diversity: float
    novelty: float


@dataclass
class ListStatistics:
    """Sums over lists that :class:`BeyondAccuracy` is made of; shards of users are merged.

    Attributes
    ----------
    counts
        Shape (N,), int64: lists that each candidate is in.
    lists
        Lists with a song.
    pair_lists
        Lists with two songs or more.
    popularity, novelty
        Sums over `lists` of a list's mean.
    diversity
        Sum over `pair_lists` of a list's mean.
    """

    counts: NDArray[np.int64]
    lists: int = 0
    pair_lists: int = 0
    popularity: float = 0.0
    novelty: float = 0.0
    diversity: float = 0.0

    @staticmethod
    def empty(candidates: int) -> ListStatistics:
        """Of no list yet, on a catalogue of N candidates."""
        return ListStatistics(np.zeros(candidates, dtype=np.int64))

    def update(self, lists: NDArray[np.integer[Any]], catalogue: Catalogue) -> None:
        """Add some users' lists; in time and memory of users * K * d and users * (K + d).

        Parameters
        ----------
        lists
            Shape (users, K): columns of the catalogue, each at most once a list; -1 beyond the
            end (:attr:`fusionrec.ranking.lists.RankedLists.indices`).
        catalogue
            The same N candidates at every update.

        Raises
        ------
        ValueError
            The catalogue is of another size, or a column is beyond it.
        """
        N = len(self.counts)
        if len(catalogue.popularity) != N:
            raise ValueError(f"{len(catalogue.popularity)} candidates where {N} were before")
        lists = np.asarray(lists)
        if lists.ndim != 2 or np.any(lists < -1) or np.any(lists >= N):
            raise ValueError(f"lists must be of shape (users, K), columns from -1 to {N - 1}")
        there = lists >= 0
        sizes = there.sum(axis=1)
        there, lists, sizes = there[sizes > 0], lists[sizes > 0], sizes[sizes > 0]
        columns = lists[there]
        self.counts += np.bincount(columns, minlength=N)
        self.lists += len(sizes)

        indptr = np.concatenate([[0], np.cumsum(sizes)])
        member = csr_array((np.ones(len(columns)), columns, indptr), shape=(len(sizes), N))
        self.popularity += float((member @ catalogue.popularity / sizes).sum())
        self.novelty += float((member @ catalogue.information / sizes).sum())

        # The squared length of the sum of unit vectors is the sum of the cosines of all ordered
        # pairs, each song's with itself among them.
        several = sizes > 1
        pairs = (sizes * (sizes - 1))[several]
        total = member @ catalogue.directions
        own = member @ (catalogue.directions**2).sum(axis=1)
        cosines = ((total**2).sum(axis=1) - own)[several]
        self.pair_lists += len(pairs)
        self.diversity += float((1 - cosines / pairs).sum())

    def merge(self, other: ListStatistics) -> ListStatistics:
        """Statistics of both's lists together; exact in the counts.

        Raises
        ------
        ValueError
            Their catalogues are of different sizes.
        """
        if len(self.counts) != len(other.counts):
            raise ValueError(f"{len(self.counts)} and {len(other.counts)} candidates do not merge")
        return ListStatistics(
            self.counts + other.counts,
            self.lists + other.lists,
            self.pair_lists + other.pair_lists,
            self.popularity + other.popularity,
            self.novelty + other.novelty,
            self.diversity + other.diversity,
        )

    def finish(self, catalogue: Catalogue) -> BeyondAccuracy:
        """The measures of all lists so far, on the catalogue they were updated with."""
        popularity = _ratio(self.popularity, self.lists)
        N = len(self.counts)
        return BeyondAccuracy(
            coverage=_ratio(int((self.counts > 0).sum()), N),
            gini=gini(self.counts),
            popularity=popularity,
            popularity_bias=_ratio(popularity, _ratio(float(catalogue.popularity.sum()), N)),
            diversity=_ratio(self.diversity, self.pair_lists),
            novelty=_ratio(self.novelty, self.lists),
        )


def gini(counts: NDArray[Any]) -> float:
    """Gini index of numbers that are 0 or more: 0 where all are equal, 1 where one is all.

    With them in ascending order, sum_i (2 i - N - 1) c_i / ((N - 1) sum_i c_i), i from 1
    (Castells, Hurley & Vargas 2015). NaN where all are 0 or there is but one.
    """
    N = len(counts)
    ascending = np.sort(counts).astype(np.float64)
    weights = 2.0 * np.arange(1, N + 1) - N - 1
    return _ratio(float(weights @ ascending), (N - 1) * float(ascending.sum()))


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator > 0 else float("nan")
