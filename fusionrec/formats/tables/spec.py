"""Where a table lies, and what its columns are called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from fusionrec.schemas import SONGS

Kind = Literal["songs", "plays", "lyrics", "features"]
"""What a row tells of: a song, a user's plays of a song, a song's words, a song's vector."""

COLUMNS: Mapping[Kind, tuple[str, ...]] = {
    "songs": (*SONGS.names, "tags", "tag_counts", "popularity"),
    "plays": ("user_id", "song_id", "plays", "rating", "timestamp"),
    "lyrics": ("song_id", "track_id", "text", "words", "counts"),
    "features": ("song_id", "vector"),
}
"""The columns that mean something, by the names that the project gives them.

A song's `track_id` is its `song_id` unless it is given. `tags` and `tag_counts` stand for `mbtags`
and `terms` with their numbers, whichever of these is not given; `popularity` for `song_hotttnesss`.
"""

REQUIRED: Mapping[Kind, tuple[str, ...]] = {
    "songs": ("song_id",),
    "plays": ("user_id", "song_id"),
    "lyrics": ("song_id",),
    "features": ("song_id", "vector"),
}


@dataclass(frozen=True)
class TableSpec:
    """One kind of table, in one file or many.

    Attributes
    ----------
    kind
        What its rows tell of.
    paths
        Files, folders, globs or URIs of these; Parquet, CSV, TSV or JSON lines (`.gz`, `.bz2` and
        `.zst` too, up to 2 GiB of ids and text each); for vectors also `.npy` and `.npz`.
    columns
        The files' name of each column that is called otherwise than in :data:`COLUMNS`. One that
        is not named here is found by its own name, or by one that is commonly used for it.
    header
        Names of the columns where the files begin with a row of data.
    delimiter
        Between fields of a text file; None: by the extension, or as the first line shows.
    separator
        Between the items of a list that is written as text, as tags are.
    ids
        Of `.npy` vectors: the file of their song ids, a line each, in the same order.
    quoted
        Fields of text files may stand in double quotes, as RFC 4180 has it.
    otherwise
        The files' name of the column that is taken where the first one of a row is empty.
    beside
        Of songs: tables that know more of them.
    repeats
        Of songs: a song has many rows by design, as where plays say what was played; the first one
        counts and the others are no fault.
    layout
        The published layout (:mod:`fusionrec.formats.tables.layouts`) that the files are in, where
        they are read in a way of its own.
    units
        Of plays: how many units of times that are numbers are a second, where those of a file do
        not tell; :func:`fusionrec.formats.tables.settled` finds it.
    rest
        Of vectors, a row of all columns but the song's id: these columns, in this order; None: each
        file's own. As `units`.
    """

    kind: Kind
    paths: tuple[str, ...]
    columns: Mapping[str, str] = field(default_factory=dict)
    header: tuple[str, ...] | None = None
    delimiter: str | None = None
    separator: str = "|"
    ids: str | None = None
    quoted: bool = True
    otherwise: Mapping[str, str] = field(default_factory=dict)
    beside: tuple[Beside, ...] = ()
    repeats: bool = False
    layout: str | None = None
    units: int | None = None
    rest: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Beside:
    """A table that knows more of songs, small enough to be held in memory.

    Attributes
    ----------
    spec
        Its `song_id` is what its rows are found by; those of its other columns that the table of
        songs has not itself are added.
    by
        The column of the table of songs that has these ids.
    """

    spec: TableSpec
    by: str = "song_id"
