"""Categories of songs, such as the artist or tags, as rows of embedding tables of bounded size.

Row 0 of a table is what is unknown: names that no training song has, and songs without any. Of the
names that training songs have, the most frequent have rows of their own; where there are more
names than rows, rarer ones share the remaining rows by their hash (Weinberger et al. 2009). So a
table's size is a setting, and not the catalogue's.

Shapes: n songs, L entries of all songs in a row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fusionrec.hashing import stable_hash
from fusionrec.signals.readers import item_weights

Rows = NDArray[np.integer[Any]]

UNKNOWN = 0
"""The row of what no training song has."""


@dataclass(frozen=True)
class Categories:
    """Which rows of a table each song has; at least one.

    Attributes
    ----------
    indptr
        Int64, shape (n + 1,): song i's entries are those from `indptr[i]` to `indptr[i + 1]`.
    rows
        Int64, shape (L,), in [0, `size`).
    shares
        Float32, shape (L,): what each counts; those of a song add up to 1.
    size
        Rows of the table.
    """

    indptr: NDArray[np.int64]
    rows: NDArray[np.int64]
    shares: NDArray[np.float32]
    size: int

    def of(self, songs: Rows) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        """Where the entries of each of some songs begin, (songs,), their rows, and their shares."""
        sizes = np.diff(self.indptr)[songs]
        first = np.cumsum(sizes) - sizes
        where = np.arange(sizes.sum()) + np.repeat(self.indptr[songs] - first, sizes)
        return first, self.rows[where], self.shares[where]


def singles(names: pa.Array | pa.ChunkedArray) -> pa.ListArray:
    """Lists of one name each, or of none where it is null or empty."""
    names = names.combine_chunks() if isinstance(names, pa.ChunkedArray) else names
    known = np.array([bool(name) for name in names.to_pylist()], bool)
    offsets = np.concatenate([[0], np.cumsum(known)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), names.filter(pa.array(known)))


def categories(
    lists: pa.ListArray | pa.ChunkedArray,
    weights: pa.ListArray | pa.ChunkedArray | None = None,
    *,
    train: Rows,
    most: int,
    seed: int,
) -> Categories:
    """Rows of a table for lists of names.

    Parameters
    ----------
    lists
        Names of each song, null or empty where there are none.
    weights
        What each name counts, as a number of votes; a song whose names have none, or not as many
        numbers, counts them alike. None: all songs do.
    train
        Rows of the training songs.
    most
        Rows of the table, at most; 2 or more.
    seed
        Of the hash.
    """
    found, names = item_weights(lists, weights)
    songs = np.repeat(np.arange(len(lists)), np.diff(found.indptr))
    of_train = np.bincount(found.indices[np.isin(songs, train)], minlength=len(names))
    row, size = _rows_of(names, of_train, most, seed)
    kept = row[found.indices] != UNKNOWN
    songs, rows, votes = songs[kept], row[found.indices[kept]], np.maximum(found.data[kept], 0.0)
    total = np.bincount(songs, votes, len(lists))
    votes[total[songs] == 0] = 1.0
    nothing = np.flatnonzero(np.bincount(songs, minlength=len(lists)) == 0)
    songs = np.concatenate([songs, nothing])
    rows = np.concatenate([rows, np.full(len(nothing), UNKNOWN)])
    votes = np.concatenate([votes, np.ones(len(nothing))])
    order = np.argsort(songs, kind="stable")
    shares = votes / np.bincount(songs, votes, len(lists))[songs]
    sizes = np.bincount(songs, minlength=len(lists))
    return Categories(
        np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        rows[order].astype(np.int64),
        shares[order].astype(np.float32),
        size,
    )


def _rows_of(
    names: pa.Array, songs: NDArray[np.integer[Any]], most: int, seed: int
) -> tuple[NDArray[np.int64], int]:
    """The row of each name, given the training songs that have it, and the table's size."""
    hashes = stable_hash(names.to_pylist(), seed=seed, purpose="categories")
    order = np.lexsort((hashes, -songs))[: int((songs > 0).sum())]
    row = np.full(max(len(names), 1), UNKNOWN, np.int64)
    own = len(order) if len(order) < most else (most - 1) // 2
    row[order[:own]] = 1 + np.arange(own)
    shared = order[own:]
    if not len(shared):
        return row, 1 + own
    row[shared] = 1 + own + (hashes[shared] % np.uint64(most - 1 - own)).astype(np.int64)
    return row, most
