"""The state of the outside inputs: files by size and time, a tree by the listing of its files.

The listing that a fingerprint is made of is the one that the stage then reads by, so that what the
key says is what was read. It lies in a temporary file: before there is a key, there is no result
that could have it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fusionrec.errors import SourceError
from fusionrec.formats import files, hdf5
from fusionrec.formats.tables import table_files
from pipelines.config import Config
from pipelines.ingest.sources import source_path
from pipelines.ingest.tables import check_source, is_tables, table_specs

_latest: dict[str, hdf5.Listing] = {}
"""Of the last fingerprint in this process, by the tree's path."""


def source_state(config: Config) -> list[list[Any]]:
    """A row for each source: a file's size and time, or a tree's number of files and their hash.

    Everything is looked up anew at each call, so that two calls tell whether a source changed.

    Raises
    ------
    SourceError
        A source is not there.
    UnavailableError
        The environment does not say.
    """
    _latest.clear()
    rows: list[list[Any]] = []
    for key, path in named_sources(config):
        try:
            if files.is_folder(path):
                listing = _latest[path] = hdf5.list_tracks(path)
                rows.append([path, listing.table.num_rows, listing.digest()])
            else:
                rows.append([path, *files.state(path)])
        except OSError:
            raise SourceError(
                f"{path}: does not exist; set source.root to the folder of the corpus "
                f"and {key} to the files it holds"
            ) from None
    return rows


def named_sources(config: Config) -> Iterator[tuple[str, str]]:
    """Each file or folder that is read, after the key that names it; of tables every file.

    Raises
    ------
    ConfigError
        Keys do not fit together.
    SourceError
        A table has no file.
    """
    check_source(config)
    source = config.source
    if is_tables(config):
        for key, spec in table_specs(config).each():
            yield from ((key, path) for path in table_files(spec))
            if spec.ids is not None:
                yield f"{key}.ids", spec.ids
        return
    named = [("songs", source.songs), ("artist_terms", source.artist_terms)]
    named += [("lyrics", name) for name in source.lyrics]
    named += [("plays", name) for name in source.plays]
    named += [("mismatches", source.mismatches)]
    named += [("artist_similarity", source.artist_similarity)]
    named += [("other_songs", source.other_songs)]
    for key, name in named:
        if name is not None:
            yield f"source.{key}", source_path(config, name)


def take_listing(path: str) -> hdf5.Listing:
    """The listing of a tree that the last fingerprint was made of; it is not kept any longer."""
    return _latest.pop(path, None) or hdf5.list_tracks(path)
