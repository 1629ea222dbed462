"""TF-IDF over bags of words (paper section 3.1.5), as a map-reduce over shards.

W is the vocabulary's size. Bags are the LYRICS schema: word positions and counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

Scheme = Literal["sklearn", "printed"]


@dataclass(frozen=True)
class Statistics:
    """What the weights need to know of a set of documents; sums over shards.

    Attributes
    ----------
    documents
        |D|.
    document_frequency
        Int64, shape (W,): documents that contain each word.
    total_count
        Int64, shape (W,): occurrences of each word.
    """

    documents: int
    document_frequency: np.ndarray
    total_count: np.ndarray

    def __add__(self, other: Statistics) -> Statistics:
        return Statistics(
            self.documents + other.documents,
            self.document_frequency + other.document_frequency,
            self.total_count + other.total_count,
        )


def count(bags: pa.Table, vocabulary: int) -> Statistics:
    """Statistics of one shard; shards add up."""
    matrix = term_counts(bags, vocabulary)
    return Statistics(
        matrix.shape[0],
        np.bincount(matrix.indices, minlength=vocabulary).astype(np.int64),
        np.asarray(matrix.sum(axis=0)).ravel().astype(np.int64),
    )


def term_counts(bags: pa.Table, vocabulary: int) -> csr_matrix:
    """The bags as a sparse matrix of counts, float64, shape (bags, W); repeated words add up."""
    words = bags["words"].combine_chunks()
    indptr = np.concatenate([[0], np.cumsum(words.value_lengths().to_numpy())])
    counts = bags["counts"].combine_chunks().flatten().to_numpy()
    matrix = csr_matrix(
        (counts.astype(np.float64), words.flatten().to_numpy().astype(np.int64), indptr),
        shape=(len(words), vocabulary),
    )
    matrix.sum_duplicates()
    return matrix


def word_weights(statistics: Statistics, scheme: Scheme) -> np.ndarray:
    """The factor by which each word's count is multiplied, float64, shape (W,).

    `sklearn`: TfidfVectorizer's smoothed ``ln((1 + |D|) / (1 + df)) + 1``.

    `printed`: ``log(1 + average(t, D) / freq(t))`` as the paper prints it, with average(t, D)
    the mean count of t over all documents and freq(t) the number of documents that contain
    t. (With the total count as freq(t), the ratio would be 1 / |D| for every word.) A word
    in no document weighs 0.
    """
    n, df = statistics.documents, statistics.document_frequency
    if scheme == "sklearn":
        weights: np.ndarray = np.log((1 + n) / (1 + df)) + 1
        return weights
    average = statistics.total_count / max(1, n)
    return np.where(df > 0, np.log1p(average / np.maximum(df, 1)), 0.0)


def transform(bags: pa.Table, weights: np.ndarray, scheme: Scheme) -> csr_matrix:
    """TF-IDF of each bag, shape (bags, W); `sklearn`'s rows have length 1, as its default."""
    matrix = term_counts(bags, len(weights))
    matrix.data *= weights[matrix.indices]
    if scheme == "sklearn":
        length = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
        rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
        matrix.data /= np.where(length > 0, length, 1.0)[rows]
    return matrix


@dataclass(frozen=True)
class ChosenWords:
    """Each bag's most significant words, the most significant first; flat, bag after bag.

    Attributes
    ----------
    words
        Positions in the vocabulary, int32, shape (n,).
    counts
        How often each occurs in its bag, int64, shape (n,).
    bounds
        Where each bag's words begin, and where the last one's end, int64, shape (bags + 1,).
    """

    words: NDArray[np.int32]
    counts: NDArray[np.int64]
    bounds: NDArray[np.int64]

    def spoken(self) -> tuple[NDArray[np.int64], ChosenWords]:
        """Which bags have words, and the words of those alone."""
        kept = np.flatnonzero(np.diff(self.bounds))
        bounds = np.append(self.bounds[kept], self.bounds[-1])
        return kept, ChosenWords(self.words, self.counts, bounds)

    def texts(self, vocabulary: Sequence[str]) -> list[str]:
        """The bags as ``word:count word:count ...``; "" for one without words."""
        # Joined by Arrow: a Python loop over every word of every bag takes most of the time.
        pairs = pc.binary_join_element_wise(
            pa.array(vocabulary, pa.string()).take(pa.array(self.words)),
            pa.array(self.counts).cast(pa.string()),
            ":",
        )
        lists = pa.LargeListArray.from_arrays(pa.array(self.bounds), pairs)
        texts: list[str] = pc.binary_join(lists, " ").to_pylist()
        return texts


def significant_words(
    bags: pa.Table, weights: np.ndarray, scheme: Scheme, words: int
) -> ChosenWords:
    """Each bag's most significant words (paper 3.1.5).

    Largest TF-IDF first, ties by position in the vocabulary; at most `words` words; a word
    of weight 0 is left out.
    """
    counts = term_counts(bags, len(weights))
    significance = transform(bags, weights, scheme)
    row = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    order = np.lexsort((counts.indices, -significance.data, row))
    rank = np.arange(len(order)) - counts.indptr[row]
    chosen = order[(rank < words) & (significance.data[order] > 0)]
    kept = np.bincount(row[chosen], minlength=counts.shape[0])
    return ChosenWords(
        counts.indices[chosen].astype(np.int32),
        counts.data[chosen].astype(np.int64),
        np.concatenate([[0], np.cumsum(kept)]),
    )


def significant_texts(
    bags: pa.Table, weights: np.ndarray, scheme: Scheme, vocabulary: Sequence[str], words: int
) -> list[str]:
    """What :func:`significant_words` chooses as texts ``word:count word:count ...``."""
    return significant_words(bags, weights, scheme, words).texts(vocabulary)
