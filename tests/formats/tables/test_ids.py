"""Ids that are written in odd ways stay what they are, and stay apart."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fusionrec.formats.tables import (
    read_features,
    read_head,
    read_lyrics,
    read_plays,
    read_songs,
)
from tests.formats.tables.helpers import rejects, rows, spec_of, write, write_parquet

LATIN = [name.encode("latin-1") for name in ("José", "Josè", "Ana")]
EXPECTED = [r"Jos\xe9", r"Jos\xe8", "Ana"]


def test_ids_in_latin_1_stay_apart(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", b"user_id,song_id\n" + b"".join(b"%b,s\n" % n for n in LATIN))
    batch = read_plays(path, spec_of("plays", path))
    assert batch.table["user_id"].to_pylist() == EXPECTED
    assert (batch.damaged_text, rejects(batch)) == (2, [])
    lines = [b'{"user_id": "%b", "song_id": "s"}\n' % name for name in LATIN]
    path = write(tmp_path, "h.jsonl", b"".join(lines) + b'{"\xe9": {"\xe8": 1}, "\\ud83d": 1}')
    assert read_head(path, spec_of("plays", path))["user_id"][0].as_py() == "Jos\ufffd"
    for more in (b"", b"[]\n"):  # read at once, and line by line
        path = write(tmp_path, "a.jsonl", b"".join(lines) + more)
        batch = read_plays(path, spec_of("plays", path))
        assert (batch.table["user_id"].to_pylist(), batch.damaged_text) == (EXPECTED, 2)
    path = write_parquet(tmp_path, "a.parquet", {"user_id": LATIN, "song_id": [1, 2, 3]})
    assert read_plays(path, spec_of("plays", path)).table["user_id"].to_pylist() == EXPECTED


def test_songs_lyrics_and_vectors_call_them_the_same(tmp_path: Path) -> None:
    lines = b"".join(b"%b,%b\n" % (name, name) for name in LATIN)
    path = write(tmp_path, "s.csv", b"song_id,title\n" + lines)
    songs = read_songs(path, spec_of("songs", path)).table
    assert songs["song_id"].to_pylist() == EXPECTED
    assert songs["title"].to_pylist() == ["Jos\ufffd", "Jos\ufffd", "Ana"]
    path = write(tmp_path, "l.csv", b"song_id,text\n" + lines)
    assert read_lyrics(path, spec_of("lyrics", path)).table["track_id"].to_pylist() == EXPECTED
    np.save(tmp_path / "v.npy", np.ones((3, 2)))
    ids, path = write(tmp_path, "ids.txt", b"\n".join(LATIN)), str(tmp_path / "v.npy")
    vectors = read_features(path, spec_of("features", path, ids=ids)).table
    assert vectors["song_id"].to_pylist() == EXPECTED


def test_halves_of_characters_in_json(tmp_path: Path) -> None:
    lines = [r'{"user_id": "\ud83d", "song_id": "s"}', r'{"user_id": "\ud83e", "song_id": "s"}']
    path = write(tmp_path, "a.jsonl", "\n".join(lines))
    found = read_plays(path, spec_of("plays", path)).table["user_id"].to_pylist()
    assert found == [r"\xed\xa0\xbd", r"\xed\xa0\xbe"]


@pytest.mark.parametrize("schema", [True, False], ids=["of Arrow", "of others"])
def test_uuids_of_parquet(tmp_path: Path, schema: bool) -> None:
    ids = [UUID(int=2**127 + 5), UUID(int=7)]
    column = pa.array([each.bytes for each in ids], pa.binary(16))
    column = pa.ExtensionArray.from_storage(pa.uuid(), column)
    table = pa.table({"user_id": column, "song_id": column})
    path = str(tmp_path / "a.parquet")
    pq.write_table(table, path, store_schema=schema)
    expected = [(str(each), str(each), 1) for each in ids]
    assert rows(read_plays(path, spec_of("plays", path)).table) == expected
    assert len(read_head(path, spec_of("plays", path))) == 2
