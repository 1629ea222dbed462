"""Slices of the Million Playlist Dataset: JSON, a thousand playlists a file."""

from __future__ import annotations

import json
import operator
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from fusionrec.errors import SourceError
from fusionrec.formats import text
from fusionrec.formats.tables.rows import Rows, show
from fusionrec.formats.text import decode

LAYOUT = "spotify-mpd"
_OF_TRACKS = ("track_uri", "track_name", "artist_name", "artist_uri", "album_name", "duration_ms")
NAMES = ("pid", *_OF_TRACKS)
"""The columns: a row a track of a playlist."""


def rows_of(path: str, columns: Mapping[str, str]) -> Iterator[Rows]:
    """All rows of a slice; their numbers count its tracks, from 1.

    A playlist that is none, and a track that is none, are rejects with the number of the track
    before them.

    Raises
    ------
    SourceError
        The file is missing, damaged, or no slice.
    """
    playlists = _playlists(path)
    found: dict[str, list[Any]] = {name: [] for name in NAMES}
    rejects: list[tuple[int, str, str, str]] = []
    for playlist in playlists:
        tracks = playlist.get("tracks") if isinstance(playlist, dict) else None
        if not isinstance(tracks, list):
            of = playlist.get("pid") if isinstance(playlist, dict) else playlist
            rejects.append((len(found["pid"]), "playlist has no tracks", show(of), "dropped"))
            continue
        for track in tracks:
            if not isinstance(track, dict):
                rejects.append((len(found["pid"]), "track is no object", show(track), "dropped"))
                continue
            found["pid"].append(playlist.get("pid"))
            for name in _OF_TRACKS:
                found[name].append(track.get(name))
    table = pa.table({label: _texts(found[name]) for label, name in columns.items()})
    count = len(table)
    number_of = partial(operator.add, 1)
    yield Rows(path, table, number_of, np.arange(count), count, rejects, len(rejects))


def _texts(values: list[Any]) -> pa.Array:
    shown = [None if value is None else decode(str(value))[0] for value in values]
    return pa.array(shown, pa.string())


def _playlists(path: str) -> list[Any]:
    content = b"".join(block.data for block in text.LineReader(path).blocks())
    try:
        found = json.loads(decode(content)[0])
    except (ValueError, RecursionError) as error:
        raise SourceError(
            f"{path}: is no JSON ({error}); it may have been cut short: get it again"
        ) from None
    playlists = found.get("playlists") if isinstance(found, dict) else None
    if not isinstance(playlists, list):
        raise SourceError(
            f"{path}: has no list `playlists`; give slices of the Million Playlist Dataset, such "
            "as mpd.slice.0-999.json"
        )
    return playlists
