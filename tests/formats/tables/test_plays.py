"""Plays from tables, compared with pandas."""

from __future__ import annotations

import bz2
import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusionrec.errors import SourceError
from fusionrec.formats.tables import columns_of, ranges, read_head, read_plays
from fusionrec.formats.tables.plays import TIMED
from fusionrec.schemas import TRIPLETS
from tests.formats.tables.helpers import in_ranges, rejects, rows, spec_of, write, write_parquet


def read(path: str, **fields: Any) -> Any:
    return read_plays(path, spec_of("plays", path, **fields))


def zstandard(content: bytes) -> bytes:
    return bytes(pa.Codec("zstd").compress(content, asbytes=True))


@pytest.mark.parametrize(
    "name", ["a.csv", "a.tsv", "a.csv.gz", "a.csv.bz2", "a.csv.zst", "a.parquet", "a.jsonl"]
)
def test_every_kind_of_file_says_the_same(tmp_path: Path, name: str) -> None:
    random = np.random.default_rng(5)
    frame = pd.DataFrame(
        {
            "user": [f"ü{n}" for n in random.integers(0, 40, 500)],
            "junk": "x",
            "Item-ID": random.integers(0, 90, 500),
            "Play Count": random.integers(1, 9, 500),
            "time": random.integers(10**9, 2 * 10**9, 500),
        }
    )
    path = tmp_path / name
    if name.endswith(".parquet"):
        frame.to_parquet(path, row_group_size=70)
    elif name.endswith(".jsonl"):
        frame.to_json(path, orient="records", lines=True)
    else:
        text = frame.to_csv(index=False, sep="\t" if "tsv" in name else ",").encode()
        pack = {".gz": gzip.compress, ".bz2": bz2.compress, ".zst": zstandard}.get(path.suffix)
        path.write_bytes(pack(text) if pack else text)
    batch = read(str(path))
    expected = frame[["user", "Item-ID", "Play Count", "time"]].astype({"Item-ID": str})
    assert batch.table.schema == TIMED
    assert rows(batch.table) == [tuple(row) for row in expected.itertuples(index=False)]
    assert (batch.read, len(batch.rejects), batch.damaged_text) == (500, 0, 0)
    spec = spec_of("plays", str(path))
    parts = in_ranges(read_plays, str(path), spec, 100)
    assert pa.concat_tables([part.table for part in parts]).equals(batch.table)
    assert sum(part.read for part in parts) == 500


def test_defects_are_told_with_line_and_column(tmp_path: Path) -> None:
    content = (
        b"\xef\xbb\xbfuid,song_id,plays,ts\r\n"
        b"u1,s1,3,2009-04-08T01:57:47Z\r\n"
        b"u2,s2,x,0\r\n"
        b"u3,s3\r\n"
        b",s4,1,0\r\n"
        b"u5,  ,1,0\r\n"
        b"\r\n"
        b"u7,s7,0,0\r\n"
        b"u8,s8,1.5,0\r\n"
        b"u9,s9,3000000000,0\r\n"
        b"u10,s10,2.0,yesterday\r\n"
        b"u\xff,s11,,0\r\n"
        b"u\xff,\xfe,1,\r\n"
    )
    path = write(tmp_path, "plays.csv", content)
    batch = read(path)
    assert rows(batch.table) == [
        ("u1", "s1", 3, 1239155867),
        ("u10", "s10", 2, None),
        (r"u\xff", r"\xfe", 1, None),
    ]
    assert rejects(batch) == [
        ("3", "plays is not a number", "x", "dropped"),
        ("4", "wrong number of fields", "u3,s3", "dropped"),
        ("5", "empty user_id", "", "dropped"),
        ("6", "empty song_id", "  ", "dropped"),
        ("8", "plays is zero or negative", "0", "dropped"),
        ("9", "plays is not a whole number", "1.5", "dropped"),
        ("10", "plays is too large", "3000000000", "dropped"),
        ("11", "timestamp is no time", "yesterday", "nulled"),
        ("12", "plays is empty", "", "dropped"),
        ("13", "timestamp is empty", "", "nulled"),
    ]
    assert (batch.read, batch.damaged_text) == (11, 3)
    assert set(batch.rejects["source"].to_pylist()) == {"plays.csv"}
    for size in (7, 40, 100):
        parts = in_ranges(read_plays, path, spec_of("plays", path), size)
        assert pa.concat_tables([part.table for part in parts]).equals(batch.table)
        assert [each for part in parts for each in rejects(part)] == rejects(batch)


@settings(deadline=None)
@given(content=st.binary(max_size=60), name=st.sampled_from(["f.csv", "f.jsonl", "f.tsv"]))
def test_any_bytes(content: bytes, name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    head = (
        b""
        if "json" in name
        else b"user_id,song_id\n".replace(b",", b"\t" if "t" in name[-3:] else b",")
    )
    if name == "f.jsonl":
        head = b'{"user_id": "u", "song_id": 1}\n'
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(head + content)
    batch = read(str(path))
    assert len(batch.table) + len(batch.rejects) == batch.read


def test_rows_of_parquet_are_counted_from_one(tmp_path: Path) -> None:
    path = write_parquet(
        tmp_path,
        "a.parquet",
        {"user_id": ["a", None, "c", ""], "song_id": [1.0, 2.0, None, 4.0], "plays": [1, 1, 1, 1]},
        row_group_size=2,
    )
    spec = spec_of("plays", path)
    assert ranges(path, spec, rows=2, bytes_=1) == [(0, 2), (2, 4)]
    batch = read_plays(path, spec, 2, 4)
    assert rejects(batch) == [
        ("3", "empty song_id", "", "dropped"),
        ("4", "empty user_id", "", "dropped"),
    ]
    assert rows(read(path).table) == [("a", "1", 1)]


@pytest.mark.parametrize(("rows_", "size"), [(1000, 10), (1000, 300), (10, 1000), (0, 5), (7, 3)])
def test_ranges_of_parquet_cover_it(tmp_path: Path, rows_: int, size: int) -> None:
    columns = {"user_id": ["u"] * rows_, "song_id": ["s"] * rows_}
    path = write_parquet(tmp_path, "a.parquet", columns, row_group_size=400)
    found = ranges(path, spec_of("plays", path), rows=size, bytes_=1)
    assert [start for start, _ in found] == [0, *(stop for _, stop in found[:-1])][: len(found)]
    assert sum(stop - start for start, stop in found) == rows_
    assert all(stop > start for start, stop in found)


def test_ratings_and_rows_alone(tmp_path: Path) -> None:
    path = write(tmp_path, "r.csv", "user_id,song_id,rating\na,1,0.5\nb,1,4.2\nc,1,0\nd,1,-1\n")
    batch = read(path)
    assert rows(batch.table) == [("a", "1", 1), ("b", "1", 5)]
    assert [reject[1] for reject in rejects(batch)] == ["rating is zero or negative"] * 2
    path = write(tmp_path, "n.csv", "user_id,song_id\na,1\na,1\n")
    assert rows(read(path).table) == [("a", "1", 1), ("a", "1", 1)]
    path = write(tmp_path, "both.csv", "user_id,song_id,rating,plays\na,1,5,2\n")
    assert rows(read(path).table) == [("a", "1", 2)]
    assert read(path).table.schema == TRIPLETS


def test_ids_of_any_kind(tmp_path: Path) -> None:
    ids = {
        "i": pa.array([7, 2**62], pa.int64()),
        "u": pa.array([7, 2**63], pa.uint64()),
        "f": pa.array([12.0, None]),
        "d": pa.array(["日本", "e\u0301"]).dictionary_encode(),
        "b": pa.array([b" x ", b"\xff"]),
    }
    found = {}
    for name, column in ids.items():
        path = write_parquet(tmp_path, f"{name}.parquet", {"user_id": ["u"] * 2, "song_id": column})
        found[name] = read(path).table["song_id"].to_pylist()
    assert found == {
        "i": ["7", str(2**62)],
        "u": ["7", str(2**63)],
        "f": ["12"],
        "d": ["日本", "e\u0301"],
        "b": ["x", r"\xff"],
    }
    path = write(tmp_path, "f.csv", "user_id,song_id\n1.0,12.0\n2.0,\n3.0,10.0\n")
    assert rows(read(path).table) == [("1", "12", 1), ("3", "10", 1)]
    path = write(tmp_path, "v.csv", "user_id,song_id\nu,1.0\nu,1.1\n")  # no floats, but versions
    assert rows(read(path).table) == [("u", "1.0", 1), ("u", "1.1", 1)]


def test_types_that_hold_nothing_of_the_kind(tmp_path: Path) -> None:
    path = write_parquet(tmp_path, "a.parquet", {"user_id": [[1]], "sid": ["s"]})
    with pytest.raises(SourceError, match=r"a\.parquet: column user_id is of type list"):
        read(path)
    path = write_parquet(tmp_path, "b.parquet", {"user_id": [1], "sid": ["s"], "n": [[1]]})
    with pytest.raises(SourceError, match=r"column n is of type list.*cannot be plays.*plays\.col"):
        read(path, columns={"plays": "n"})


def test_files_without_rows(tmp_path: Path) -> None:
    path = write(tmp_path, "head.csv", "user_id,song_id,ts\n")
    batch = read(path)
    assert (len(batch.table), len(batch.rejects), batch.read) == (0, 0, 0)
    assert batch.table.schema == TIMED
    path = write(tmp_path, "empty.csv", "")
    assert ranges(path, spec_of("plays", path), rows=1, bytes_=1) == []
    with pytest.raises(SourceError, match=r"empty\.csv: is empty"):
        read(path)
    path = write_parquet(
        tmp_path,
        "a.parquet",
        {"user_id": pa.array([], pa.string()), "song_id": pa.array([], pa.int8())},
    )
    assert len(read(path).table) == 0
    with pytest.raises(SourceError, match=r"gone\.csv"):
        read(str(tmp_path / "gone.csv"))
    with pytest.raises(SourceError, match=r"bad\.parquet: cannot be read as Parquet"):
        read(write(tmp_path, "bad.parquet", b"PAR1 and no more"))
    with pytest.raises(SourceError, match=r"wide\.csv: its text is in UTF-16LE"):
        read(write(tmp_path, "wide.csv", "user_id,song_id\nu,s\n".encode("utf-16")))


def test_files_without_a_header_and_other_delimiters(tmp_path: Path) -> None:
    path = write(tmp_path, "a.txt", "u1;s1;3\nu2;s2;4\n")
    header = ("user_id", "song_id", "plays")
    assert rows(read(path, header=header).table) == [("u1", "s1", 3), ("u2", "s2", 4)]
    with pytest.raises(SourceError, match=r"first line has 3 fields.*header names 2 columns"):
        read(path, header=header[:2])
    path = write(tmp_path, "b.txt", "user_id~song_id\nu~s,1\n")
    assert rows(read(path, delimiter="~").table) == [("u", "s,1", 1)]
    with pytest.raises(SourceError, match="'::' cannot separate fields"):
        read(path, delimiter="::")
    path = write(tmp_path, "c.csv", "user_id;song_id\nu;s,1\n")
    assert rows(read(path).table) == [("u", "s,1", 1)]


def test_a_compressed_file_that_was_cut_short_keeps_its_lines(tmp_path: Path) -> None:
    lines = b"".join(b"user%d,song%d\n" % (i, i * i) for i in range(20_000))
    packed = gzip.compress(b"user_id,song_id\n" + lines)
    batch = read(write(tmp_path, "a.csv.gz", packed[: len(packed) // 2]))
    assert rejects(batch)[-1][1] == "damaged compressed file"
    assert rows(batch.table.slice(0, 1)) == [("user0", "song0", 1)]
    for name in ("b.csv.gz", "b.jsonl.zst"):
        with pytest.raises(SourceError, match=rf"{name}: cannot be decompressed"):
            read(write(tmp_path, name, "user_id,song_id\nu,s\n"))


def test_the_head_as_it_stands(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", 'uid,song_id,n\n1,"a,b",x\n2\n3,c,4\n')
    head = read_head(path, spec_of("plays", path), 1)
    assert head.to_pylist() == [{"uid": "1", "song_id": "a,b", "n": "x"}]
    assert columns_of(path, spec_of("plays", path)) == {"user_id": "uid", "song_id": "song_id"}
    path = write(tmp_path, "a.jsonl", '{"uid": 1, "song_id": "x"}\n{"uid": 2, "n": {"m": 1}}\n')
    head = read_head(path, spec_of("plays", path))
    assert head.column_names == ["uid", "song_id", "n", "n.m"]


def test_damaged_lines_of_json(tmp_path: Path) -> None:
    content = (
        b'{"user_id": 1, "song_id": "a", "plays": 2}\n'
        b'{"user_id": 1, "song_id":\n'
        b"\n"
        b'[1]\n{"user_id": "x", "song_id": "\xff", "plays": "3"}\n'
        b'{"user_id": 1}{"user_id": 2}\n'
    )
    path = write(tmp_path, "a.jsonl", content)
    batch = read(path)
    assert [row[:2] for row in rows(batch.table)] == [("1", "a"), ("x", r"\xff")]
    assert [(item, reason) for item, reason, *_ in rejects(batch)] == [
        ("2", "line is no JSON object"),
        ("4", "line is no JSON object"),
        ("6", "line is no JSON object"),
    ]
    with pytest.raises(SourceError, match="first lines are no JSON objects"):
        read(write(tmp_path, "b.json", "{\n"))
    array = '[\n{"user_id": 1, "song_id": 2},\n{"user_id": 3, "song_id": 4}\n]\n'
    with pytest.raises(SourceError, match="is one JSON array; write its objects a line each"):
        read(write(tmp_path, "b.json", array))
    lines = write(tmp_path, "b.json", array.replace(",\n", "\n"))
    assert [row[:2] for row in rows(read(lines).table)] == [("1", "2"), ("3", "4")]


def test_uris_are_read_as_paths_are(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv.gz", gzip.compress(b"user_id,song_id\nu,s\n"))
    write_parquet(tmp_path, "b.parquet", {"user_id": ["v"], "song_id": [1]})
    assert rows(read(f"file://{path}").table) == [("u", "s", 1)]
    assert rows(read(f"file://{tmp_path}/b.parquet").table) == [("v", "1", 1)]


def test_the_delimiter_of_a_file_without_a_header(tmp_path: Path) -> None:
    path = write(tmp_path, "a.dat", "u;a,b,c,d\nu;e\n")
    assert rows(read(path, header=("user_id", "song_id")).table) == [
        ("u", "a,b,c,d", 1),
        ("u", "e", 1),
    ]
