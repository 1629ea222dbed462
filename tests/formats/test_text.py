"""Line ranges, against splitting the whole file at once."""

from __future__ import annotations

import bz2
import gzip
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fusionrec.errors import SourceError
from fusionrec.formats import text
from fusionrec.formats.text import LineReader, byte_ranges, decode


def lines(path: str, start: int = 0, stop: int | None = None) -> list[bytes]:
    return [line for _, line, _ in LineReader(path, start, stop).lines()]


@settings(deadline=None)
@given(
    content=st.lists(st.sampled_from([b"a", b"bc", b"", b"\xff d"]), max_size=6).map(b"\n".join),
    data=st.data(),
)
def test_ranges_partition_the_lines_at_every_cut(
    content: bytes, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "lines.txt"
    path.write_bytes(content)
    expected = content.split(b"\n")
    if not expected[-1]:
        expected.pop()
    for cut in range(len(content) + 2):
        assert lines(str(path), 0, cut) + lines(str(path), cut) == expected
        reader = LineReader(str(path), cut)
        numbers = [reader.number(position) for position, _, _ in reader.lines()]
        assert numbers == list(range(len(expected) - len(numbers) + 1, len(expected) + 1))
    size = data.draw(st.integers(1, len(content) + 1))
    ranges = byte_ranges(str(path), size)
    assert [line for r in ranges for line in lines(str(path), *r)] == expected
    assert all(stop - start <= size for start, stop in ranges)


def test_small_blocks_give_the_same_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"one\ntwo\r\n\nlonger than a block\nlast")
    expected = [b"one", b"two", b"", b"longer than a block", b"last"]
    for block in (1, 2, 3, 7, 100):
        monkeypatch.setattr(text, "BLOCK_BYTES", block)
        read = list(LineReader(str(path)).lines())
        assert [line for _, line, _ in read] == expected
        assert [position for position, _, _ in read] == [0, 1, 2, 3, 4]
        assert [cut for _, _, cut in read] == [False] * 4 + [True]


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfone\ntwo\n")
    assert lines(str(path)) == [b"one", b"two"]
    assert lines(str(path), 0, 1) + lines(str(path), 1) == [b"one", b"two"]


def test_a_zip_archive_is_its_text(tmp_path: Path) -> None:
    path = str(tmp_path / "a.txt.zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", b"one\ntwo\n")
        archive.writestr("__MACOSX/a.txt", b"resource fork")
    ((start, stop),) = byte_ranges(path, 1)
    assert start == 0
    assert lines(path, start, stop) == [b"one", b"two"]
    with pytest.raises(ValueError, match="byte 0"):
        LineReader(path, 1)


def test_unusable_sources_are_named(tmp_path: Path) -> None:
    fake, two, gone = (str(tmp_path / n) for n in ("fake.zip", "two.zip", "gone.txt"))
    Path(fake).write_bytes(b"not an archive")
    with zipfile.ZipFile(two, "w") as archive:
        archive.writestr("a.txt", b"one")
        archive.writestr("b.txt", b"two")
    for path in (fake, two, gone, str(tmp_path)):
        with pytest.raises(SourceError, match=path):
            lines(path)
    with pytest.raises(SourceError, match=r"gone\.txt: no such file"):
        byte_ranges(gone, 10)


@settings(deadline=None)
@given(st.binary() | st.text(st.characters()))
@example("\udd00")
@example("\udcff")
def test_decoded_text_is_always_valid(value: bytes | str) -> None:
    decoded, damaged = decode(value)
    decoded.encode("utf-8")
    if not damaged:
        assert decoded in (value, value.decode("utf-8") if isinstance(value, bytes) else value)
    else:
        assert "\ufffd" in decoded


@pytest.mark.parametrize(
    ("name", "mark"),
    [
        ("UTF-16LE", "\ufeff"),
        ("UTF-16BE", "\ufeff"),
        ("UTF-32LE", "\ufeff"),
        ("UTF-32BE", "\ufeff"),
        ("UTF-16LE", ""),
        ("UTF-16BE", ""),
    ],
)
def test_text_in_wide_units_is_named_with_its_encoding(
    tmp_path: Path, name: str, mark: str
) -> None:
    path = tmp_path / "wide.txt"
    path.write_bytes(f"{mark}user\tSONG\t1\nuser\tSONGTWO\t12\n".encode(name))
    with pytest.raises(SourceError, match=rf"wide.txt: its text is in {name}.*iconv -f {name}"):
        lines(str(path))


def test_a_few_zero_bytes_are_no_encoding(tmp_path: Path) -> None:
    path = tmp_path / "zeros.txt"
    path.write_bytes(b"a\0b\0c\0 plain text follows for long\n")
    assert len(lines(str(path))) == 1


@pytest.mark.parametrize(
    ("ending", "pack"),
    [
        (".gz", gzip.compress),
        (".bz2", bz2.compress),
        (".zst", lambda content: pa.Codec("zstd").compress(content, asbytes=True)),
    ],
)
def test_compressed_files(tmp_path: Path, ending: str, pack: Callable[[bytes], bytes]) -> None:
    expected = [b"%d %d" % (i, i * i) for i in range(300_000)]
    content = pack(b"\xef\xbb\xbf" + b"\n".join(expected))
    path = tmp_path / f"lines.txt{ending}"
    path.write_bytes(content)
    assert byte_ranges(str(path), 10) == [(0, len(content))]
    assert lines(str(path), 0, 10) == expected
    with pytest.raises(ValueError, match="can only be read from byte 0"):
        LineReader(str(path), 1)
    path.write_bytes(content + content)  # archives that follow one another are one file
    assert len(lines(str(path))) == 2 * len(expected) - 1
    path.write_bytes(content[: len(content) * 3 // 4])
    reader = LineReader(str(path))
    found = [line for _, line, _ in reader.lines()]
    assert reader.damage
    assert found == expected[: len(found)]
    assert len(found) > len(expected) // 3
    path.write_bytes(b"nothing of the kind")
    reader = LineReader(str(path))
    assert (list(reader.lines()), bool(reader.damage)) == ([], True)
