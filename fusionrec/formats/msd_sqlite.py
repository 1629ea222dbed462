"""The Million Song Dataset's SQLite databases `track_metadata.db` and `artist_term.db`.

They hold the metadata of (Öman & Choi, section 3.1.4) and the tags of section 3.1 for the
whole data set, without the audio analysis.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from urllib.parse import quote

from fusionrec.errors import SourceError
from fusionrec.formats import files
from fusionrec.formats.batch import Batch, Rejects
from fusionrec.formats.song_rows import SongRows, file_rejects
from fusionrec.formats.trouble import is_trouble, patient

_COLUMNS = (
    "track_id",
    "song_id",
    "title",
    "release",
    "artist_id",
    "artist_name",
    "duration",
    "artist_familiarity",
    "artist_hotttnesss",
    "year",
)
_ROWS_ADVICE = "give the official track_metadata.db, which has the table songs"
_TERMS_ADVICE = (
    "give the official artist_term.db, which has the tables artist_mbtag and artist_term"
)
_ARTISTS_PER_QUERY = 500  # below SQLite's limit on bound parameters in any build


@patient
def num_rows(track_metadata_db: str) -> int:
    """Number of rows of the table songs, readable or not.

    Raises
    ------
    SourceError
        The file is missing, no SQLite database, or lacks the table songs.
    UnavailableError
        The environment does not give it.
    """
    connection = connect(track_metadata_db)
    try:
        return int(connection.execute("SELECT COUNT(*) FROM songs").fetchone()[0])
    except sqlite3.Error as error:
        raise unusable(track_metadata_db, error, _ROWS_ADVICE) from error
    finally:
        connection.close()


@patient
def read_songs(track_metadata_db: str, artist_term_db: str | None, start: int, stop: int) -> Batch:
    """Read the songs `[start, stop)` in ascending order of track id.

    Parameters
    ----------
    track_metadata_db
        Database with the table songs.
    artist_term_db
        Database with the tables artist_mbtag and artist_term; None leaves the tag lists empty.
    start, stop
        Range of rows, out of :func:`num_rows`.

    Returns
    -------
    Batch
        `table` in schema :data:`fusionrec.schemas.SONGS`. Columns that the databases do not
        have (tempo, loudness, key, mode, time_signature, song_hotttnesss) are null; every
        tag counts 1, and term weights are null where there are terms.

    Raises
    ------
    SourceError
        A file is missing, no SQLite database, or lacks its tables.
    UnavailableError
        The environment does not give one.
    """
    rejects = Rejects()
    rows = SongRows()
    source = os.path.basename(track_metadata_db)
    connection = connect(track_metadata_db)
    try:
        # The index on track_id alone gives the range; only its rows are then looked up.
        keys = connection.execute(
            "SELECT rowid FROM songs ORDER BY track_id, rowid LIMIT ? OFFSET ?",
            (max(0, stop - start), start),
        ).fetchall()
        connection.execute(f"SELECT {', '.join(_COLUMNS)} FROM songs LIMIT 0")
        found = list(_rows(connection, [int(key) for (key,) in keys], source, rejects))
    except sqlite3.Error as error:
        raise unusable(track_metadata_db, error, _ROWS_ADVICE) from error
    finally:
        connection.close()
    artists = sorted({a for a in (row["artist_id"] for _, row in found) if isinstance(a, bytes)})
    mbtags = _tags(artist_term_db, "artist_mbtag", "mbtag", artists)
    terms = _tags(artist_term_db, "artist_term", "term", artists)
    for number, (item, row) in enumerate(found):
        artist = row["artist_id"] if isinstance(row["artist_id"], bytes) else b""
        tags = mbtags.get(artist, [])
        row |= {"mbtags": tags, "mbtag_counts": [1] * len(tags), "terms": terms.get(artist, [])}
        rows.add(number, source, item, row)
    songs = rows.clean()
    file_rejects(rejects, songs.rejects)
    return Batch(songs.table, rejects.to_table(), read=len(keys), damaged_text=songs.damaged_text)


def _rows(
    connection: sqlite3.Connection, keys: list[int], source: str, rejects: Rejects
) -> Iterator[tuple[str, dict[str, object]]]:
    """The rows of `keys`, each with its name; one that SQLite cannot read is a reject."""
    query = f"SELECT {', '.join(_COLUMNS)} FROM songs WHERE rowid = ?"
    for key in keys:
        try:
            values = connection.execute(query, (key,)).fetchone()
            if values is None:
                raise sqlite3.DatabaseError("in the index, but not in the table")
        except sqlite3.DatabaseError as error:
            if is_trouble(error):
                raise
            rejects.add(source, f"row {key}", "unreadable database row", str(error))
            continue
        yield f"row {key}", dict(zip(_COLUMNS, values, strict=True))


def _tags(
    path: str | None, table: str, column: str, artists: list[bytes]
) -> dict[bytes, list[bytes]]:
    """Tags by artist in the order of their rows, without repetitions."""
    tags: dict[bytes, list[bytes]] = {}
    if path is None:
        return tags
    connection = connect(path)
    try:
        for start in range(0, max(1, len(artists)), _ARTISTS_PER_QUERY):
            some = artists[start : start + _ARTISTS_PER_QUERY]
            marks = ", ".join(["CAST(? AS TEXT)"] * len(some))
            query = (
                f"SELECT artist_id, {column} FROM {table} WHERE artist_id IN ({marks}) "
                "ORDER BY rowid"
            )
            for artist, tag in connection.execute(query, some):
                known = tags.setdefault(artist, [])
                if tag not in known:
                    known.append(tag)
    except sqlite3.Error as error:
        raise unusable(path, error, _TERMS_ADVICE) from error
    finally:
        connection.close()
    return tags


def connect(path: str) -> sqlite3.Connection:
    """Open a database read-only, with text as bytes; a missing file is a SourceError."""
    if files.is_uri(path):
        raise SourceError(f"{path}: SQLite reads local files only; copy the database to a disk")
    if not os.path.isfile(path):
        raise SourceError(
            f"{path}: no such database file; check the path of this source in the config"
        )
    try:
        uri = f"file:{quote(os.path.abspath(path))}?mode=ro"
        connection = sqlite3.connect(uri, uri=True)
    except sqlite3.Error as error:
        if is_trouble(error):
            raise
        raise SourceError(
            f"{path}: cannot be opened ({error}); check the file and its permissions"
        ) from error
    connection.text_factory = bytes
    return connection


def unusable(path: str, error: sqlite3.Error, advice: str) -> Exception:
    """The error for a database that is not what its name promises; trouble as it is."""
    if is_trouble(error):
        return error
    return SourceError(f"{path}: not usable as a database ({error}); {advice}")
