"""Data sets in the layouts that they were published in, as tables.

Each function says which files it looks for below a folder, where their form is described, and what
becomes of them. Every file may also be compressed (`.gz`, `.bz2`, `.zst`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from fusionrec.errors import SourceError
from fusionrec.formats import files
from fusionrec.formats.tables import playlists, text_files
from fusionrec.formats.tables.names import REST, plain_name
from fusionrec.formats.tables.places import below
from fusionrec.formats.tables.spec import Beside, Kind, TableSpec

Tables = dict[Kind, TableSpec]

_ENDINGS = ("", ".bz2", ".gz", ".zst")


@dataclass(frozen=True)
class Layout:
    """A published layout.

    Attributes
    ----------
    name
        What `source.format` calls it.
    title
        The data sets that are in it.
    find
        Of a folder: its tables, `plays` and `songs` at least; `times` asks for plays that say when
        they were, where there is a choice. A SourceError names what is missing.
    find_features
        Of a folder: tables of vectors, by what they are called.
    """

    name: str
    title: str
    find: Callable[[str, bool], Tables]
    find_features: Callable[[str], dict[str, TableSpec]] = lambda root: {}

    def tables(self, root: str, times: bool = False) -> Tables:
        """The tables in a folder; see `find`."""
        return self.find(root, times)

    def features(self, root: str) -> dict[str, TableSpec]:
        """The tables of vectors in a folder; see `find_features`."""
        return self.find_features(root)


def _first(root: str, names: Sequence[str]) -> str | None:
    """The first of these files that is there, compressed or not."""
    for name in names:
        for ending in _ENDINGS:
            path = files.join(root, name + ending)
            if files.exists(path):
                return path
    return None


def _needed(root: str, layout: str, names: Sequence[str]) -> str:
    found = _first(root, names)
    if found is None:
        raise SourceError(
            f"{root}: has none of {', '.join(names)} (nor compressed), which source.format: "
            f"{layout} looks for; see source.root"
        )
    return found


# --- RecBole ---------------------------------------------------------------------------------


def _recbole(root: str, times: bool) -> Tables:
    """RecBole's atomic files: NAME.inter and NAME.item.

    Tab-separated, with headers such as `user_id:token` and `genre:token_seq`, whose items are
    separated by spaces (recbole.io/docs/user_guide/data/atomic_files.html, and data_settings.html
    there). The parts of a data set that was split beforehand (NAME.train.inter, ...) are read
    together. Of its own data sets, some have artists for items (`artist_id`), and say `weight` or
    `num_repeat` for how often they were played.
    """
    inter = [name for name in below(root) if name.endswith(".inter")]
    names = {name.rsplit("/", 1)[-1].split(".")[0] for name in inter}
    if len(names) != 1:
        listed = f"those of {', '.join(sorted(names))}" if names else "none"
        raise SourceError(
            f"{root}: source.format: recbole needs one data set's .inter file, and finds {listed}; "
            "name its folder in source.root"
        )
    (name,) = names
    spec = TableSpec("plays", tuple(files.join(root, each) for each in inter), separator=" ")
    found: Tables = {
        "plays": replace(
            spec, columns=_recbole_columns(spec, {"plays": ("weight", "numrepeat", "numrepeats")})
        )
    }
    item = [each for each in below(root) if each.rsplit("/", 1)[-1] == f"{name}.item"]
    if item:
        spec = replace(spec, kind="songs", paths=(files.join(root, item[0]),))
        found["songs"] = replace(
            spec, columns=_recbole_columns(spec, {"title": ("movietitle",), "tags": ("class",)})
        )
    return found


def _recbole_columns(spec: TableSpec, more: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Columns that RecBole's data sets call in ways that others do not."""
    names, _ = text_files.names_of(spec.paths[0], spec)
    plain = {plain_name(name): name for name in names}
    found = {}
    if not plain.keys() & {"songid", "itemid", "trackid"}:
        more = {**more, "song_id": ("artistid", "artistsid")}
    for wanted, used in more.items():
        there = [plain[each] for each in used if each in plain]
        if there and plain_name(wanted) not in plain:
            found[wanted] = there[0]
    return found


# --- LFM-1b and LFM-2b -----------------------------------------------------------------------


def _lfm_1b(root: str, times: bool) -> Tables:
    """LFM-1b (Schedl, ICMR 2016; table 1 of doi 10.1007/s13735-017-0118-y).

    Tab-separated without headers or quotes: LFM-1b_LEs.txt (user, artist, album, track, seconds
    since 1970), LFM-1b_tracks.txt (track, its name, artist) and LFM-1b_artists.txt (artist, name).
    It has no tags.
    """
    plays = _needed(root, "lfm-1b", ["LFM-1b_LEs.txt"])
    header = ("user_id", "artist_id", "album_id", "song_id", "timestamp")
    spec = TableSpec("plays", (plays,), header=header, delimiter="\t", quoted=False)
    tracks = _needed(root, "lfm-1b", ["LFM-1b_tracks.txt"])
    songs = replace(spec, kind="songs", paths=(tracks,), header=("song_id", "title", "artist_id"))
    artists = _first(root, ["LFM-1b_artists.txt"])
    if artists is not None:
        of = replace(songs, paths=(artists,), header=("song_id", "artist_name"))
        songs = replace(songs, beside=(Beside(of, "artist_id"),))
    return {"songs": songs, "plays": spec}


def _lfm_2b(root: str, times: bool) -> Tables:
    """LFM-2b (Schedl et al., CHIIR 2022) and its subsets.

    Tab-separated with headers: listening-counts.tsv (user_id, track_id, count) or, if there is
    none or times are asked for, listening-events.tsv (user_id, track_id, album_id, timestamp).
    Songs are those of tags-micro-genres.json, or else tags.json, a line a track: `{"_id":
    {"artist": .., "track": ..}, "tags": {tag: weight, ..}, "i": track_id}`; or else those of
    tracks.tsv, which has no tags. Plays of other tracks are of songs without metadata.
    """
    counts = ["listening-counts.tsv", "listening_counts.tsv"]
    events = ["listening-events.tsv", "listening_events.tsv"]
    plays = _needed(root, "lfm-2b", [*events, *counts] if times else [*counts, *events])
    spec = TableSpec("plays", (plays,), quoted=False, delimiter="\t")
    tags = _first(root, ["tags-micro-genres.json", "tags.json"])
    if tags is None:
        tracks = _needed(root, "lfm-2b", ["tags-micro-genres.json", "tags.json", "tracks.tsv"])
        return {"songs": replace(spec, kind="songs", paths=(tracks,)), "plays": spec}
    columns = {
        "song_id": "i",
        "title": "_id.track",
        "artist_name": "_id.artist",
        "tags": "tags",
        "tag_counts": "tags",
    }
    return {"songs": TableSpec("songs", (tags,), columns), "plays": spec}


# --- Music4All-Onion -------------------------------------------------------------------------

_OF_ONION = re.compile(r"id_(.+)\.tsv(\.bz2|\.gz|\.zst)?")


def _onion(root: str, times: bool) -> Tables:
    """Music4All-Onion (Moscati et al., CIKM 2022; doi 10.5281/zenodo.6609677).

    Tab-separated with headers: userid_trackid_count.tsv (user_id, track_id, count) or, if there is
    none or times are asked for, userid_trackid_timestamp.tsv. Tags are those of id_tags_dict.tsv
    (`id`, and a Python dict of tags and weights). Names are in Music4All, on which it is built and
    which is given on request: id_information.csv (id, artist, song, album_name) and
    id_metadata.csv (id, release (a year), tempo, key, mode, duration_ms, ...), both tab-separated;
    songs have none without these. Without the tags the genres of id_genres.csv are taken.
    """
    names = ["userid_trackid_count.tsv", "userid_trackid_timestamp.tsv"]
    plays = _needed(root, "music4all-onion", names[::-1] if times else names)
    spec = TableSpec("plays", (plays,), delimiter="\t")
    songs = replace(spec, kind="songs", separator=",")
    known = []
    information = _first(root, ["id_information.csv", "id_information.tsv"])
    if information is not None:
        known.append(replace(songs, paths=(information,)))
    metadata = _first(root, ["id_metadata.csv", "id_metadata.tsv"])
    if metadata is not None:
        known.append(replace(songs, paths=(metadata,), columns=_metadata_columns(songs, metadata)))
    tags = _first(root, ["id_tags_dict.tsv"])
    if tags is not None:
        of = replace(songs, paths=(tags,))
        columns = text_files.names_of(tags, of)[0]
        of = replace(
            of, columns={"song_id": columns[0], "tags": columns[-1], "tag_counts": columns[-1]}
        )
        known.append(of)
    genres = _first(root, ["id_genres.csv"])
    if genres is not None and tags is None:
        known.append(replace(songs, paths=(genres,)))
    if not known:
        _needed(root, "music4all-onion", ["id_information.csv", "id_tags_dict.tsv"])
    first, *others = known
    return {"songs": replace(first, beside=tuple(map(Beside, others))), "plays": spec}


def _metadata_columns(songs: TableSpec, path: str) -> dict[str, str]:
    """`release` is a year there, not an album."""
    names, _ = text_files.names_of(path, songs)
    return {"year": "release"} if "release" in names else {}


def _onion_features(root: str) -> dict[str, TableSpec]:
    """id_NAME.tsv of numbers: `id` and a column for each; by NAME, as Python would spell it."""
    found = {}
    for name in below(root):
        match = _OF_ONION.fullmatch(name)
        if match and match[1] not in ("tags_dict", "information", "metadata"):
            path = files.join(root, name)
            spec = TableSpec("features", (path,), {"vector": REST}, delimiter="\t")
            found[re.sub(r"\W", "_", match[1])] = spec
    return found


# --- Yambda ----------------------------------------------------------------------------------

_SIZES = ("50m", "500m", "5b")


def _yambda_folder(root: str) -> str:
    """The folder with listens.parquet."""
    places = [root, *(files.join(root, f"flat/{size}") for size in _SIZES)]
    found = [each for each in places if files.exists(files.join(each, "listens.parquet"))]
    if len(found) > 1:
        raise SourceError(f"{root}: has {' and '.join(found)}; name one of them in source.root")
    if not found:
        raise SourceError(
            f"{root}: has no flat/50m/listens.parquet, 500m or 5b, which source.format: yambda "
            "looks for; see source.root"
        )
    return found[0]


def _yambda_file(root: str, name: str) -> str | None:
    """A file of the data set as a whole, where `root` is its folder or that of a size."""
    above = root.rstrip("/").rsplit("/", 2)[0]
    for place in (root, above):
        if files.exists(files.join(place, name)):
            return files.join(place, name)
    return None


def _yambda(root: str, times: bool) -> Tables:
    """Yambda (Ploshkin et al. 2025, arxiv.org/abs/2505.22238; yandex/yambda on Hugging Face).

    Of its flat form listens.parquet: uid, item_id, timestamp (seconds, in steps of five, from a
    beginning that is not told). Every listen counts as a play, however long it was. Songs are those
    of artist_item_mapping.parquet (item_id, artist_id), the first artist of each; there are no
    names or tags.
    """
    plays = TableSpec("plays", (files.join(_yambda_folder(root), "listens.parquet"),))
    artists = _yambda_file(root, "artist_item_mapping.parquet")
    if artists is None:
        raise SourceError(
            f"{root}: has no artist_item_mapping.parquet, which source.format: yambda looks for; "
            "get it beside the folder flat"
        )
    return {"songs": TableSpec("songs", (artists,), repeats=True), "plays": plays}


def _yambda_features(root: str) -> dict[str, TableSpec]:
    """embeddings.parquet: item_id, embed and normalized_embed, of which `embed` is taken."""
    path = _yambda_file(root, "embeddings.parquet")
    return {} if path is None else {"embed": TableSpec("features", (path,), {"vector": "embed"})}


# --- Playlists and artists -------------------------------------------------------------------


def _playlists(root: str, times: bool) -> Tables:
    """Spotify's Million Playlist Dataset (Chen et al., RecSys 2018; recsys-challenge.spotify.com).

    mpd.slice.*.json: `{"playlists": [{"pid": .., "tracks": [{"track_uri": .., "track_name": ..,
    "artist_name": .., "artist_uri": .., "album_name": .., "duration_ms": ..}, ..]}, ..]}`, in the
    folder or in `data` below it. Playlists are users; a track is a play as often as it is on one.
    It has no tags, and does not say when a track was added.
    """
    slices = [
        name
        for name in below(root)
        if re.fullmatch(r"(?:.*/)?mpd\.slice\.\d+-\d+\.json(?:\.gz|\.bz2|\.zst)?", name)
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


def _lastfm_360k(root: str, times: bool) -> Tables:
    """Last.fm-360K (Celma 2010, ocelma.net/MusicRecommendationDataset/lastfm-360K.html).

    usersha1-artmbid-artname-plays.tsv, tab-separated without a header or quotes: user, MusicBrainz
    id of an artist, its name, plays. **Items are artists**, not songs: each stands for a song by
    the artist's name, whose id is the MusicBrainz id, or the name where there is none. It has no
    tags.
    """
    path = _needed(root, "lastfm-360k", ["usersha1-artmbid-artname-plays.tsv"])
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


LAYOUTS: Mapping[str, Layout] = {
    layout.name: layout
    for layout in (
        Layout("recbole", "RecBole's atomic files", _recbole),
        Layout("lfm-1b", "LFM-1b", _lfm_1b),
        Layout("lfm-2b", "LFM-2b and its subsets", _lfm_2b),
        Layout("music4all-onion", "Music4All-Onion", _onion, _onion_features),
        Layout("yambda", "Yambda", _yambda, _yambda_features),
        Layout("spotify-mpd", "Spotify's Million Playlist Dataset", _playlists),
        Layout("lastfm-360k", "Last.fm-360K, of artists", _lastfm_360k),
    )
}
