"""The Million Song Dataset's SQLite databases: track_metadata, artist_term, artist_similarity.

They hold the metadata of (Öman & Choi, section 3.1.4), the tags of section 3.1 and the similar
artists for the whole data set, without the audio analysis.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple
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
_SIMILARITY_ADVICE = "give the official artist_similarity.db, which has the table similarity"
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
def read_songs(
    track_metadata_db: str,
    artist_term_db: str | None,
    start: int,
    stop: int,
    *,
    artist_similarity_db: str | None = None,
) -> Batch:
    """Read the songs `[start, stop)` in ascending order of track id.

    Parameters
    ----------
    track_metadata_db
        Database with the table songs.
    artist_term_db
        Database with the tables artist_mbtag and artist_term; None leaves the tag lists empty.
    start, stop
        Range of rows, out of :func:`num_rows`.
    artist_similarity_db
        Database with the table similarity; None leaves the lists of similar artists empty. Their
        order is that of its rows, which were written artist by artist, the most similar first.

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

    def keys(connection: sqlite3.Connection) -> Iterable[tuple[int]]:
        # The index on track_id alone gives the range; only its rows are then looked up.
        return connection.execute(
            "SELECT rowid FROM songs ORDER BY track_id, rowid LIMIT ? OFFSET ?",
            (max(0, stop - start), start),
        )

    return _read(track_metadata_db, artist_term_db, artist_similarity_db, keys)


@patient
def read_songs_of(
    track_metadata_db: str,
    song_ids: Iterable[str],
    *,
    artist_term_db: str | None = None,
    artist_similarity_db: str | None = None,
) -> Batch:
    """Read the tracks of some songs in ascending order of track id; as :func:`read_songs`.

    A song may have several tracks, and one that the database does not know has none. The table is
    looked through once if it has no index on the song ids.
    """

    def keys(connection: sqlite3.Connection) -> Iterable[tuple[int]]:
        connection.execute("PRAGMA temp_store = MEMORY")  # the database itself is not written to
        connection.execute("CREATE TEMP TABLE wanted (song_id TEXT PRIMARY KEY) WITHOUT ROWID")
        wanted = [(song,) for song in song_ids]
        connection.executemany("INSERT OR IGNORE INTO temp.wanted VALUES (?)", wanted)
        return connection.execute(
            "SELECT rowid FROM main.songs WHERE song_id IN (SELECT song_id FROM temp.wanted) "
            "ORDER BY track_id, rowid"
        )

    return _read(track_metadata_db, artist_term_db, artist_similarity_db, keys)


def _read(
    track_metadata_db: str,
    artist_term_db: str | None,
    artist_similarity_db: str | None,
    keys_of: Callable[[sqlite3.Connection], Iterable[tuple[int]]],
) -> Batch:
    """Read the rows that `keys_of` chooses."""
    rejects = Rejects()
    rows = SongRows()
    source = os.path.basename(track_metadata_db)
    connection = connect(track_metadata_db)
    try:
        keys = [int(key) for (key,) in keys_of(connection)]
        connection.execute(f"SELECT {', '.join(_COLUMNS)} FROM songs LIMIT 0")
        found = list(_rows(connection, keys, source, rejects))
    except sqlite3.Error as error:
        raise unusable(track_metadata_db, error, _ROWS_ADVICE) from error
    finally:
        connection.close()
    artists = sorted({a for a in (row["artist_id"] for _, row in found) if isinstance(a, bytes)})
    mbtags = _of_artists(artist_term_db, _MBTAGS, artists)
    terms = _of_artists(artist_term_db, _TERMS, artists)
    similar = _of_artists(artist_similarity_db, _SIMILAR, artists)
    for number, (item, row) in enumerate(found):
        artist = row["artist_id"] if isinstance(row["artist_id"], bytes) else b""
        tags = mbtags.get(artist, [])
        row |= {"mbtags": tags, "mbtag_counts": [1] * len(tags), "terms": terms.get(artist, [])}
        row["similar_artists"] = similar.get(artist, [])
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


class _Lists(NamedTuple):
    """A table with a row an entry of an artist's list."""

    table: str
    artist: str
    entry: str
    advice: str


_MBTAGS = _Lists("artist_mbtag", "artist_id", "mbtag", _TERMS_ADVICE)
_TERMS = _Lists("artist_term", "artist_id", "term", _TERMS_ADVICE)
_SIMILAR = _Lists("similarity", "target", "similar", _SIMILARITY_ADVICE)


def _of_artists(path: str | None, lists: _Lists, artists: list[bytes]) -> dict[bytes, list[bytes]]:
    """Entries by artist in the order of their rows, without repetitions."""
    found: dict[bytes, list[bytes]] = {}
    if path is None:
        return found
    connection = connect(path)
    try:
        for start in range(0, max(1, len(artists)), _ARTISTS_PER_QUERY):
            some = artists[start : start + _ARTISTS_PER_QUERY]
            marks = ", ".join(["CAST(? AS TEXT)"] * len(some))
            query = (
                f"SELECT {lists.artist}, {lists.entry} FROM {lists.table} "
                f"WHERE {lists.artist} IN ({marks}) ORDER BY rowid"
            )
            for artist, entry in connection.execute(query, some):
                known = found.setdefault(artist, [])
                if entry not in known:
                    known.append(entry)
    except sqlite3.Error as error:
        raise unusable(path, error, lists.advice) from error
    finally:
        connection.close()
    return found


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
