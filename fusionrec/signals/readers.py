"""Songs as rows of a similarity, by what was fixed when it was fitted: also songs not seen then.

A reader has the vocabulary, the inverse document frequencies, the means and the scales of one
kernel of :mod:`fusionrec.signals.content` or of fame, and no song. What it has no column for, as a
term that no song had, is left out and counted.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array

from fusionrec.signals.kernels import unit_rows
from fusionrec.signals.songs import Songs

Matrix: TypeAlias = "csr_array | NDArray[Any]"

CLIP = 5.0
"""Standard deviations at which vectors that are standardised are cut off."""

HASHED = 2**18
_TEXTS: dict[str, dict[str, Any]] = {
    "names": {"token_pattern": r"(?u)\b\w+\b"},
    "titles": {"analyzer": "char_wb", "ngram_range": (3, 4)},
}


class Reader(Protocol):
    """What makes rows of one kernel of songs."""

    def rows(self, songs: Songs, unknown: Counter[str]) -> tuple[Matrix, NDArray[np.bool_]]:
        """Rows of songs, shape (n, d), and of which of them it knows something, (n,).

        Parameters
        ----------
        unknown
            What has no column is added to it, by what it is.
        """


@dataclass(frozen=True)
class Bags:
    """Lists of items with weights, times inverse document frequencies, as unit rows.

    Attributes
    ----------
    column, weights
        Columns of songs.
    logarithm
        Weights are counts, of which log(1 + count) is taken.
    items
        Arrow strings, the columns.
    frequencies
        Inverse document frequencies of the items, float64.
    """

    column: str
    weights: str
    logarithm: bool
    items: pa.Array
    frequencies: NDArray[np.float64]

    @staticmethod
    def fitted(
        songs: Songs, column: str, weights: str, *, logarithm: bool = False
    ) -> tuple[csr_array, Bags]:
        """Rows of the songs that it is fitted to, and it."""
        counts, items = _counts(songs, column, weights, logarithm)
        reader = Bags(column, weights, logarithm, items, inverse_frequencies(counts))
        return _weighed(counts, reader.frequencies), reader

    def rows(self, songs: Songs, unknown: Counter[str]) -> tuple[csr_array, NDArray[np.bool_]]:
        """Rows of songs."""
        counts, items = _counts(songs, self.column, self.weights, self.logarithm)
        columns = pc.index_in(items, value_set=self.items)
        known = pc.is_valid(columns).to_numpy(zero_copy_only=False)[counts.indices[: counts.nnz]]
        unknown[self.column] += int((~known).sum())
        places = pc.fill_null(columns, 0).to_numpy().astype(np.int64)
        row = np.repeat(np.arange(len(songs)), np.diff(counts.indptr))
        shape = (len(songs), len(self.frequencies))
        own = csr_array(
            (counts.data[known], (row[known], places[counts.indices[known]])), shape=shape
        )
        return _present(_weighed(own, self.frequencies))


def _counts(songs: Songs, column: str, weights: str, logarithm: bool) -> tuple[csr_array, pa.Array]:
    counts, items = item_weights(songs.table[column], songs.table[weights])
    if logarithm:
        counts.data = np.log1p(np.maximum(counts.data, 0.0))
    return counts, items


@dataclass(frozen=True)
class Texts:
    """Hashed words or character n-grams times inverse document frequencies, as unit rows.

    Attributes
    ----------
    what
        `names` of artists, or `titles` and releases.
    columns
        Hashes that any song had, ascending.
    frequencies
        Their inverse document frequencies, float64.
    """

    what: str
    columns: NDArray[np.int32]
    frequencies: NDArray[np.float64]

    @staticmethod
    def fitted(songs: Songs, what: str) -> tuple[csr_array, Texts]:
        """Rows of the songs that it is fitted to, and it."""
        hashed = _hashed(songs, what)
        used = np.flatnonzero(np.diff(hashed.indptr))
        counts = csr_array(hashed[:, used])
        reader = Texts(what, used.astype(np.int32), inverse_frequencies(counts))
        return _weighed(counts, reader.frequencies), reader

    def rows(self, songs: Songs, unknown: Counter[str]) -> tuple[csr_array, NDArray[np.bool_]]:
        """Rows of songs."""
        hashed = _hashed(songs, self.what)
        counts = csr_array(hashed[:, self.columns])
        unknown[self.what] += int(hashed.nnz - counts.nnz)
        return _present(_weighed(counts, self.frequencies))


def _hashed(songs: Songs, what: str) -> Any:
    """By column, scipy's csc."""
    from sklearn.feature_extraction.text import HashingVectorizer

    texts = songs.texts("artist_name" if what == "names" else "title")
    if what == "titles":
        pairs = zip(texts, songs.texts("release"), strict=True)
        texts = [f"{title} {release}" for title, release in pairs]
    vectoriser = HashingVectorizer(
        n_features=HASHED, alternate_sign=False, norm=None, binary=True, **_TEXTS[what]
    )
    return vectoriser.transform(texts).tocsc()


@dataclass(frozen=True)
class Words:
    """Square-rooted TF-IDF of lyrics as unit rows.

    Attributes
    ----------
    frequencies
        Inverse document frequencies of the words, float64.
    """

    frequencies: NDArray[np.float64]

    @staticmethod
    def fitted(lyrics: csr_array) -> tuple[csr_array, Words]:
        """Rows of the songs that it is fitted to, and it."""
        counts = csr_array(lyrics).astype(np.float64)
        reader = Words(inverse_frequencies(counts))
        return reader._rows(counts), reader

    def rows(self, songs: Songs, unknown: Counter[str]) -> tuple[csr_array, NDArray[np.bool_]]:
        """Rows of songs, whose words are those of the songs that it was fitted to."""
        if songs.lyrics is None:
            return _present(csr_array((len(songs), len(self.frequencies)), dtype=np.float64))
        return _present(self._rows(csr_array(songs.lyrics).astype(np.float64)))

    def _rows(self, counts: csr_array) -> csr_array:
        weighted = csr_array(counts @ diags_array(self.frequencies))
        weighted.data = np.sqrt(weighted.data)
        return unit_rows(weighted)


@dataclass(frozen=True)
class Vectors:
    """Vectors less their mean, over their deviation where there is a scale.

    Attributes
    ----------
    name
        Of :attr:`fusionrec.signals.songs.Songs.vectors`.
    mean
        Shape (d,).
    scale
        Shape (d,), or None: they are not standardised, nor cut off.
    unit
        In float32, over their lengths: else in float64.
    """

    name: str
    mean: NDArray[np.floating[Any]]
    scale: NDArray[np.float64] | None
    unit: bool

    def rows(
        self, songs: Songs, unknown: Counter[str]
    ) -> tuple[NDArray[np.floating[Any]], NDArray[np.bool_]]:
        """Rows of songs; zeros of those without."""
        given = songs.vectors.get(self.name)
        if given is None:
            given = np.zeros((len(songs), len(self.mean)), np.float32)
        present = np.any(given != 0, axis=1)
        found = given - self.mean
        if self.scale is not None:
            found = np.clip(found * self.scale, -CLIP, CLIP)
        found = np.where(present[:, None], found, 0.0)
        if self.unit:
            found = found.astype(np.float32)
            lengths = np.linalg.norm(found, axis=1, keepdims=True)
            np.divide(found, lengths, out=found, where=lengths > 0)
        return found, present


@dataclass(frozen=True)
class Numbers:
    """Columns of numbers, standardised each by itself and cut off, or as they are.

    Attributes
    ----------
    columns
        Of songs.
    mean, scale
        Of each; None: as they are.
    """

    columns: tuple[str, ...]
    mean: NDArray[np.float64] | None = None
    scale: NDArray[np.float64] | None = None

    def rows(
        self, songs: Songs, unknown: Counter[str]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Rows of songs, 0 where unknown, and of which any number is known."""
        given = np.stack([songs.numbers(column) for column in self.columns], axis=1)
        known = np.isfinite(given)
        found = np.where(known, given, 0.0)
        if self.mean is not None and self.scale is not None:
            found = np.where(known, np.clip((found - self.mean) * self.scale, -CLIP, CLIP), 0.0)
        return found, np.asarray(known.any(axis=1))


def statistics(
    rows: NDArray[np.floating[Any]], present: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means of columns over the songs that have them, and 1 / deviation; 0 of a constant one."""
    known = rows[present].astype(np.float64)
    if not len(known):
        return np.zeros(rows.shape[1]), np.zeros(rows.shape[1])
    mean, deviation = known.mean(axis=0), known.std(axis=0)
    scale = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 1e-12)
    return mean, scale


def inverse_frequencies(X: csr_array) -> NDArray[np.float64]:
    """Of each column log(songs with anything / songs with the column)."""
    documents = max(int((np.diff(X.indptr) > 0).sum()), 1)
    frequency = np.bincount(X.indices, minlength=X.shape[1])
    found: NDArray[np.float64] = np.log(documents / np.maximum(frequency, 1))
    return found


def item_weights(
    lists: pa.ChunkedArray | pa.ListArray, weights: pa.ChunkedArray | pa.ListArray | None = None
) -> tuple[csr_array, pa.Array]:
    """Lists as a matrix, shape (n, distinct items), of their weights or of ones, and the items.

    Of an item that is twice in a list, the larger weight counts; where a list has fewer weights
    than items, all of its weights are 1.
    """
    sizes = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    rows = np.repeat(np.arange(len(lists)), sizes)
    items = _combined(pc.list_flatten(lists)).dictionary_encode()
    columns = items.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    values = np.ones(len(rows))
    if weights is not None:
        lengths = pc.fill_null(pc.list_value_length(weights), 0).to_numpy()
        same = lengths == sizes
        flat = pc.fill_null(pc.list_flatten(weights).cast("float64"), 1.0).to_numpy()
        values[np.repeat(same, sizes)] = flat[np.repeat(same, lengths)]
    shape = (len(lists), max(len(items.dictionary), 1))
    order = np.lexsort((-values, columns, rows))
    first = np.ones(len(order), bool)
    first[1:] = (np.diff(rows[order]) != 0) | (np.diff(columns[order]) != 0)
    kept = order[first]
    return csr_array((values[kept], (rows[kept], columns[kept])), shape=shape), items.dictionary


def _combined(values: pa.ChunkedArray | pa.Array) -> pa.Array:
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values


def _weighed(counts: csr_array, frequencies: NDArray[np.float64]) -> csr_array:
    return unit_rows(csr_array(counts @ diags_array(frequencies)))


def _present(rows: csr_array) -> tuple[csr_array, NDArray[np.bool_]]:
    return rows, np.asarray(np.diff(rows.indptr) > 0)
