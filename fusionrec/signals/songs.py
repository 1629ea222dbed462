"""All songs that are learned from: what they are, without what was played."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.sparse import csr_array

from fusionrec.errors import DataError

T = TypeVar("T")

TYPES = {
    "song_id": pa.string(),
    "artist_id": pa.string(),
    "artist_name": pa.string(),
    "title": pa.string(),
    "release": pa.string(),
    "year": pa.int32(),
    "mbtags": pa.list_(pa.string()),
    "mbtag_counts": pa.list_(pa.int32()),
    "terms": pa.list_(pa.string()),
    "term_weights": pa.list_(pa.float32()),
    "similar_artists": pa.list_(pa.string()),
    "artist_hotttnesss": pa.float32(),
    "artist_familiarity": pa.float32(),
}
"""The columns that signals read; `song_hotttnesss`, a song's own popularity, is not among them."""

COLUMNS = tuple(TYPES)
"""Their names."""


@dataclass(frozen=True)
class Songs:
    """Songs by row: first those of the catalogue, then "other songs", which have plays only.

    What is computed of songs alone (kernels) is kept in `memo`, and serves every fold of them.

    Attributes
    ----------
    table
        Columns :data:`COLUMNS`, nulls where unknown; a column that is missing is all nulls, and
        any further column is dropped, so that no signal can read it. Similar artists are kept
        with the first song of each artist that has any: with every song, those of a million
        songs are 1.8 GB, near the 2 GiB that an Arrow array of texts can hold.
    own
        Songs of the catalogue: rows 0 to `own` - 1.
    lyrics
        Counts of words, shape (n, words); an empty row where a song has no lyrics. None: no
        song has.
    vectors
        By modality, float32 (n, d): rows of zeros where a song lacks it. Of `lyrics` and `audio`,
        and of any further name that a similarity is to be made of.
    """

    table: pa.Table
    own: int
    lyrics: csr_array | None = None
    vectors: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    memo: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        n = self.table.num_rows
        columns = {
            name: self.table[name].cast(kind)
            if name in self.table.column_names
            else pa.chunked_array([pa.nulls(n, kind)])
            for name, kind in TYPES.items()
        }
        columns["similar_artists"] = _once_an_artist(columns["similar_artists"], columns)
        columns = {name: column.combine_chunks() for name, column in columns.items()}
        object.__setattr__(self, "table", pa.table(columns))
        if not 0 < self.own <= n:
            raise DataError(f"signals: {self.own} songs of the catalogue out of {n} songs")
        parts = {**self.vectors, **({} if self.lyrics is None else {"lyrics' counts": self.lyrics})}
        for name, rows in parts.items():
            if rows.shape[0] != n:
                raise DataError(f"signals: {rows.shape[0]} rows of {name} for {n} songs")

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def once(self, name: str, make: Callable[[], T]) -> T:
        """What `make` gives, computed once for these songs; it must not depend on plays."""
        if name not in self.memo:
            self.memo[name] = make()
        found: T = self.memo[name]
        return found

    @property
    def further(self) -> tuple[str, ...]:
        """Names of vectors that are none of lyrics and audio: of one's own."""
        return tuple(name for name in self.vectors if name not in ("lyrics", "audio"))

    @cached_property
    def artists(self) -> NDArray[np.int64]:
        """A code for each song's artist, shape (n,); -1 where it is unknown."""
        return codes(self.table["artist_id"])

    @cached_property
    def albums(self) -> NDArray[np.int64]:
        """A code for each song's album: artist and release; -1 where one of them is unknown."""
        releases = codes(self.table["release"])
        known = (self.artists >= 0) & (releases >= 0)
        pairs = self.artists * (releases.max(initial=0) + 1) + releases
        found = np.full(len(self), -1)
        found[known] = np.unique(pairs[known], return_inverse=True)[1]
        return found

    def texts(self, name: str) -> list[str]:
        """A column of texts, empty where unknown."""
        return [text or "" for text in self.table[name].to_pylist()]

    def numbers(self, name: str) -> NDArray[np.float64]:
        """A column of numbers, NaN where unknown."""
        values = self.table[name].cast(pa.float64())
        found: NDArray[np.float64] = pc.fill_null(values, np.nan).to_numpy()
        return found

    def first_of_artist(self, column: str) -> NDArray[np.int64]:
        """For each artist code a song of the artist where the column is not empty; -1: none."""
        return _first_of_artist(self.table[column], self.artists)


def _first_of_artist(lists: pa.ChunkedArray, artists: NDArray[np.int64]) -> NDArray[np.int64]:
    filled = pc.fill_null(pc.list_value_length(lists), 0).to_numpy() > 0
    rows = np.flatnonzero(filled & (artists >= 0))[::-1]
    found = np.full(artists.max(initial=-1) + 1, -1)
    found[artists[rows]] = rows
    return found


def _once_an_artist(
    lists: pa.ChunkedArray, columns: Mapping[str, pa.ChunkedArray]
) -> pa.ChunkedArray:
    """Lists that an artist's songs share: of the first song that has one; null with the others.

    A chunk at a time, since all of them may be more than one array can hold.
    """
    first = _first_of_artist(lists, codes(columns["artist_id"]))
    kept = np.zeros(len(lists), bool)
    kept[first[first >= 0]] = True
    none, start, found = pa.scalar(None, lists.type), 0, []
    for chunk in lists.chunks:
        mask = pa.array(kept[start : start + len(chunk)])
        found.append(pc.if_else(mask, chunk, none))
        start += len(chunk)
    return pa.chunked_array(found, lists.type)


def codes(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """Codes of texts in order of first appearance; -1 for null and empty ones."""
    texts = pc.if_else(pc.equal(column, ""), None, column)
    encoded = texts.combine_chunks().dictionary_encode().indices
    found: NDArray[np.int64] = pc.fill_null(encoded, -1).to_numpy().astype(np.int64)
    return found
