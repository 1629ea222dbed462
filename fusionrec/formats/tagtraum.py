"""Tagtraum genre annotations of the Million Song Dataset (`.cls` files).

An annotation independent of the MusicBrainz tags that (Öman & Choi, section 3.1) cluster.
"""

from __future__ import annotations

import re

import pyarrow as pa

from fusionrec.errors import SourceError
from fusionrec.formats.batch import Batch, Rejects
from fusionrec.formats.text import LineReader, decode, excerpt, rows_to_batch
from fusionrec.formats.trouble import patient

GENRES = pa.schema([("track_id", pa.string()), ("genres", pa.list_(pa.string()))])

_TRACK = re.compile(rb"TR[A-Z0-9]{16}")


@patient
def read_cls(path: str) -> Batch:
    """Read `track TAB genre [TAB genre]` lines; those that begin with `#` are comments.

    Returns
    -------
    Batch
        `table` with columns track_id and genres, a list of strings with the main genre
        first. Lines without a track id or a genre are rejects (`item` is the line number),
        action `dropped`.

    Raises
    ------
    SourceError
        The file is missing or unreadable, or none of its lines begins with a track id.
    """
    reader, rejects = LineReader(path), Rejects()
    rows: list[tuple[str, list[str]]] = []
    read = damaged = shaped = 0
    for position, line, _ in reader.lines():
        if line.startswith(b"#") or not line.strip():
            continue
        read += 1
        track, *genres = (field.strip() for field in line.split(b"\t"))
        reason = "" if _TRACK.fullmatch(track) else "bad track id"
        shaped += not reason
        genres = [g for g in genres if g]
        if not reason and not genres:
            reason = "no genre"
        if reason:
            rejects.add(reader.source, str(reader.number(position)), reason, excerpt(line))
            continue
        texts = [decode(g) for g in genres]
        damaged += sum(bad for _, bad in texts)
        rows.append((track.decode("ascii"), [text for text, _ in texts]))
    reader.note_damage(rejects, read)
    if read and not shaped:
        raise SourceError(
            f"{path}: no line begins with a track id and a tab; give a tagtraum .cls file such "
            "as msd_tagtraum_cd1.cls"
        )
    return rows_to_batch(rows, GENRES, rejects, read, damaged)
