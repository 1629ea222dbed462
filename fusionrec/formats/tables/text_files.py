"""Files of delimited text: their header, and their rows in byte ranges."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import pyarrow as pa

from fusionrec.errors import SourceError
from fusionrec.formats import files
from fusionrec.formats.batch import Rejects
from fusionrec.formats.tables.delimited import Dialect, Positions, parse
from fusionrec.formats.tables.places import extension
from fusionrec.formats.tables.rows import Rows
from fusionrec.formats.tables.spec import TableSpec
from fusionrec.formats.text import LineReader, decode, is_packed

_HEAD_BYTES = 1 << 16
_BY_EXTENSION = {".tsv": "\t", ".tab": "\t", ".inter": "\t", ".item": "\t", ".user": "\t"}
_DELIMITERS = ",\t;|"


def names_of(path: str, spec: TableSpec) -> tuple[list[str], str]:
    """The file's columns and its delimiter.

    Raises
    ------
    SourceError
        The file is missing, unreadable or empty, or the delimiter is not one character.
    """
    line = _first_line(path)
    text = decode(line)[0]
    delimiter = spec.delimiter or _BY_EXTENSION.get(extension(path))
    delimiter = delimiter or _likely_delimiter(text, spec.header)
    if len(delimiter.encode()) != 1 or delimiter in '"\r\n':
        raise SourceError(
            f"{path}: {delimiter!r} cannot separate fields; give one ASCII character in "
            f"source.tables.{spec.kind}.delimiter, or convert the file"
        )
    fields = text.split(delimiter)
    if spec.quoted and '"' in text:
        try:
            fields = next(csv.reader([text], delimiter=delimiter))
        except (csv.Error, StopIteration):
            fields = text.split(delimiter)
    if spec.header is None:
        return [name.strip() for name in fields], delimiter
    if len(spec.header) != len(fields):
        raise SourceError(
            f"{path}: its first line has {len(fields)} fields, where source.tables.{spec.kind}."
            f"header names {len(spec.header)} columns; name them all, in their order"
        )
    return list(spec.header), delimiter


def _first_line(path: str) -> bytes:
    reader = LineReader(path, 0, _HEAD_BYTES)
    for _, line, _ in reader.lines():
        if line.strip():
            _refuse_what_is_no_text(path, line)
            return line
    refuse_damage(reader)
    raise SourceError(
        f"{path}: is empty; give a file with a line of column names and rows below it, or leave it "
        "out"
    )


_BEGINNINGS = {
    b"PK\x03\x04": "a zip archive, as Excel's workbooks are: save it as CSV",
    b"PAR1": "Parquet: name it .parquet",
    b"\x93NUMPY": "an array of NumPy: name it .npy",
    b"SQLite format 3\0": "an SQLite database: write its tables as CSV",
    b"\x1f\x8b": "compressed by gzip: name it .gz, as plays.csv.gz",
    b"BZh": "compressed by bzip2: name it .bz2, as plays.csv.bz2",
    b"\x28\xb5\x2f\xfd": "compressed by zstd: name it .zst, as plays.csv.zst",
    b"%PDF": "a PDF",
}
_CONTROLS = frozenset(range(32)) - frozenset(b"\t\r\x0b\x0c\x1c\x1d\x1e\x1f")


def _refuse_what_is_no_text(path: str, line: bytes) -> None:
    """Raise a SourceError if a first line is of another kind of file, or of many lines."""
    for beginning, what in _BEGINNINGS.items():
        if line.startswith(beginning) and (beginning != b"BZh" or not _CONTROLS.isdisjoint(line)):
            raise SourceError(f"{path}: is no text but, by its first bytes, {what}")
    if not _CONTROLS.isdisjoint(line):
        raise SourceError(
            f"{path}: is no text: its first line has control characters; give Parquet, CSV, TSV or "
            "JSON lines"
        )
    if b"\r" in line.strip() and b'"' not in line:
        raise SourceError(
            f"{path}: its lines end with carriage returns alone; write them with newlines, for "
            "instance by `tr '\\r' '\\n'`"
        )


def refuse_damage(reader: LineReader) -> None:
    """Raise a SourceError if a compressed file is damaged before its first line."""
    if reader.damage is not None:
        raise SourceError(
            f"{reader.path}: cannot be decompressed ({reader.damage}); get it again, or name it as "
            "what it is"
        )


def _likely_delimiter(line: str, header: Sequence[str] | None) -> str:
    """The one that is there between as many columns as are named, or else most often."""
    if header is not None:
        for delimiter in _DELIMITERS:
            if line.count(delimiter) == len(header) - 1:
                return delimiter
    return max(_DELIMITERS, key=line.count)


def byte_rows(
    path: str,
    spec: TableSpec,
    columns: Mapping[str, str],
    start: int,
    stop: int,
    rejects: Rejects,
) -> Iterator[Rows]:
    """The rows whose lines begin in a range of bytes, block by block.

    Parameters
    ----------
    columns
        The file's column of each name in the tables that come back.
    rejects
        Takes the damage of a compressed file.
    """
    names, delimiter = names_of(path, spec)
    places = {label: names.index(name) for label, name in columns.items()}
    wanted = sorted(set(places.values()))
    whole = is_packed(path) or (start == 0 and stop >= files.size(path))
    dialect = Dialect(delimiter.encode(), len(names), spec.quoted, across=whole)
    reader = LineReader(path, start, stop)
    before, first, read = b"", 0, 0
    header = start == 0 and spec.header is None
    blocks = reader.blocks()
    block = next(blocks, None)
    while block is not None:
        following = next(blocks, None)
        data = before + block.data
        if not before:
            first = block.first
        if header:
            header = False
            skipped = _length_of_header(data)
            first += data[:skipped].count(b"\n")
            data = data[skipped:]
        parsed = parse(data, dialect, wanted, last=following is None)
        table = pa.table({label: parsed.table[str(place)] for label, place in places.items()})
        lines = first + parsed.lines
        behind = first + data.count(b"\n", 0, parsed.rest)
        rows = Rows(path, table, partial(_number, reader, lines), lines, behind)
        for line, reason, detail in parsed.odd:
            rows.rejects.append((reader.number(first + line), reason, detail, "dropped"))
        rows.dropped = len(parsed.odd)
        read += len(table) + rows.dropped
        yield rows
        before = data[parsed.rest :]
        first = behind
        block = following
    reader.note_damage(rejects, read)


def _number(reader: LineReader, lines: Positions, row: int) -> int:
    return reader.number(int(lines[row]))


def _length_of_header(data: bytes) -> int:
    """Bytes of the first line that is not blank, and of those before it."""
    at = 0
    while at < len(data):
        stop = data.index(b"\n", at) + 1
        if data[at:stop].strip():
            return stop
        at = stop
    return at


def runs_over_lines(path: str, spec: TableSpec) -> bool:
    """Whether a quoted field runs over several lines: anywhere in a file of songs or lyrics, of
    others in the first block."""
    if not spec.quoted:
        return False
    names, delimiter = names_of(path, spec)
    dialect = Dialect(delimiter.encode(), len(names))
    before = b""
    for block in LineReader(path).blocks():
        data = before + block.data
        before = b""
        if b'"' in data:
            parsed = parse(data, dialect, [0], last=False)
            if parsed.joined:
                return True
            before = data[parsed.rest :]
        if spec.kind not in ("songs", "lyrics"):
            break
    return bool(before and parse(before, dialect, [0]).joined)


def head(path: str, spec: TableSpec, rows: int) -> pa.Table:
    """The first rows, all columns as text; those with a wrong number of fields are left out."""
    names, delimiter = names_of(path, spec)
    reader = LineReader(path, 0, _HEAD_BYTES)
    block = next(reader.blocks(), None)
    data = block.data if block is not None else b""
    if spec.header is None:
        data = data[_length_of_header(data) :]
    dialect = Dialect(delimiter.encode(), len(names), spec.quoted)
    table = parse(data, dialect, list(range(len(names)))).table.slice(0, rows)
    texts = [
        pa.array([decode(value)[0] for value in column.to_pylist()], pa.string())
        for column in table.columns
    ]
    return pa.Table.from_arrays(texts, names=names)
