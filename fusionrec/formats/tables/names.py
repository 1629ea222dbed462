"""Which column of a file is which."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from fusionrec.errors import SourceError
from fusionrec.formats.tables.spec import COLUMNS, REQUIRED, Kind, TableSpec

_SONG_IDS = ("itemid", "trackid", "iid", "sid", "tid", "songuri", "trackuri", "uri", "id")
USED: Mapping[Kind, Mapping[str, Sequence[str]]] = {
    "songs": {
        "song_id": _SONG_IDS,
        "title": ("songtitle", "tracktitle", "songname", "trackname", "name", "song", "track"),
        "release": ("album", "albumname", "albumtitle", "releasename", "releasetitle"),
        "artist_id": ("artisturi", "artistmbid"),
        "artist_name": ("artist", "artists", "artistnames", "performer", "band"),
        "year": ("releaseyear", "yearofrelease", "releasedate"),
        "duration": (
            "durations",
            "durationsec",
            "durationseconds",
            "durationms",
            "length",
            "lengthseconds",
            "lengthms",
            "tracklengthseconds",
        ),
        "tempo": ("bpm",),
        "tags": ("tag", "genres", "genre", "styles", "trackgenre", "trackgenres", "artistgenres"),
        "tag_counts": ("tagweights", "genrecounts"),
    },
    "plays": {
        "user_id": ("uid", "user", "username", "listenerid", "listener", "playlistid", "pid"),
        "song_id": (*_SONG_IDS[:-1], "song", "track", "item"),
        "plays": ("playcount", "playcounts", "listencount", "listens", "count", "counts", "nplays"),
        "rating": ("ratings", "score", "stars"),
        "timestamp": ("ts", "time", "datetime", "date", "playedat", "listenedat", "unixtime"),
    },
    "lyrics": {
        "song_id": _SONG_IDS,
        "text": ("lyrics", "lyric", "content"),
        "words": ("bag", "bagofwords", "bow", "wordcounts"),
    },
    "features": {
        "song_id": _SONG_IDS,
        "vector": ("vectors", "embedding", "embeddings", "embed", "emb", "features", "feature"),
    },
}
"""Names that are commonly used, as :func:`plain_name` makes them."""

REST = "*"
"""In place of a vector's column: all columns but the song's id, in their order."""

_TYPED = re.compile(r":(token|token_seq|float|float_seq)$")


_COUNTS_ROWS = re.compile(r"__index_level_[0-9]+__|Unnamed: [0-9]+|")


def counts_rows(name: str) -> bool:
    """Whether a column is called as pandas' index is, which it writes beside the others."""
    return _COUNTS_ROWS.fullmatch(name.strip()) is not None


def plain_name(name: str) -> str:
    """A name without what it is often written with or without: case, `-`, `_`, `.`, spaces, and
    the types of RecBole's headers (`user_id:token`)."""
    return re.sub(r"[-_.\s]", "", _TYPED.sub("", name.strip().lower()))


def find_columns(
    path: str, spec: TableSpec, names: Sequence[str], numbers: bool = False
) -> dict[str, str]:
    """The file's column of each of :data:`COLUMNS` that it has.

    Parameters
    ----------
    path
        For errors only.
    names
        The file's columns.
    numbers
        Its columns beside the song's id are numbers: of vectors, they are one, if no column is
        named as a vector is.

    Raises
    ------
    SourceError
        A required column is missing, one that the spec names is not there or is there twice, or
        two have names that are used for the same.
    """
    key = f"source.tables.{spec.kind}{'.NAME' if spec.kind == 'features' else ''}.columns"
    listed = ", ".join(names) or "none"
    found: dict[str, str] = {}
    for wanted, name in spec.columns.items():
        if name not in names and not (wanted == "vector" and name == REST):
            raise SourceError(f"{path}: has no column {name}, which {key} names (it has {listed})")
        found[wanted] = name
    # A column is one thing only; those that have their own names come first, but for a track's id,
    # which is the song's where there is no other.
    for by_own_name in (True, False, True):
        for wanted in COLUMNS[spec.kind]:
            if wanted in found or (by_own_name and wanted == "track_id" and "song_id" not in found):
                continue
            used = USED[spec.kind].get(wanted, ())
            fitting = [
                name
                for name in names
                if name not in found.values()
                and (
                    plain_name(name) == plain_name(wanted)
                    if by_own_name
                    else plain_name(name) in used
                )
            ]
            if wanted in fitting:
                fitting = [name for name in fitting if name == wanted]
            if len(set(fitting)) > 1:
                raise SourceError(
                    f"{path}: {' and '.join(dict.fromkeys(fitting))} may both be {wanted}; name "
                    f"one in {key}, as {{{wanted}: {fitting[0]}}}"
                )
            if fitting:
                found[wanted] = fitting[0]
    if spec.kind == "features" and "vector" not in found and numbers and len(names) > 1:
        found["vector"] = REST
    if "track_id" in found:  # where the spec says which one that is
        found.setdefault("song_id", found["track_id"])
    for wanted in REQUIRED[spec.kind]:
        if wanted not in found:
            raise SourceError(
                f"{path}: no column is {wanted} (it has {listed}); say which one is in {key}, as "
                f"{{{wanted}: {names[0] if names else 'name'}}}"
            )
    for name in found.values():
        if names.count(name) > 1:
            raise SourceError(f"{path}: has {names.count(name)} columns {name}; keep one of them")
    return {wanted: found[wanted] for wanted in COLUMNS[spec.kind] if wanted in found}
