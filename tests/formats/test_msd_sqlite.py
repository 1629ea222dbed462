"""SQLite readers against databases built here with the official schemas."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from fusionrec.errors import SourceError
from fusionrec.formats.batch import Batch
from fusionrec.formats.msd_sqlite import connect, num_rows, read_songs
from fusionrec.schemas import SONGS

SONGS_TABLE = """
CREATE TABLE songs (track_id text PRIMARY KEY, title text, song_id text, release text,
 artist_id text, artist_mbid text, artist_name text, duration real, artist_familiarity real,
 artist_hotttnesss real, year int, track_7digitalid int, shs_perf int, shs_work int);
CREATE INDEX idx_artist_id ON songs ('artist_id', 'release');
"""
TERM_TABLES = """
CREATE TABLE artists (artist_id TEXT PRIMARY KEY);
CREATE TABLE mbtags (mbtag TEXT PRIMARY KEY);
CREATE TABLE terms (term TEXT PRIMARY KEY);
CREATE TABLE artist_term (artist_id TEXT, term TEXT);
CREATE TABLE artist_mbtag (artist_id TEXT, mbtag TEXT);
"""
SIMILARITY_TABLES = """
CREATE TABLE artists (artist_id TEXT PRIMARY KEY);
CREATE TABLE similarity (target TEXT, similar TEXT, FOREIGN KEY(target) REFERENCES
 artists(artist_id), FOREIGN KEY(similar) REFERENCES artists(artist_id));
CREATE INDEX idx_sim_target ON similarity ('target');
"""
FIELDS = (
    "track_id, title, song_id, release, artist_id, artist_mbid, artist_name, duration, "
    "artist_familiarity, artist_hotttnesss, year"
)


def song(i: int, **changes: Any) -> dict[str, Any]:
    row = {
        "track_id": f"TR{i:03}",
        "title": f"Título {i}",
        "song_id": f"SO{i:03}",
        "release": "Album",
        "artist_id": f"AR{i % 3}",
        "artist_mbid": "",
        "artist_name": f"Artist {i % 3}",
        "duration": 100.5 + i,
        "artist_familiarity": 0.5,
        "artist_hotttnesss": 0.25,
        "year": 1990 + i,
    }
    return row | changes


def metadata(path: Path, songs: list[dict[str, Any]], schema: str = SONGS_TABLE) -> str:
    with sqlite3.connect(path) as db:
        db.executescript(schema)
        marks = ", ".join(f":{name}" for name in FIELDS.split(", "))
        db.executemany(f"INSERT INTO songs ({FIELDS}) VALUES ({marks})", songs)
    db.close()
    return str(path)


def tags(path: Path, mbtags: list[tuple[str, str]], terms: list[tuple[str, str]]) -> str:
    with sqlite3.connect(path) as db:
        db.executescript(TERM_TABLES)
        db.executemany("INSERT INTO artist_mbtag VALUES (?, ?)", mbtags)
        db.executemany("INSERT INTO artist_term VALUES (?, ?)", terms)
    db.close()
    return str(path)


def similarity(path: Path, pairs: list[tuple[str, str]]) -> str:
    with sqlite3.connect(path) as db:
        db.executescript(SIMILARITY_TABLES)
        db.executemany("INSERT INTO similarity VALUES (?, ?)", pairs)
    db.close()
    return str(path)


def rejected(batch: Batch) -> list[tuple[str, str, str]]:
    return [(r["item"], r["reason"], r["action"]) for r in batch.rejects.to_pylist()]


def test_a_song_field_by_field(tmp_path: Path) -> None:
    songs = metadata(tmp_path / "track_metadata.db", [song(4)])
    terms = tags(
        tmp_path / "artist_term.db",
        [("AR1", "rock"), ("AR2", "jazz"), ("AR1", "british"), ("AR1", "rock")],
        [("AR1", "indie"), ("AR1", "90s")],
    )
    near = similarity(
        tmp_path / "artist_similarity.db",
        [("AR1", "ARX"), ("AR2", "AR1"), ("AR1", "AR2"), ("AR1", "ARA"), ("AR1", "ARX")],
    )
    batch = read_songs(songs, terms, 0, 1, artist_similarity_db=near)
    assert batch.table.schema == SONGS
    assert batch.table.to_pylist() == [
        {
            "song_id": "SO004",
            "track_id": "TR004",
            "title": "Título 4",
            "release": "Album",
            "artist_id": "AR1",
            "artist_name": "Artist 1",
            "year": 1994,
            "duration": 104.5,
            "artist_hotttnesss": 0.25,
            "artist_familiarity": 0.5,
            "song_hotttnesss": None,
            "tempo": None,
            "loudness": None,
            "key": None,
            "mode": None,
            "time_signature": None,
            "mbtags": ["rock", "british"],
            "mbtag_counts": [1, 1],
            "terms": ["indie", "90s"],
            "term_weights": None,
            "similar_artists": ["ARX", "AR2", "ARA"],
        }
    ]
    assert (len(batch.rejects), batch.read) == (0, 1)


@pytest.mark.parametrize("key", [" PRIMARY KEY", ""])
def test_ranges_partition_the_rows_in_order_of_track_id(tmp_path: Path, key: str) -> None:
    order = [5, 2, 9, 0, 7, 1]
    schema = SONGS_TABLE.replace(" PRIMARY KEY", key)
    path = metadata(tmp_path / "track_metadata.db", [song(i) for i in order], schema)
    assert num_rows(path) == 6
    expected = [f"TR{i:03}" for i in sorted(order)]
    for cut in range(7):
        parts = [read_songs(path, None, 0, cut), read_songs(path, None, cut, 100)]
        assert [t for p in parts for t in p.table["track_id"].to_pylist()] == expected
        assert sum(p.read for p in parts) == 6
    for name in ("mbtags", "similar_artists"):
        assert read_songs(path, None, 0, 6).table[name].to_pylist() == [[]] * 6


def test_many_artists_all_get_their_tags(tmp_path: Path) -> None:
    songs = [song(i, artist_id=f"AR{i}", year=1990) for i in range(1200)]
    path = metadata(tmp_path / "track_metadata.db", songs)
    terms = tags(tmp_path / "artist_term.db", [(f"AR{i}", f"tag {i}") for i in range(1200)], [])
    batch = read_songs(path, terms, 0, 1200)
    assert batch.table["mbtags"].to_pylist() == [
        [f"tag {row['artist_id'][2:]}"] for row in batch.table.to_pylist()
    ]


@pytest.mark.parametrize(
    ("changes", "reason", "column"),
    [
        ({"artist_id": ""}, "artist_id is empty", "artist_id"),
        ({"artist_id": None}, "artist_id is empty", "artist_id"),
        ({"year": 0}, "year unknown", "year"),
        ({"year": "soon"}, "year unknown", "year"),
        ({"duration": None}, "duration is NaN", "duration"),
        ({"duration": "long"}, "duration is NaN", "duration"),
        ({"artist_familiarity": None}, "artist_familiarity is NaN", "artist_familiarity"),
        ({"title": 17}, None, None),
    ],
)
def test_an_unusable_field_is_null_and_noted(
    tmp_path: Path, changes: dict[str, Any], reason: str | None, column: str | None
) -> None:
    path = metadata(tmp_path / "track_metadata.db", [song(1, **changes)])
    batch = read_songs(path, None, 0, 1)
    (row,) = batch.table.to_pylist()
    if reason is None:  # SQLite itself turns a number in a text column into text
        assert (row["title"], len(batch.rejects)) == ("17", 0)
    else:
        assert row[column] is None
        assert rejected(batch) == [("TR001", reason, "nulled")]


def test_rows_without_ids_are_dropped(tmp_path: Path) -> None:
    songs = [song(1, song_id=None), song(2, track_id=None), song(3)]
    batch = read_songs(metadata(tmp_path / "track_metadata.db", songs), None, 0, 3)
    assert batch.table["track_id"].to_pylist() == ["TR003"]
    assert rejected(batch) == [
        ("row 2", "empty track_id", "dropped"),
        ("TR001", "empty song_id", "dropped"),
    ]


def test_invalid_utf8_is_replaced_and_counted(tmp_path: Path) -> None:
    path = metadata(tmp_path / "track_metadata.db", [song(1)])
    with sqlite3.connect(path) as db:
        db.execute("UPDATE songs SET title = CAST(x'636166e9' AS TEXT)")
    db.close()
    batch = read_songs(path, None, 0, 1)
    assert batch.table["title"].to_pylist() == ["caf\ufffd"]
    assert batch.damaged_text == 1


def test_damaged_pages_cost_only_their_rows(tmp_path: Path) -> None:
    path = metadata(tmp_path / "track_metadata.db", [song(i, title="x" * 200) for i in range(900)])
    with sqlite3.connect(path) as db:
        (size,) = db.execute("PRAGMA page_size").fetchone()
        query = "SELECT pageno FROM dbstat WHERE name = 'songs' AND pagetype = 'leaf'"
        try:
            leaves = [page for (page,) in db.execute(query)]
        except sqlite3.OperationalError:
            pytest.skip("this SQLite has no dbstat table to find the pages with")
    db.close()
    with open(path, "r+b") as raw:
        for page in leaves[3:5]:
            raw.seek((page - 1) * size)
            raw.write(b"\xff" * size)
    batch = read_songs(path, None, 0, 900)
    lost = [r for r in batch.rejects.to_pylist() if r["reason"] == "unreadable database row"]
    assert 0 < len(lost) < 200
    assert len(batch.table) + len(lost) == batch.read == 900


def test_unusable_databases_are_named(tmp_path: Path) -> None:
    good = metadata(tmp_path / "track_metadata.db", [song(1)])
    text = tmp_path / "text.db"
    text.write_bytes(b"these are not the rows you are looking for\n" * 50)
    with pytest.raises(SourceError, match=r"text\.db.*track_metadata\.db"):
        num_rows(str(text))
    with pytest.raises(SourceError, match=r"text\.db"):
        read_songs(str(text), None, 0, 1)
    with pytest.raises(SourceError, match=r"gone\.db: no such database file"):
        num_rows(str(tmp_path / "gone.db"))
    assert not (tmp_path / "gone.db").exists()
    terms = tags(tmp_path / "artist_term.db", [], [])
    with pytest.raises(SourceError, match=r"artist_term\.db.*no such table: songs"):
        read_songs(terms, None, 0, 1)
    with pytest.raises(SourceError, match=r"track_metadata\.db.*no such table: artist_mbtag"):
        read_songs(good, good, 0, 1)
    with pytest.raises(SourceError, match=r"no such table: similarity.*artist_similarity\.db"):
        read_songs(good, None, 0, 1, artist_similarity_db=good)


def test_databases_are_opened_read_only(tmp_path: Path) -> None:
    connection = connect(metadata(tmp_path / "track_metadata.db", [song(1)]))
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("DELETE FROM songs")
    connection.close()


def test_names_with_special_characters_open(tmp_path: Path) -> None:
    path = metadata(tmp_path / "100% of the #1 songs?.db", [song(1)])
    assert num_rows(path) == 1
