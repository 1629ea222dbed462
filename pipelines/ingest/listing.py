"""The state of the outside inputs: files by size and time, a tree by the listing of its files.

The listing that a fingerprint is made of is the one that the stage then reads by, so that what the
key says is what was read. It lies in a temporary file: before there is a key, there is no result
that could have it.
"""

from __future__ import annotations

from typing import Any

from fusionrec.errors import SourceError
from fusionrec.formats import files, hdf5
from pipelines.config import Config
from pipelines.ingest.sources import source_path

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
    source = config.source
    named = [source.songs, source.artist_terms, *source.lyrics, *source.plays, source.mismatches]
    named += [source.artist_similarity, source.other_songs]
    _latest.clear()
    rows: list[list[Any]] = []
    for path in (source_path(config, name) for name in named if name is not None):
        try:
            if files.is_folder(path):
                listing = _latest[path] = hdf5.list_tracks(path)
                rows.append([path, listing.table.num_rows, listing.digest()])
            else:
                rows.append([path, *files.state(path)])
        except OSError:
            raise SourceError(
                f"{path}: does not exist; set source.root to the folder of the corpus "
                "and the keys below it to the files it holds"
            ) from None
    return rows


def take_listing(path: str) -> hdf5.Listing:
    """The listing of a tree that the last fingerprint was made of; it is not kept any longer."""
    return _latest.pop(path, None) or hdf5.list_tracks(path)
