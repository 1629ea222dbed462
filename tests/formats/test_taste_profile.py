"""Listening data: the fast path against a plain reading of the same lines, and every reject."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusionrec.errors import SourceError
from fusionrec.formats import taste_profile, text
from fusionrec.formats.taste_profile import (
    read_mismatches,
    read_song_to_tracks,
    read_triplets,
    read_unique_tracks,
)
from fusionrec.formats.text import byte_ranges
from fusionrec.schemas import TRIPLETS

GOOD = b"u1\tSOA\t3\nu1\tSOB\t12\nu2\tSOA\t1\n"
HEADED = b"u\tS\t1\n"


def write(tmp_path: Path, content: bytes, name: str = "triplets.txt") -> str:
    path = tmp_path / name
    path.write_bytes(content)
    return str(path)


def test_triplets(tmp_path: Path) -> None:
    batch = read_triplets(write(tmp_path, GOOD))
    assert batch.table.schema == TRIPLETS
    assert [tuple(r.values()) for r in batch.table.to_pylist()] == [
        ("u1", "SOA", 3),
        ("u1", "SOB", 12),
        ("u2", "SOA", 1),
    ]
    assert (len(batch.rejects), batch.read, batch.damaged_text) == (0, 3, 0)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"u\tS", "not three tab-separated fields"),
        (b"u S 3", "fields separated by spaces, not by tabs"),
        (b"u,S,3", "fields separated by commas, not by tabs"),
        (b'"u";"S";"3.0"', "fields separated by semicolons, not by tabs"),
        (b"u,S", "not three tab-separated fields"),
        (b"u\tS\t3\t4", "not three tab-separated fields"),
        (b"u\tS\tmany", "play count is not an integer"),
        (b"u\tS\t3.5", "play count is not an integer"),
        (b"u\tS\t3e0", "play count is not an integer"),
        (b"u\tS\t.0", "play count is not an integer"),
        (b"u\tS\t0.0", "play count is negative or zero"),
        (b"u\tS\t-1.0", "play count is negative or zero"),
        (b'""\tS\t3', "empty id"),
        (b"u\tS\t", "play count is not an integer"),
        (b"u\tS\t0", "play count is negative or zero"),
        (b"u\tS\t-4", "play count is negative or zero"),
        (b"u\tS\t2147483648", "play count too large"),
        (b"u\tS\t" + b"9" * 5000, "play count too large"),
        (b"\tS\t3", "empty id"),
        (b"u\t\t3", "empty id"),
        (b"u\t \t3", "empty id"),
    ],
)
def test_a_damaged_line_is_one_reject(tmp_path: Path, line: bytes, reason: str) -> None:
    batch = read_triplets(write(tmp_path, b"u1\tSOA\t3\n" + line + b"\nu2\tSOB\t5\n"))
    assert batch.table["plays"].to_pylist() == [3, 5]
    (reject,) = batch.rejects.to_pylist()
    assert reject["reason"] == reason
    assert (reject["source"], reject["item"], reject["action"]) == ("triplets.txt", "2", "dropped")
    assert batch.read == 3


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"u\tS\t2147483647", ("u", "S", 2147483647)),
        (b"u\tS\t007", ("u", "S", 7)),
        (b"u\tS\t+7", ("u", "S", 7)),
        (b" u\tS \t7 ", ("u", "S", 7)),
        (b'u"\t"S\t7', ('u"', '"S', 7)),
        (b'"u"\t"S"\t"7"', ("u", "S", 7)),
        (b'"u"\t"S"\t7', ("u", "S", 7)),
        (b'"u"x"\tS\t7', ('"u"x"', "S", 7)),
        (b"u\tS\t7.0", ("u", "S", 7)),
        (b"u\tS\t7.", ("u", "S", 7)),
        (b"u\\\tS,T\t7\r", ("u\\", "S,T", 7)),
        (b"NULL\tNA\t7", ("NULL", "NA", 7)),
        ("ü\tS\t7".encode(), ("ü", "S", 7)),
        (b"\xfc\tS\t7", ("\ufffd", "S", 7)),
    ],
)
def test_odd_but_sound_lines(tmp_path: Path, line: bytes, expected: tuple[str, str, int]) -> None:
    batch = read_triplets(write(tmp_path, GOOD + line + b"\n" + GOOD))
    rows = [tuple(r.values()) for r in batch.table.to_pylist()]
    assert rows[3] == expected
    assert rows[:3] == rows[4:]
    assert len(batch.rejects) == 0
    assert batch.damaged_text == ("\ufffd" in expected[0])


@pytest.mark.parametrize(
    ("separator", "name"), [(b",", "commas"), (b";", "semicolons"), (b" ", "spaces")]
)
def test_a_file_with_another_separator_is_named(
    tmp_path: Path, separator: bytes, name: str
) -> None:
    path = write(tmp_path, b"user\tsong\n" + GOOD.replace(b"\t", separator))
    with pytest.raises(SourceError, match=rf"triplets.txt: .*by {name}, where .* by tabs"):
        read_triplets(path)


@pytest.mark.parametrize("tail", [b"u3", b"u3\tSO", b"u3\tSOA\t"])
def test_a_last_line_cut_short(tmp_path: Path, tail: bytes) -> None:
    batch = read_triplets(write(tmp_path, GOOD + tail))
    assert [r["reason"] for r in batch.rejects.to_pylist()] == ["line cut short"]
    assert batch.rejects["item"].to_pylist() == ["4"]
    assert len(batch.table) == 3


def test_a_missing_last_newline_is_no_damage(tmp_path: Path) -> None:
    batch = read_triplets(write(tmp_path, GOOD[:-1]))
    assert (len(batch.table), len(batch.rejects)) == (3, 0)


def test_every_cut_partitions_rows_and_rejects(tmp_path: Path) -> None:
    content = GOOD + b"broken\n\n" + b"u4\tSOC\t0\n" + b"u5\tSO\xff\t9\r\n" + b"u6\tSO"
    path = write(tmp_path, content)
    whole = read_triplets(path)
    assert (len(whole.table), len(whole.rejects), whole.read) == (4, 3, 7)
    for cut in range(len(content) + 1):
        parts = [read_triplets(path, 0, cut), read_triplets(path, cut)]
        assert [r for p in parts for r in p.table.to_pylist()] == whole.table.to_pylist()
        assert [r for p in parts for r in p.rejects.to_pylist()] == whole.rejects.to_pylist()
        assert sum(p.read for p in parts) == whole.read
        assert sum(p.damaged_text for p in parts) == whole.damaged_text == 1


FIELD = st.sampled_from(
    [b"u1", b"SOA", b"3", b"0", b"-1", b"", b" ", b"x\x00", b"\xff", b'"', b"9" * 11]
)
LINE = st.lists(FIELD, max_size=4).map(b"\t".join) | st.binary(max_size=20)


@settings(deadline=None)
@given(content=st.lists(LINE, max_size=8).map(b"\n".join), block=st.integers(1, 40))
def test_any_bytes_are_rows_or_rejects(
    content: bytes, block: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.txt"
    path.write_bytes(HEADED + content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "BLOCK_BYTES", block)
        batch = read_triplets(str(path))
        parts = [read_triplets(str(path), *r) for r in byte_ranges(str(path), block)]
    batch.table.validate(full=True)
    assert len(batch.table) + len(batch.rejects) == batch.read
    expected = []
    for line in (HEADED + content).replace(b"\r\n", b"\n").split(b"\n"):
        fields = [f.strip() for f in line.split(b"\t")]
        if len(fields) == 3 and fields[0] and fields[1]:
            try:
                plays = int(fields[2]) if fields[2].isascii() and b"_" not in fields[2] else 0
            except ValueError:
                continue
            if 0 < plays < 2**31:
                expected.append((*(f.decode("utf-8", "replace") for f in fields[:2]), plays))
    assert [tuple(r.values()) for r in batch.table.to_pylist()] == expected
    assert [r for p in parts for r in p.rejects.to_pylist()] == batch.rejects.to_pylist()


def test_a_zip_archive_and_a_damaged_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "BLOCK_BYTES", 1 << 12)
    path = tmp_path / "train_triplets.txt.zip"
    content = b"".join(
        b"user%d\tSO%d\t%d\n" % (i, i * 7919 % 104729, i % 9 + 1) for i in range(5000)
    )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train_triplets.txt", content)
    whole = read_triplets(str(path))
    assert whole.table.equals(read_triplets(write(tmp_path, content)).table)
    packed = bytearray(path.read_bytes())
    middle = len(packed) // 2
    packed[middle : middle + 500] = b"\xff" * 500
    path.write_bytes(packed)
    batch = read_triplets(str(path))
    assert "damaged zip archive" in batch.rejects["reason"].to_pylist()
    assert 100 < len(batch.table) < 5000
    assert batch.table.slice(0, 100).equals(whole.table.slice(0, 100))


def test_another_format_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, b"track_id,song_id\nTR1,SO1\n", "train_triplets.txt")
    with pytest.raises(SourceError, match=r"train_triplets\.txt: no line has the three"):
        read_triplets(path)
    with pytest.raises(SourceError, match=r"gone\.txt: no such file"):
        read_triplets(str(tmp_path / "gone.txt"))


def test_an_empty_file_is_an_empty_batch(tmp_path: Path) -> None:
    batch = read_triplets(write(tmp_path, b""))
    assert (len(batch.table), len(batch.rejects), batch.read) == (0, 0, 0)
    assert batch.table.schema == TRIPLETS


def test_mismatches(tmp_path: Path) -> None:
    content = (
        b"ERROR: <SOUMNSI12AB0182807 TRMMGKQ128F9325E10> Digital  -  Way  !=  Linkwood  -  Up\n"
        b"ERROR: <SOUMNSI12AB0182807 TRMM\n"
        b"ERROR: <SO2 TR2> b\xe9  -  <x y>  !=  c\n"
        b"\n"
        b"<SO3 TR3>\n"
    )
    batch = read_mismatches(write(tmp_path, content, "sid_mismatches.txt"))
    assert [tuple(r.values()) for r in batch.table.to_pylist()] == [
        ("SOUMNSI12AB0182807", "TRMMGKQ128F9325E10"),
        ("SO2", "TR2"),
    ]
    assert [(r["item"], r["reason"]) for r in batch.rejects.to_pylist()] == [
        ("2", "not a mismatch line"),
        ("5", "not a mismatch line"),
    ]
    assert batch.read == 4
    with pytest.raises(SourceError, match=r"other\.txt"):
        read_mismatches(write(tmp_path, b"nothing of the kind\n", "other.txt"))


def test_song_to_tracks(tmp_path: Path) -> None:
    batch = read_song_to_tracks(write(tmp_path, b"SO1\tTR1\tTR2\nSO2\nSO3\t\n\tTR3\nSO4\t\tTR4\n"))
    assert [tuple(r.values()) for r in batch.table.to_pylist()] == [
        ("SO1", ["TR1", "TR2"]),
        ("SO2", []),
        ("SO3", []),
    ]
    assert [(r["item"], r["reason"]) for r in batch.rejects.to_pylist()] == [
        ("4", "empty id"),
        ("5", "empty id"),
    ]


def test_unique_tracks(tmp_path: Path) -> None:
    content = (
        "TR1<SEP>SO1<SEP>Björk<SEP>Jóga\nTR2<SEP>SO2<SEP>only three\n"
        "<SEP>SO3<SEP>a<SEP>b\nTR4<SEP>SO4<SEP>a<SEP>\n"
    ).encode() + b"TR5<SEP>SO5<SEP>\xe9<SEP>t<SEP>u\n"
    batch = read_unique_tracks(write(tmp_path, content))
    assert [tuple(r.values()) for r in batch.table.to_pylist()] == [
        ("TR1", "SO1", "Björk", "Jóga"),
        ("TR4", "SO4", "a", ""),
        ("TR5", "SO5", "\ufffd", "t<SEP>u"),
    ]
    assert [(r["item"], r["reason"]) for r in batch.rejects.to_pylist()] == [
        ("2", "not four <SEP>-separated fields"),
        ("3", "empty id"),
    ]
    assert batch.damaged_text == 1
    with pytest.raises(SourceError, match="<SEP>"):
        read_unique_tracks(write(tmp_path, b"a,b\n"))


@settings(deadline=None)
@given(content=st.binary(max_size=80))
@pytest.mark.parametrize("name", ["read_mismatches", "read_song_to_tracks", "read_unique_tracks"])
def test_the_id_lists_take_any_bytes(
    content: bytes, name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.txt"
    path.write_bytes(content)
    try:
        batch = getattr(taste_profile, name)(str(path))
    except SourceError as error:
        assert "fuzz.txt" in str(error)  # noqa: PT017 - not raising is right too
    else:
        assert len(batch.table) + len(batch.rejects) == batch.read
