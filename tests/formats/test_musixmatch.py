"""musiXmatch readers against a plain parser, and every reject."""

from __future__ import annotations

import sqlite3
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusionrec.errors import SourceError
from fusionrec.formats import text
from fusionrec.formats.batch import Batch
from fusionrec.formats.musixmatch import (
    num_lyrics_db,
    read_lyrics,
    read_lyrics_db,
    read_vocabulary,
)
from fusionrec.formats.text import byte_ranges
from fusionrec.schemas import LYRICS

A, B, C = (f"TRAAAA{c}128F9318786" for c in "ABC")
HEAD = "# TRAINING SET\n# comment, with: commas\n%i,the,you,été,and\n".encode()


def write(tmp_path: Path, body: bytes, name: str = "mxm_dataset_train.txt") -> str:
    path = tmp_path / name
    path.write_bytes(HEAD + body)
    return str(path)


def rows(batch: Batch) -> list[tuple[object, ...]]:
    return [tuple(r.values()) for r in batch.table.to_pylist()]


def test_bags(tmp_path: Path) -> None:
    path = write(tmp_path, f"{A},1548880,1:19,4:7\n# note\n\n{B},0,5:1\n".encode())
    assert read_vocabulary(path) == ["i", "the", "you", "été", "and"]
    batch = read_lyrics(path)
    assert batch.table.schema == LYRICS
    assert rows(batch) == [(A, 1548880, [0, 3], [19, 7]), (B, 0, [4], [1])]
    assert (len(batch.rejects), batch.read) == (0, 2)


@pytest.mark.parametrize(
    ("line", "item", "reason"),
    [
        (f"{B},7,1:2,3:", B, "line cut short"),
        (f"{B},7,1:2,3", B, "line cut short"),
        (f"{B},7,1:2,", B, "line cut short"),
        (f"{B},7,", B, "line cut short"),
        (f"{B},7", B, "line cut short"),
        (B, B, "line cut short"),
        (f"{B},7,1:,3:1", B, "malformed pair"),
        (f"{B},7,1:2,3,4:1", B, "malformed pair"),
        (f"{B},7,1:2,,4:1", B, "malformed pair"),
        (f"{B},7,x:2", B, "malformed pair"),
        (f"{B},7,1:2:3", B, "bad count"),
        (f"{B},7,-1:2", B, "malformed pair"),
        (f"{B},7,0:2", B, "word index out of range"),
        (f"{B},7,6:2", B, "word index out of range"),
        (f"{B},7,{'9' * 5000}:2", B, "word index out of range"),
        (f"{B},7,1:0", B, "bad count"),
        (f"{B},7,1:-3", B, "bad count"),
        (f"{B},7,1:2.5", B, "bad count"),
        (f"{B},7,1:x", B, "bad count"),
        (f"{B},7,1:2,1:3", B, "word repeated"),
        (f"{B[:-1]},7,1:2", "5", "bad track id"),
        (f"{B.lower()},7,1:2", "5", "bad track id"),
        ("7,1:2", "5", "bad track id"),
        (",7,1:2", "5", "bad track id"),
    ],
)
def test_a_damaged_line_is_one_reject(tmp_path: Path, line: str, item: str, reason: str) -> None:
    path = write(tmp_path, f"{A},1,1:2\n{line}\n{C},3,2:1\n".encode())
    batch = read_lyrics(path)
    assert rows(batch) == [(A, 1, [0], [2]), (C, 3, [1], [1])]
    (reject,) = batch.rejects.to_pylist()
    assert (reject["item"], reject["reason"]) == (item, reason)
    assert (reject["source"], reject["action"]) == ("mxm_dataset_train.txt", "dropped")
    assert batch.read == 3


@pytest.mark.parametrize("tail", ["TRAAAA", A, f"{A},12", f"{A},12,1:2,3:", f"{A},12,1:2,3"])
def test_a_last_line_cut_short(tmp_path: Path, tail: str) -> None:
    batch = read_lyrics(write(tmp_path, f"{B},1,1:2\n{tail}".encode()))
    assert batch.rejects["reason"].to_pylist() == ["line cut short"]
    assert len(batch.table) == 1


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (f"{B},7,1:40000,2:32767", (B, 7, [0, 1], [32767, 32767])),
        (f"{B},7,1:{'9' * 5000}", (B, 7, [0], [32767])),
        (f"{B},7,3:1,1:2", (B, 7, [2, 0], [1, 2])),
        (f" {B} , 7, 1 : 2", (B, 7, [0], [2])),
        (f"{B},007,01:02", (B, 7, [0], [2])),
        (f"{B},7,1:2\r", (B, 7, [0], [2])),
        (f"{B},2147483647,1:2", (B, 2147483647, [0], [2])),
    ],
)
def test_odd_but_sound_lines(
    tmp_path: Path, line: str, expected: tuple[str, int, list[int], list[int]]
) -> None:
    batch = read_lyrics(write(tmp_path, f"{A},1,1:2\n{line}\n{C},3,2:1\n".encode()))
    assert rows(batch) == [(A, 1, [0], [2]), expected, (C, 3, [1], [1])]
    assert len(batch.rejects) == 0


@pytest.mark.parametrize("mxm", ["", "x", "-4", "2147483648", "9" * 5000])
def test_an_unreadable_mxm_id_is_null_and_noted(tmp_path: Path, mxm: str) -> None:
    batch = read_lyrics(write(tmp_path, f"{A},{mxm},1:2\n".encode()))
    assert rows(batch) == [(A, None, [0], [2])]
    assert [(r["item"], r["reason"], r["action"]) for r in batch.rejects.to_pylist()] == [
        (A, "bad mxm id", "nulled")
    ]


def test_every_cut_partitions_rows_and_rejects(tmp_path: Path) -> None:
    body = f"{A},1,1:2,5:9\nbroken\n{B},2,4:1\r\n\n{C},x,2:2\n{A},3,1:1,2:"
    path = write(tmp_path, body.encode())
    whole = read_lyrics(path)
    assert (len(whole.table), len(whole.rejects), whole.read) == (3, 3, 5)
    size = Path(path).stat().st_size
    for cut in range(size + 1):
        parts = [read_lyrics(path, 0, cut), read_lyrics(path, cut)]
        assert [r for p in parts for r in rows(p)] == rows(whole)
        assert [r for p in parts for r in p.rejects.to_pylist()] == whole.rejects.to_pylist()
        assert sum(p.read for p in parts) == whole.read


def plain(line: str) -> tuple[object, ...] | None:
    """The rules again, one line at a time and without any hurry; None for a reject."""
    track, *rest = line.split(",")
    if len(track) != 18 or not track.startswith("TR") or len(rest) < 2:
        return None
    bag: dict[int, int] = {}
    for pair in rest[1:]:
        parts = pair.split(":")
        if len(parts) != 2 or not all(p.isdecimal() for p in parts):
            return None
        word, count = int(parts[0]) - 1, int(parts[1])
        if not 0 <= word < 5 or count < 1 or word in bag:
            return None
        bag[word] = min(count, 32767)
    mxm = int(rest[0]) if rest[0].isdecimal() else None
    return (track, mxm, list(bag), list(bag.values()))


PAIR = st.builds("{}:{}".format, st.integers(0, 6), st.sampled_from([0, 1, 2, 30, 40000]))
JUNK = st.sampled_from(["", ":", "1", "1:", ":1", "a:1", "1:a", "1:1:1"])
LINE = st.builds(
    lambda track, mxm, pairs: ",".join([track, mxm, *pairs]),
    st.sampled_from([A, B, C, "TR1", ""]),
    st.sampled_from(["12", "0", "x", ""]),
    st.lists(st.one_of(PAIR, PAIR, PAIR, JUNK), max_size=4)
    | st.lists(st.integers(1, 5), unique=True, min_size=1).map(
        lambda words: [f"{w}:{w + 7}" for w in sorted(words)]
    ),
)


@settings(deadline=None)
@given(lines=st.lists(LINE, max_size=8), block=st.integers(1, 200))
def test_blocks_agree_with_a_plain_parser(
    lines: list[str], block: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "mxm.txt"
    path.write_bytes(HEAD + "".join(f"{line}\n" for line in lines).encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "BLOCK_BYTES", block)
        batch = read_lyrics(str(path))
    batch.table.validate(full=True)
    expected = [bag for bag in map(plain, lines) if bag is not None]
    assert rows(batch) == expected
    dropped = [r for r in batch.rejects.to_pylist() if r["action"] == "dropped"]
    assert len(dropped) == len(lines) - len(expected)
    parts = [read_lyrics(str(path), *r) for r in byte_ranges(str(path), block)]
    assert [r for p in parts for r in rows(p)] == expected


@settings(deadline=None)
@given(content=st.binary(max_size=200))
def test_any_bytes_are_rows_or_rejects(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.txt"
    path.write_bytes(HEAD + f"{A},1,1:2,3:4\n".encode() + content)
    batch = read_lyrics(str(path))
    assert rows(batch)[0] == (A, 1, [0, 2], [2, 4])
    dropped = [r for r in batch.rejects.to_pylist() if r["action"] == "dropped"]
    assert len(batch.table) + len(dropped) == batch.read
    path.write_bytes(content)
    try:
        read_lyrics(str(path))
    except SourceError as error:
        said = ("fuzz.txt: no vocabulary", "fuzz.txt: its text is in UTF-")
        assert any(text in str(error) for text in said)  # noqa: PT017 - not raising is right too


def test_a_zip_archive_is_its_text(tmp_path: Path) -> None:
    path = write(tmp_path, f"{A},1,1:2\n{B},2,2:1\n".encode())
    zipped = str(tmp_path / "mxm_dataset_train.txt.zip")
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(path, "mxm_dataset_train.txt")
    assert read_vocabulary(zipped) == read_vocabulary(path)
    assert read_lyrics(zipped).table.equals(read_lyrics(path).table)
    with pytest.raises(ValueError, match="byte 0"):
        read_lyrics(zipped, 5)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"# only a comment\n",
        b"%\n",
        f"{A},1,1:2\n%i,the\n".encode(),
        b"%" + b",".join(b"w%d" % i for i in range(32769)) + b"\n",
    ],
)
def test_a_file_without_a_vocabulary_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mxm.txt"
    path.write_bytes(content)
    for read in (read_vocabulary, read_lyrics):
        with pytest.raises(SourceError, match=r"mxm\.txt: no vocabulary"):
            read(str(path))


def database(
    tmp_path: Path, entries: list[tuple[object, ...]], name: str = "mxm_dataset.db"
) -> str:
    path = tmp_path / name
    with sqlite3.connect(path) as db:
        db.executescript(
            "CREATE TABLE words (word TEXT PRIMARY KEY);"
            "CREATE TABLE lyrics (track_id, mxm_tid INT, word TEXT, count INT, is_test INT,"
            " FOREIGN KEY(word) REFERENCES words(word));"
            "CREATE INDEX idx_lyrics1 ON lyrics ('track_id');"
        )
        db.executemany("INSERT INTO words VALUES (?)", [(w,) for w in ("i", "the", "été", "and")])
        db.executemany("INSERT INTO lyrics VALUES (?, ?, ?, ?, 0)", entries)
    db.close()
    return str(path)


def test_the_database_in_every_range_of_tracks(tmp_path: Path) -> None:
    entries: list[tuple[object, ...]] = [
        (C, 3, "the", 1),
        (A, 1, "été", 40000),
        (A, 1, "i", 2),
        (B, None, "and", 4),
    ]
    path = database(tmp_path, entries)
    assert read_vocabulary(path) == ["i", "the", "été", "and"]
    assert num_lyrics_db(path) == 3
    expected = [(A, 1, [2, 0], [32767, 2]), (B, None, [3], [4]), (C, 3, [1], [1])]
    for cut in range(4):
        parts = [read_lyrics_db(path, 0, cut), read_lyrics_db(path, cut, 3)]
        assert [r for p in parts for r in rows(p)] == expected
        assert sum(p.read for p in parts) == 3
        assert [r["item"] for p in parts for r in p.rejects.to_pylist()] == [B]


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([(B, 2, "nowhere", 1)], "word not in vocabulary"),
        ([(B, 2, "i", 0)], "bad count"),
        ([(B, 2, "i", "x")], "bad count"),
        ([(B, 2, "i", None)], "bad count"),
        ([(B, 2, "i", 1), (B, 2, "i", 1)], "word repeated"),
        ([("TR1", 2, "i", 1)], "bad track id"),
        ([(17, 2, "i", 1)], "bad track id"),
        ([(None, 2, "i", 1), (None, 3, "the", 1)], "bad track id"),
    ],
)
def test_a_damaged_bag_of_the_database_is_one_reject(
    tmp_path: Path, entries: list[tuple[object, ...]], reason: str
) -> None:
    path = database(tmp_path, [(A, 1, "i", 2), *entries, (C, 3, "the", 1)])
    batch = read_lyrics_db(path, 0, num_lyrics_db(path))
    assert rows(batch) == [(A, 1, [0], [2]), (C, 3, [1], [1])]
    assert batch.rejects["reason"].to_pylist() == [reason]
    assert batch.rejects["action"].to_pylist() == ["dropped"]


def test_an_unusable_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mxm_dataset.db"
    path.write_bytes(b"text, and a lot of it\n" * 100)
    for attempt in (
        lambda: read_vocabulary(str(path)),
        lambda: num_lyrics_db(str(path)),
        lambda: read_lyrics_db(str(path), 0, 1),
    ):
        with pytest.raises(SourceError, match=r"mxm_dataset\.db: not usable as a database"):
            attempt()
