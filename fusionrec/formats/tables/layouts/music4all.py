"""Music4All-Onion."""

from __future__ import annotations

import re
from dataclasses import replace

from fusionrec.formats import files
from fusionrec.formats.tables import text_files
from fusionrec.formats.tables.layouts.finding import Tables, first, needed
from fusionrec.formats.tables.names import REST
from fusionrec.formats.tables.places import below
from fusionrec.formats.tables.spec import Beside, TableSpec

_OF_ONION = re.compile(r"id_(.+)\.tsv(\.bz2|\.gz|\.zst)?")


def onion(root: str, times: bool) -> Tables:
    """Music4All-Onion (Moscati et al., CIKM 2022; doi 10.5281/zenodo.6609677).

    Tab-separated with headers: userid_trackid_count.tsv (user_id, track_id, count) or, if there is
    none or times are asked for, userid_trackid_timestamp.tsv. Tags are those of id_tags_dict.tsv
    (`id`, and a Python dict of tags and weights). Names are in Music4All, on which it is built and
    which is given on request: id_information.csv (id, artist, song, album_name) and
    id_metadata.csv (id, release (a year), tempo, key, mode, duration_ms, ...), both tab-separated;
    songs have none without these. Without the tags the genres of id_genres.csv are taken.
    """
    names = ["userid_trackid_count.tsv", "userid_trackid_timestamp.tsv"]
    plays = needed(root, "music4all-onion", names[::-1] if times else names)
    spec = TableSpec("plays", (plays,), delimiter="\t")
    songs = replace(spec, kind="songs", separator=",")
    known = []
    information = first(root, ["id_information.csv", "id_information.tsv"])
    if information is not None:
        known.append(replace(songs, paths=(information,)))
    metadata = first(root, ["id_metadata.csv", "id_metadata.tsv"])
    if metadata is not None:
        known.append(replace(songs, paths=(metadata,), columns=_metadata_columns(songs, metadata)))
    tags = first(root, ["id_tags_dict.tsv"])
    if tags is not None:
        of = replace(songs, paths=(tags,))
        columns = text_files.names_of(tags, of)[0]
        of = replace(
            of, columns={"song_id": columns[0], "tags": columns[-1], "tag_counts": columns[-1]}
        )
        known.append(of)
    genres = first(root, ["id_genres.csv"])
    if genres is not None and tags is None:
        known.append(replace(songs, paths=(genres,)))
    if not known:
        needed(root, "music4all-onion", ["id_information.csv", "id_tags_dict.tsv"])
    main, *others = known
    return {"songs": replace(main, beside=tuple(map(Beside, others))), "plays": spec}


def _metadata_columns(songs: TableSpec, path: str) -> dict[str, str]:
    """`release` is a year there, not an album."""
    names, _ = text_files.names_of(path, songs)
    return {"year": "release"} if "release" in names else {}


def onion_features(root: str) -> dict[str, TableSpec]:
    """id_NAME.tsv of numbers: `id` and a column for each; by NAME, as Python would spell it."""
    found = {}
    for name in below(root):
        match = _OF_ONION.fullmatch(name)
        if match and match[1] not in ("tags_dict", "information", "metadata"):
            path = files.join(root, name)
            spec = TableSpec("features", (path,), {"vector": REST}, delimiter="\t")
            found[re.sub(r"\W", "_", match[1])] = spec
    return found
