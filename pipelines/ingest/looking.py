"""Ingest of tables: a look into every file, before any is read.

A table of plays is read last, hours after the songs of a large catalogue: a column that it lacks is
told of at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from fusionrec.formats.tables import columns_of, feature_dimension, read_head, table_files
from fusionrec.formats.tables.places import form_of
from fusionrec.formats.tables.spec import TableSpec
from pipelines.ingest.table_lyrics import key_of
from pipelines.ingest.tables import Specs

_AT_ONCE = 8
"""Files looked into at a time: on a remote filesystem each is some requests."""


def look_into_tables(specs: Specs) -> int:
    """Find out whether every file has the columns that are needed, and vectors a length.

    Returns
    -------
    int
        How many files there are.

    Raises
    ------
    SourceError
        One is not there, cannot be read or lacks a column; or lyrics say otherwise than the songs
        which song is meant. The first one in the order of the tables.
    UnavailableError
        The environment does not give it.
    """
    files = list(_files(specs))
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for _ in pool.map(lambda each: _look(*each), files):
            pass  # to raise what a look raised
    if specs.lyrics is not None:
        key_of(specs.lyrics, specs.songs)
    return len(files)


def have_times(plays: TableSpec) -> bool:
    """Whether any file of plays has a column that says when they were.

    Raises
    ------
    SourceError, UnavailableError
        As :func:`look_into_tables`.
    """
    return any("timestamp" in columns_of(path, plays) for path in table_files(plays))


def _files(specs: Specs) -> Iterator[tuple[str, TableSpec, bool]]:
    """Every file, and whether it is the first of its table."""
    for _, spec in specs.each():
        for number, path in enumerate(table_files(spec)):
            yield path, spec, number == 0


def _look(path: str, spec: TableSpec, first: bool) -> None:
    columns_of(path, spec)
    if spec.kind != "features":
        return
    arrays = form_of(path) in ("npy", "npz")
    if first or arrays:  # of other files, vectors of another length are rejects
        feature_dimension(path, spec)
    if arrays:
        read_head(path, spec, 1)  # which finds out whether there are as many ids
