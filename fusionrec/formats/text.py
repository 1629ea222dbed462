"""Reading line-oriented files, plain or compressed, in byte ranges that partition them exactly."""

from __future__ import annotations

import bz2
import gzip
import io
import os
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, cast

import pyarrow as pa

from fusionrec.errors import SourceError
from fusionrec.formats import files
from fusionrec.formats.batch import Batch, Rejects

BLOCK_BYTES = 4 << 20
"""Bytes read, and parsed, at a time."""

MAX_LINE_BYTES = 16 << 20
"""The longest line, beyond a block's end, that is read into memory."""

_EXCERPT_BYTES = 120
_PIECE_BYTES = 1 << 14
"""Bytes of a compressed file that are read at a time: where one is damaged, so much is lost."""
_BOM = b"\xef\xbb\xbf"

_WIDE_MARKS = {
    b"\xff\xfe\0\0": "UTF-32LE",
    b"\0\0\xfe\xff": "UTF-32BE",
    b"\xff\xfe": "UTF-16LE",
    b"\xfe\xff": "UTF-16BE",
}
_HEAD, _LEAST = 1000, 16
"""Bytes by which an encoding without a mark is known, at most and at least."""


def decode(value: bytes | str) -> tuple[str, bool]:
    """Text of `value` as valid UTF-8, and whether anything had to be replaced by U+FFFD."""
    raw = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
    try:
        return raw.decode("utf-8"), False
    except UnicodeDecodeError:
        return raw.decode("utf-8", "replace"), True


def excerpt(line: bytes) -> str:
    """Beginning of a damaged line, for a reject's detail."""
    return decode(line[:_EXCERPT_BYTES])[0]


def rows_to_batch(
    rows: Sequence[tuple[object, ...]],
    schema: pa.Schema,
    rejects: Rejects,
    read: int,
    damaged_text: int,
) -> Batch:
    """Batch whose table has `rows` in `schema`."""
    columns = zip(*rows, strict=True) if rows else [()] * len(schema)
    arrays = [pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)]
    table = pa.Table.from_arrays(arrays, schema=schema)
    return Batch(table, rejects.to_table(), read=read, damaged_text=damaged_text)


def is_zip(path: str) -> bool:
    """Whether the file's name says that it is a zip archive."""
    return _name(path).endswith(".zip")


def _name(path: str) -> str:
    """In lower case, without the options that stand behind a URI's path."""
    return (path.partition("?")[0] if files.is_uri(path) else path).lower()


_COMPRESSED = (".gz", ".bz2", ".zst")


def is_packed(path: str) -> bool:
    """Whether the file's name says that it can only be read from its beginning."""
    return is_zip(path) or _name(path).endswith(_COMPRESSED)


def byte_ranges(path: str, size: int) -> list[tuple[int, int]]:
    """Cut a file into ranges that the range readers can read independently.

    Parameters
    ----------
    path
        A text file; one that is compressed (zip, .gz, .bz2, .zst) is one range, as it can only be
        read from its beginning.
    size
        Bytes a range, at least 1; the last one may be shorter.

    Returns
    -------
    list of (int, int)
        `(start, stop)` in bytes, ascending, covering the file without a gap or an
        overlap; empty for an empty file.

    Raises
    ------
    SourceError
        The file does not exist or cannot be read.
    """
    if size < 1:
        raise ValueError(f"size must be at least 1, not {size}")
    try:
        total = files.size(path)
    except OSError as error:
        raise _unreadable(path, error) from error
    if is_packed(path):
        return [(0, total)]
    return [(start, min(start + size, total)) for start in range(0, total, size)]


@dataclass(frozen=True)
class Block:
    """Consecutive whole lines.

    Attributes
    ----------
    data
        The lines, each ended by a newline byte (CR LF and a missing last newline are mended).
    first
        Position of the first line among the lines of the range, from 0.
    cut
        The last line is the file's last and had no newline: it may have been cut short.
    """

    data: bytes
    first: int
    cut: bool


class LineReader:
    """The lines whose first byte lies in `[start, stop)`.

    So any set of ranges that partitions the bytes of a file partitions its lines.

    Parameters
    ----------
    path
        A text file, a compressed one, or a zip archive that holds one; these are read whole.
    start, stop
        Byte range; `stop=None` means the end of the file.

    Raises
    ------
    SourceError
        While reading: the file is missing, unreadable, no usable zip archive, or not in UTF-8
        but in an encoding of two or four bytes a character.
    UnavailableError
        The environment does not give it: see :mod:`fusionrec.formats.trouble`.
    """

    def __init__(self, path: str, start: int = 0, stop: int | None = None) -> None:
        if start < 0:
            raise ValueError(f"start must not be negative, not {start}")
        if start and is_packed(path):
            raise ValueError(f"{path}: a compressed file can only be read from byte 0")
        self.path = path
        self.source = os.path.basename(path)
        self.damage: str | None = None
        """Why a compressed file ended early; known once `blocks` is exhausted."""
        self._start = start
        self._stop = None if is_packed(path) else stop
        self._first_byte = start
        self._lines_before: int | None = 0 if start == 0 else None

    def blocks(self) -> Iterator[Block]:
        """Yield the lines in blocks of about :data:`BLOCK_BYTES`."""
        with _open(self.path) as stream:
            position = self._start
            if position:
                # The line that runs across `start` belongs to the range before this one.
                stream.seek(position - 1)
                position += len(self._line(stream)) - 1
            self._first_byte = position
            first = 0
            while self._stop is None or position < self._stop:
                want = BLOCK_BYTES if self._stop is None else self._stop - position
                data = self._read(stream, min(want, BLOCK_BYTES))
                if not data:
                    return
                if position == 0 and (encoding := _wide_encoding(data)):
                    raise SourceError(
                        f"{self.path}: its text is in {encoding}, where UTF-8 is expected; convert "
                        f"it, for instance by `iconv -f {encoding} -t UTF-8`"
                    )
                if position == 0 and data.startswith(_BOM):
                    position, data = len(_BOM), data[len(_BOM) :]
                position += len(data)
                cut = not data.endswith(b"\n")
                if b"\r\n" in data:
                    data = data.replace(b"\r\n", b"\n")
                block = Block(data + b"\n" if cut else data, first, cut)
                first += block.data.count(b"\n")
                yield block

    def lines(self) -> Iterator[tuple[int, bytes, bool]]:
        """Yield `(position in the range from 0, line without its newline, cut)` one by one."""
        for block in self.blocks():
            lines = block.data.split(b"\n")
            lines.pop()
            last = len(lines) - 1
            for i, line in enumerate(lines):
                yield block.first + i, line, block.cut and i == last

    def number(self, position: int) -> int:
        """Line number in the file, from 1, of the line at `position` in this range.

        The lines before the range are only counted when a number is first asked for.
        """
        if self._lines_before is None:
            self._lines_before = _count_newlines(self.path, self._first_byte)
        return self._lines_before + position + 1

    def note_damage(self, rejects: Rejects, read: int) -> None:
        """Add the damage of a compressed file, if any, once its lines have been read."""
        if self.damage is not None:
            what = "zip archive" if is_zip(self.path) else "compressed file"
            rejects.add(self.source, f"after {read} lines", f"damaged {what}", self.damage)

    def _line(self, stream: IO[bytes]) -> bytes:
        """The rest of a line, which must end some time: a file without newlines is no text."""
        line = stream.readline(MAX_LINE_BYTES)
        if len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
            raise SourceError(
                f"{self.path}: has a line of more than {MAX_LINE_BYTES:,} bytes, so it is not the "
                "text file that this source expects; check the path in the config"
            )
        return line

    def _read(self, stream: IO[bytes], size: int) -> bytes:
        if is_packed(self.path):
            return self._unpacked(stream, size)
        try:
            data = stream.read(size)
            return data if data.endswith(b"\n") else data + self._line(stream)
        except OSError as error:
            raise _unreadable(self.path, error) from error

    def _unpacked(self, stream: IO[bytes], size: int) -> bytes:
        """The same of a compressed file; up to the last whole line before damage."""
        found = bytearray()
        try:
            if self.damage is not None:
                return b""
            while len(found) < size:
                piece = stream.read(min(_PIECE_BYTES, size - len(found)))
                found += piece
                if not piece:
                    return bytes(found)
            return bytes(found if found.endswith(b"\n") else found + self._line(stream))
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
            self.damage = str(error) or type(error).__name__
            return bytes(found[: found.rfind(b"\n") + 1])


def _wide_encoding(data: bytes) -> str | None:
    """The encoding of text in units of two or four bytes, by its mark or by its zero bytes."""
    for mark, encoding in _WIDE_MARKS.items():
        if data.startswith(mark):
            return encoding
    head = data[:_HEAD]
    if len(head) < _LEAST:
        return None
    for first, encoding in ((1, "UTF-16LE"), (0, "UTF-16BE")):
        if 2 * head[first::2].count(0) > len(head[first::2]) and not head[1 - first :: 2].count(0):
            return encoding
    return None


def _count_newlines(path: str, stop: int) -> int:
    count = 0
    with _open(path) as stream:
        while stop > 0 and (data := stream.read(min(stop, BLOCK_BYTES))):
            count += data.count(b"\n")
            stop -= len(data)
    return count


@contextmanager
def _open(path: str) -> Iterator[IO[bytes]]:
    try:
        stream = _open_packed(path) if is_packed(path) else files.open_binary(path)
    except OSError as error:
        raise _unreadable(path, error) from error
    with stream:
        yield stream


def _open_packed(path: str) -> IO[bytes]:
    if is_zip(path):
        return _open_member(path)
    file = files.open_binary(path)
    if _name(path).endswith(".gz"):
        return cast(IO[bytes], gzip.GzipFile(fileobj=file))
    if _name(path).endswith(".bz2"):
        return cast(IO[bytes], bz2.BZ2File(file))
    return io.BufferedReader(_Zstandard(file))


class _Zstandard(io.RawIOBase):
    """The content of a .zst file, which Arrow decompresses."""

    def __init__(self, file: IO[bytes]) -> None:
        self._stream = pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self._stream.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        self._stream.close()
        super().close()


def _open_member(path: str) -> IO[bytes]:
    try:
        archive = zipfile.ZipFile(files.open_binary(path))
        names = [
            n for n in archive.namelist() if not n.endswith("/") and not n.startswith("__MACOSX/")
        ]
        if len(names) != 1:
            raise SourceError(
                f"{path}: a zip archive with {len(names)} files where one text file is expected; "
                "unpack it and give the text file itself"
            )
        return archive.open(names[0])
    # zipfile: NotImplementedError for a compression that it lacks, RuntimeError for encryption.
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
        raise SourceError(
            f"{path}: not a readable zip archive ({error}); download it again or give the "
            "unpacked text file"
        ) from error


def _unreadable(path: str, error: Exception) -> SourceError:
    if isinstance(error, FileNotFoundError):
        return SourceError(f"{path}: no such file; check the path of this source in the config")
    return SourceError(f"{path}: cannot be read ({error}); check the file and its permissions")
