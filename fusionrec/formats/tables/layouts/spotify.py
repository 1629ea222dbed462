"""Spotify's Million Playlist Dataset."""

from __future__ import annotations

import re

from fusionrec.errors import SourceError
from fusionrec.formats import files
from fusionrec.formats.tables import playlists
from fusionrec.formats.tables.layouts.finding import Tables, once, plain
from fusionrec.formats.tables.places import below
from fusionrec.formats.tables.spec import TableSpec


def spotify_playlists(root: str, times: bool) -> Tables:
    """Spotify's Million Playlist Dataset (Chen et al., RecSys 2018; recsys-challenge.spotify.com).

    mpd.slice.*.json: `{"playlists": [{"pid": .., "tracks": [{"track_uri": .., "track_name": ..,
    "artist_name": .., "artist_uri": .., "album_name": .., "duration_ms": ..}, ..]}, ..]}`, in the
    folder or in `data` below it. Playlists are users; a track is a play as often as it is on one.
    It has no tags, and does not say when a track was added.
    """
    slices = [
        name
        for name in once(below(root))
        if re.fullmatch(r"(?:.*/)?mpd\.slice\.\d+-\d+\.json", plain(name))
    ]
    if not slices:
        raise SourceError(
            f"{root}: has no mpd.slice.0-999.json or the like, which source.format: spotify-mpd "
            "looks for; see source.root"
        )
    paths = tuple(files.join(root, name) for name in slices)
    columns = {
        "song_id": "track_uri",
        "title": "track_name",
        "release": "album_name",
        "artist_id": "artist_uri",
        "artist_name": "artist_name",
        "duration": "duration_ms",
    }
    return {
        "songs": TableSpec("songs", paths, columns, repeats=True, layout=playlists.LAYOUT),
        "plays": TableSpec(
            "plays", paths, {"user_id": "pid", "song_id": "track_uri"}, layout=playlists.LAYOUT
        ),
    }
