"""Songs from tables, compared with what is made of the same songs in HDF5 files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusionrec.errors import SourceError
from fusionrec.formats.song_rows import SongRows
from fusionrec.formats.tables import read_songs
from fusionrec.schemas import SONGS
from tests.formats.tables.helpers import rejects, rows, spec_of, write, write_parquet


def read(path: str, **fields: Any) -> Any:
    return read_songs(path, spec_of("songs", path, **fields))


def only(table: pa.Table, *names: str) -> list[tuple[Any, ...]]:
    return rows(table.select(names))


_TEXTS = st.text(max_size=4).filter(lambda text: "\0" not in text)
_FLOATS = st.floats(width=32) | st.sampled_from([0.0, -1.0, 1e39])
_SONG = st.fixed_dictionaries(
    {
        "song_id": _TEXTS,
        "track_id": _TEXTS,
        "title": _TEXTS,
        "artist_name": _TEXTS,
        "year": st.sampled_from([0, 1859, 1860, 1999, 2100, 2101]),
        "duration": _FLOATS,
        "tempo": _FLOATS,
        "song_hotttnesss": _FLOATS,
        "key": st.integers(-3, 12),
        "mbtags": st.lists(_TEXTS, max_size=3),
        "mbtag_counts": st.lists(st.integers(-5, 5), max_size=3),
        "terms": st.lists(_TEXTS, max_size=2),
        "term_weights": st.lists(_FLOATS, max_size=2),
        "similar_artists": st.lists(_TEXTS, max_size=3),
    }
)


@settings(deadline=None, max_examples=150)
@given(songs=st.lists(_SONG, min_size=1, max_size=5))
def test_fields_are_cleaned_as_those_of_the_million_song_dataset(
    songs: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    collected = SongRows()
    for i, song in enumerate(songs):
        collected.add(i, "f", str(i), song)
    expected = collected.clean().table
    types = {field.name: field.type for field in SONGS}
    columns = {
        name: pa.array([song[name] for song in songs], types[name] if "tags" in name else None)
        for name in songs[0]
    }
    wide = {"mbtags": pa.string(), "terms": pa.string(), "similar_artists": pa.string()}
    for name, inner in (wide | {"mbtag_counts": pa.int64(), "term_weights": pa.float64()}).items():
        columns[name] = pa.array([song[name] for song in songs], pa.list_(inner))
    path = write_parquet(tmp_path_factory.getbasetemp(), "songs.parquet", columns)
    batch = read(path)
    assert batch.table.to_pylist() == expected.to_pylist()
    assert len(batch.table) + sum(r[3] == "dropped" for r in rejects(batch)) == len(songs)


def test_a_table_with_an_id_alone(tmp_path: Path) -> None:
    batch = read(write(tmp_path, "a.csv", "id\n1\n2\n"))
    assert batch.table.schema == SONGS
    assert only(batch.table, "song_id", "track_id", "title", "mbtags", "year") == [
        ("1", "1", None, [], None),
        ("2", "2", None, [], None),
    ]
    assert rejects(batch) == []


def test_defects_are_told_with_line_and_column(tmp_path: Path) -> None:
    content = (
        "song_id,name,year,duration_ms,tempo,key,tags,tag_counts,popularity\n"
        's1,"A, ""b""",1999-05-01,1500,120.5,3,rock|pop,3|1,0.5\n'
        "s2,,17,0,x,1.5,rock||pop,1|2|3,\n"
        ",T,2000,1,1,1,,,\n"
        "s4,T,2000,abc,nan,4,a|b,1,12\n"
    )
    batch = read(write(tmp_path, "songs.csv", content))
    names = ("song_id", "title", "year", "duration", "tempo", "key", "song_hotttnesss")
    assert only(batch.table, *names) == [
        ("s1", 'A, "b"', 1999, 1.5, 120.5, 3, 0.5),
        ("s2", None, None, None, None, None, None),
        ("s4", "T", 2000, None, None, 4, 12.0),
    ]
    assert only(batch.table, "mbtags", "mbtag_counts", "terms", "term_weights") == [
        (["rock", "pop"], [3, 1], ["rock", "pop"], [3.0, 1.0]),
        (["rock", "pop"], [1, 3], ["rock", "pop"], [1.0, 3.0]),
        (["a", "b"], None, ["a", "b"], None),
    ]
    assert sorted(rejects(batch)) == sorted(
        [
            ("3", "title is empty", "", "nulled"),
            ("3", "year unknown", "17", "nulled"),
            ("3", "duration is not positive", "0", "nulled"),
            ("3", "tempo is not a number", "x", "nulled"),
            ("3", "key is not an integer", "1.5", "nulled"),
            ("3", "empty tag in tags", "rock||pop", "nulled"),
            ("4", "empty song_id", "", "dropped"),
            ("5", "duration is not a number", "abc", "nulled"),
            ("5", "tempo is empty", "nan", "nulled"),
            ("5", "tag_counts do not match tags", "1", "nulled"),
        ]
    )


@pytest.mark.parametrize(
    "written",
    ["rock|pop", '"[""rock"", ""pop""]"', "\"['rock', 'pop']\"", '"{""rock"": 1, ""pop"": 2}"'],
)
def test_tags_however_they_are_written(tmp_path: Path, written: str) -> None:
    batch = read(write(tmp_path, "a.csv", f"song_id,genres\n1,{written}\n2,\n"))
    assert only(batch.table, "mbtags") == [(["rock", "pop"],), ([],)]


def test_tags_with_another_separator_and_of_numbers(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", 'song_id,tags\n1,"rock, pop"\n')
    assert only(read(path, separator=",").table, "terms") == [(["rock", "pop"],)]
    path = write_parquet(tmp_path, "a.parquet", {"song_id": [1], "tags": [[80, 90]]})
    assert only(read(path).table, "terms") == [(["80", "90"],)]


def test_given_terms_are_not_replaced_by_tags(tmp_path: Path) -> None:
    columns = {"song_id": [1], "tags": [["a"]], "terms": [["b"]], "term_weights": [[0.5]]}
    batch = read(write_parquet(tmp_path, "a.parquet", columns))
    assert only(batch.table, "mbtags", "terms", "term_weights") == [(["a"], ["b"], [0.5])]


def test_json_lines_and_csv_agree(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    songs = [
        {
            "id": i,
            "title": f"T{i}é",
            "tags": ["x", f"t{i % 3}"],
            "year": int(random.integers(1950, 2020)),
        }
        for i in range(50)
    ]
    lines = "".join(json.dumps(song) + "\n" for song in songs)
    cells = "".join(f"{s['id']},{s['title']},{'|'.join(s['tags'])},{s['year']}\n" for s in songs)
    found = read(write(tmp_path, "a.jsonl", lines)).table
    assert found.equals(read(write(tmp_path, "a.csv", "id,title,tags,year\n" + cells)).table)
    assert found["title"].to_pylist() == [song["title"] for song in songs]


def test_several_artists_are_one_name(tmp_path: Path) -> None:
    path = write_parquet(tmp_path, "a.parquet", {"song_id": [1], "artists": [["A", "B"]]})
    assert only(read(path).table, "artist_name") == [("A, B",)]


def test_a_type_that_cannot_be_a_number(tmp_path: Path) -> None:
    path = write_parquet(tmp_path, "a.parquet", {"song_id": [1], "bpm": [[1.0]]})
    with pytest.raises(SourceError, match=r"column bpm is of type list.*cannot be tempo"):
        read(path)
