"""What was collected from Last.fm: LFM-1b, LFM-2b, Last.fm-360K."""

from __future__ import annotations

from dataclasses import replace

from fusionrec.formats.tables.layouts.finding import Tables, first, needed
from fusionrec.formats.tables.spec import Beside, TableSpec


def lfm_1b(root: str, times: bool) -> Tables:
    """LFM-1b (Schedl, ICMR 2016; table 1 of doi 10.1007/s13735-017-0118-y).

    Tab-separated without headers or quotes: LFM-1b_LEs.txt (user, artist, album, track, seconds
    since 1970), LFM-1b_tracks.txt (track, its name, artist) and LFM-1b_artists.txt (artist, name).
    It has no tags.
    """
    plays = needed(root, "lfm-1b", ["LFM-1b_LEs.txt"])
    header = ("user_id", "artist_id", "album_id", "song_id", "timestamp")
    spec = TableSpec("plays", (plays,), header=header, delimiter="\t", quoted=False)
    tracks = needed(root, "lfm-1b", ["LFM-1b_tracks.txt"])
    songs = replace(spec, kind="songs", paths=(tracks,), header=("song_id", "title", "artist_id"))
    artists = first(root, ["LFM-1b_artists.txt"])
    if artists is not None:
        of = replace(songs, paths=(artists,), header=("song_id", "artist_name"))
        songs = replace(songs, beside=(Beside(of, "artist_id"),))
    return {"songs": songs, "plays": spec}


def lfm_2b(root: str, times: bool) -> Tables:
    """LFM-2b (Schedl et al., CHIIR 2022) and its subsets.

    Tab-separated with headers: listening-counts.tsv (user_id, track_id, count) or, if there is
    none or times are asked for, listening-events.tsv (user_id, track_id, album_id, timestamp).
    Songs are those of tags-micro-genres.json, or else tags.json, a line a track: `{"_id":
    {"artist": .., "track": ..}, "tags": {tag: weight, ..}, "i": track_id}`; or else those of
    tracks.tsv, which has no tags. Plays of other tracks are of songs without metadata.
    """
    counts = ["listening-counts.tsv", "listening_counts.tsv"]
    events = ["listening-events.tsv", "listening_events.tsv"]
    plays = needed(root, "lfm-2b", [*events, *counts] if times else [*counts, *events])
    spec = TableSpec("plays", (plays,), quoted=False, delimiter="\t")
    tags = first(root, ["tags-micro-genres.json", "tags.json"])
    if tags is None:
        tracks = needed(root, "lfm-2b", ["tags-micro-genres.json", "tags.json", "tracks.tsv"])
        return {"songs": replace(spec, kind="songs", paths=(tracks,)), "plays": spec}
    columns = {
        "song_id": "i",
        "title": "_id.track",
        "artist_name": "_id.artist",
        "tags": "tags",
        "tag_counts": "tags",
    }
    return {"songs": TableSpec("songs", (tags,), columns), "plays": spec}


def lastfm_360k(root: str, times: bool) -> Tables:
    """Last.fm-360K (Celma 2010, ocelma.net/MusicRecommendationDataset/lastfm-360K.html).

    usersha1-artmbid-artname-plays.tsv, tab-separated without a header or quotes: user, MusicBrainz
    id of an artist, its name, plays. **Items are artists**, not songs: each stands for a song by
    the artist's name, whose id is the MusicBrainz id, or the name where there is none. It has no
    tags.
    """
    path = needed(root, "lastfm-360k", ["usersha1-artmbid-artname-plays.tsv"])
    spec = TableSpec(
        "plays",
        (path,),
        {"user_id": "user", "song_id": "mbid", "plays": "plays"},
        header=("user", "mbid", "name", "plays"),
        delimiter="\t",
        quoted=False,
        otherwise={"song_id": "name"},
    )
    columns = {"song_id": "mbid", "title": "name", "artist_id": "mbid", "artist_name": "name"}
    otherwise = {"song_id": "name", "artist_id": "name"}
    songs = replace(spec, kind="songs", columns=columns, otherwise=otherwise, repeats=True)
    return {"songs": songs, "plays": spec}
