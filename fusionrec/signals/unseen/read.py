"""Unseen songs as the parts of maps ask for them; each thing is made once for all of these."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fusionrec.signals.readers import Matrix, Reader
from fusionrec.signals.songs import Songs

_FAME = ("artist_hotttnesss", "artist_familiarity")


@dataclass(frozen=True)
class Catalogued:
    """The artists and albums of the songs that a blend was fitted on.

    Attributes
    ----------
    artists
        Arrow strings: ids in the order of their codes.
    albums
        Arrow strings, the same: an album is its artist's id and its release's name.
    fame
        Float64, shape (artists, 2): artist_hotttnesss and artist_familiarity, where all songs of
        the artist had the same; else NaN.
    """

    artists: pa.Array
    albums: pa.Array
    fame: NDArray[np.float64]

    @staticmethod
    def of(songs: Songs) -> Catalogued:
        """Of these songs."""
        artists, first = _representatives(songs.artists)
        ids = songs.table["artist_id"].combine_chunks()
        of_albums = _representatives(songs.albums)[1]
        fame = np.stack([_common(songs.numbers(n), songs.artists, len(artists)) for n in _FAME], 1)
        return Catalogued(
            ids.take(pa.array(first)), _album_keys(songs.table).take(pa.array(of_albums)), fame
        )

    def codes(self, songs: Songs) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Codes of songs' artists and albums; -1 of one that is unknown, or not among these."""
        found = (
            pc.index_in(texts, value_set=known)
            for texts, known in (
                (songs.table["artist_id"].combine_chunks(), self.artists),
                (_album_keys(songs.table), self.albums),
            )
        )
        artists, albums = (pc.fill_null(c, -1).to_numpy().astype(np.int64) for c in found)
        return artists, albums

    def with_fame(self, songs: Songs) -> Songs:
        """Songs with the fame of their artists, where it is known and theirs is not."""
        artists, _ = self.codes(songs)
        known = self.fame[artists] if len(self.fame) else np.full((len(songs), 2), np.nan)
        table = songs.table
        for place, name in enumerate(_FAME):
            own = songs.numbers(name)
            filled = np.where(np.isfinite(own) | (artists < 0), own, known[:, place])
            column = pa.array(filled, pa.float64(), from_pandas=True).cast(pa.float32())
            table = table.set_column(table.column_names.index(name), name, column)
        return Songs(table, songs.own, songs.lyrics, songs.vectors)


@dataclass(frozen=True)
class Read:
    """Some unseen songs.

    Attributes
    ----------
    songs
        n of them.
    readers
        By kernel.
    catalogued
        What their artists and albums are looked up in.
    unknown
        What of them was left out, counted by what it is.
    """

    songs: Songs
    readers: Mapping[str, Reader]
    catalogued: Catalogued
    unknown: Counter[str]
    _rows: dict[str, tuple[Matrix, NDArray[np.bool_]]] = field(default_factory=dict, repr=False)

    def rows(self, kernel: str) -> tuple[Matrix, NDArray[np.bool_]]:
        """Rows of a kernel, (n, d), and which songs it knows, (n,)."""
        if kernel not in self._rows:
            self._rows[kernel] = self.readers[kernel].rows(self.songs, self.unknown)
        return self._rows[kernel]

    @cached_property
    def _codes(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return self.catalogued.codes(self.songs)

    def groups(self, by: str) -> NDArray[np.int64]:
        """Codes of artists or albums, (n,); -1 where none is known."""
        return self._codes[0 if by == "artist" else 1]

    @property
    def present(self) -> NDArray[np.bool_]:
        """Songs of which any kernel knows something, or whose artist is known, (n,)."""
        known = [self.rows(name)[1] for name in self.readers]
        found: NDArray[np.bool_] = np.logical_or.reduce([self.groups("artist") >= 0, *known])
        return found


def _album_keys(table: pa.Table) -> pa.Array:
    """An artist's id and a release's name in one text; null where one of them is unknown.

    The id has no line break of its own in it, so that no two pairs have the same text.
    """
    artist, release = (
        pc.if_else(pc.equal(column, ""), None, column)
        for column in (table["artist_id"].combine_chunks(), table["release"].combine_chunks())
    )
    for text, escaped in (("\\", "\\\\"), ("\n", "\\n")):
        artist = pc.replace_substring(artist, text, escaped)
    return pc.binary_join_element_wise(artist, release, "\n")


def _representatives(codes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Codes of groups, 0 and on, and the first song of each."""
    rows = np.flatnonzero(codes >= 0)
    found, first = np.unique(codes[rows], return_index=True)
    return found, rows[first]


def _common(
    values: NDArray[np.float64], groups: NDArray[np.int64], number: int
) -> NDArray[np.float64]:
    """The value that all songs of each group have; NaN where they differ or one has none."""
    low, high = np.full(number, np.inf), np.full(number, -np.inf)
    rows = np.flatnonzero(groups >= 0)
    known = np.isfinite(values[rows])
    np.minimum.at(low, groups[rows], np.where(known, values[rows], -np.inf))
    np.maximum.at(high, groups[rows], np.where(known, values[rows], np.inf))
    return np.where(low == high, low, np.nan)
