"""Each row of a table says where in its range it begins, however the file is cut."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from fusionrec.formats.batch import Batch
from fusionrec.formats.tables import TableSpec, ranges, read_features, read_songs
from tests.formats.tables.helpers import write, write_parquet

IDS = [f"s{number}" for number in range(100)]
LINES = ["id,title", *(f"{song},{'x' * (number % 37)}" for number, song in enumerate(IDS))]
NUMBERS = list(range(2, 102))
"""Of the ids' lines, below a line of column names."""


def numbers(path: str, spec: TableSpec) -> dict[str, int]:
    """Each id's row in the file, by its place in a range and the lines of the ranges before."""
    found: dict[str, int] = {}
    before = 0
    for start, stop in ranges(path, spec, rows=7, bytes_=150):
        read = read_features if spec.kind == "features" else read_songs
        batch: Batch = read(path, spec, start, stop)
        assert batch.places is not None
        for song, place in zip(batch.table["song_id"].to_pylist(), batch.places, strict=True):
            found[song] = before + int(place) + 1
        before += batch.lines
    return found


def text(folder: Path) -> str:
    return write(folder, "songs.csv", "\n".join(LINES))


def windows(folder: Path) -> str:
    return write(folder, "songs.csv", "\ufeff" + "\r\n".join(LINES) + "\r\n")


def packed(folder: Path) -> str:
    return write(folder, "songs.csv.gz", gzip.compress("\n".join(LINES).encode()))


@pytest.mark.parametrize("written", [text, windows, packed])
def test_lines_of_text(tmp_path, written) -> None:
    path = written(tmp_path)
    found = numbers(path, TableSpec("songs", (path,)))
    assert found == dict(zip(IDS, NUMBERS, strict=True))


def test_a_row_of_several_lines_begins_on_its_first(tmp_path) -> None:
    path = write(tmp_path, "songs.csv", 'id,title\na,"one\ntwo"\n\nb,x\n,no id\nc,"un\nd,y\n')
    assert numbers(path, TableSpec("songs", (path,))) == {"a": 2, "b": 5, "d": 8}


def test_rows_of_json_lines(tmp_path) -> None:
    """Whether Arrow reads a block at once, or it is read line by line for one that is no object."""
    objects = [json.dumps({"id": song, "title": "x" * (n % 37)}) for n, song in enumerate(IDS)]
    for lines in (objects, [*objects[:40], "", "no object", *objects[40:]]):
        path = write(tmp_path, "songs.jsonl", "\n".join(lines))
        expected = {song: lines.index(line) + 1 for song, line in zip(IDS, objects, strict=True)}
        assert numbers(path, TableSpec("songs", (path,))) == expected


def test_rows_of_parquet_and_arrays(tmp_path) -> None:
    songs = write_parquet(tmp_path, "songs.parquet", {"id": IDS}, row_group_size=30)
    vectors = np.arange(200, dtype=np.float32).reshape(100, 2)
    vectors[3] = np.nan
    np.save(tmp_path / "v.npy", vectors)
    np.savez(tmp_path / "v.npz", ids=np.array(IDS), vectors=vectors)
    ids = write(tmp_path, "ids.txt", "\n".join(IDS))
    expected = {song: row for row, song in enumerate(IDS, 1)}
    assert numbers(songs, TableSpec("songs", (songs,))) == expected
    del expected["s3"]
    for name in ("v.npy", "v.npz"):
        path = str(tmp_path / name)
        spec = TableSpec("features", (path,), ids=ids if name == "v.npy" else None)
        assert numbers(path, spec) == expected
