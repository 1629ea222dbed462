"""Lines of delimited text to columns of bytes, without a loop over lines that are sound.

A field that begins with a double quote is quoted, as RFC 4180 has it; a quote elsewhere is a
character like any other. Lines whose quotes are out of the ordinary are taken one by one, by the
csv module, so that a quote that was never closed costs its own line and not those behind it.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pa_csv

from fusionrec.formats.text import excerpt

_NEWLINE, _RETURN, _QUOTE = 10, 13, 34
_LONGEST_RECORD = 1 << 20
"""Bytes in which a quoted field must end."""
_MOST_TRIES = 500
"""As many lines with a quote are tried for its end."""
_PLAIN_LINES = 3
"""As many lines that are rows by themselves are not taken for the text of one field."""

WRONG_NUMBER = "wrong number of fields"
NOT_CLOSED = "quoted field is not closed"

Bools = npt.NDArray[np.bool_]
Positions = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Dialect:
    """How lines become fields.

    Attributes
    ----------
    delimiter
        One byte.
    fields
        How many a line has.
    quoted
        Fields may stand in double quotes.
    across
        Quoted fields may run over several lines.
    """

    delimiter: bytes
    fields: int
    quoted: bool = True
    across: bool = True


@dataclass
class Parsed:
    """Rows of a block of lines.

    Attributes
    ----------
    table
        The wanted columns, binary, called by their positions in the line.
    lines
        Int64, shape (rows,): the line in the block that each row begins on, from 0.
    odd
        Lines that could not be used: line, reason, excerpt.
    rest
        Byte of the block from which on it has to be read again with what follows it, as a quoted
        field is not closed yet; the block's length where none is.
    joined
        How many rows are of several lines.
    """

    table: pa.Table
    lines: Positions
    odd: list[tuple[int, str, str]] = field(default_factory=list)
    rest: int = 0
    joined: int = 0


def parse(data: bytes, dialect: Dialect, wanted: list[int], last: bool = True) -> Parsed:
    """Parse whole lines, each ended by a newline; blank ones are passed over.

    Parameters
    ----------
    wanted
        Positions of the columns to return.
    last
        Nothing follows `data`.
    """
    if not data:
        return Parsed(_columns(b"", dialect, wanted, False), np.zeros(0, np.int64))
    return _Block(data, dialect).parsed(wanted, last)


class _Block:
    def __init__(self, data: bytes, dialect: Dialect) -> None:
        self.data, self.dialect = data, dialect
        self.bytes = np.frombuffer(data, np.uint8)
        self.ends = np.flatnonzero(self.bytes == _NEWLINE)
        self.starts = np.concatenate(([0], self.ends[:-1] + 1))
        delimiters = np.flatnonzero(self.bytes == dialect.delimiter[0])
        self.strange = np.zeros(len(self.ends), bool)
        self.quoting = np.zeros(0, np.int64)
        if dialect.quoted and b'"' in data:
            self._look_at_quotes()
            if len(self.quoting):
                inside = np.searchsorted(self.quoting, delimiters) % 2 == 1
                delimiters = delimiters[~inside]
        if b"\r" in data:
            self.strange[np.searchsorted(self.ends, np.flatnonzero(self.bytes == _RETURN))] = True
        up_to = np.searchsorted(delimiters, self.ends)
        self.good = np.diff(up_to, prepend=0) == dialect.fields - 1
        if dialect.fields == 1:
            self.good &= self.ends > self.starts
        self.good &= ~self.strange

    def _look_at_quotes(self) -> None:
        """Find lines with quotes that open and close fields in turn, and others with opening ones.

        Lines without a quote where a field begins have no quoted fields.
        """
        quotes = np.flatnonzero(self.bytes == _QUOTE)
        delimiter = self.dialect.delimiter[0]
        before, after = self.bytes[quotes - 1], self.bytes[quotes + 1]  # [-1] is the last newline
        opens = (before == delimiter) | (before == _NEWLINE)
        closes = (after == delimiter) | (after == _NEWLINE)
        of = np.searchsorted(self.ends, quotes)
        quoted = np.zeros(len(self.ends), bool)
        quoted[of[opens]] = True
        within = quoted[of]
        quotes, opens, closes, of = quotes[within], opens[within], closes[within], of[within]
        if not len(quotes):
            return
        firsts = np.flatnonzero(np.diff(of, prepend=-1))
        counts = np.diff(firsts, append=len(of))
        rank = np.arange(len(of)) - np.repeat(firsts, counts)
        in_turn = (opens != closes) & (opens == (rank % 2 == 0))
        self.strange[of[~in_turn]] = True
        self.strange[of[firsts[counts % 2 == 1]]] = True
        self.quoting = quotes[~self.strange[of]]

    def parsed(self, wanted: list[int], last: bool) -> Parsed:
        odd: list[tuple[int, str, str]] = []
        rows: list[list[bytes]] = []
        before: list[int] = []
        rest, upto, joined = len(self.data), 0, 0
        for i in np.flatnonzero(~self.good).tolist():
            if i < upto:
                continue
            line = self._line(i, i)
            if not line.strip():
                continue
            if not self.strange[i]:
                odd.append((i, WRONG_NUMBER, excerpt(line)))
                continue
            found, stop = self._strange_line(i, last)
            if found is None:
                rest = int(self.starts[i])
                self.good[i:] = False
                break
            if isinstance(found, str):
                odd.append((i, found, excerpt(line)))
            else:
                rows.append(found)
                before.append(i)
            self.good[i + 1 : stop + 1] = False
            upto = stop + 1
            joined += stop > i
        data = self.data
        if not self.good.all():
            data = self.bytes[np.repeat(self.good, self.ends - self.starts + 1)].tobytes()
        table = _columns(data, self.dialect, wanted, True)
        table, lines = _interleave(table, np.flatnonzero(self.good), rows, before, wanted)
        return Parsed(table, lines, odd, rest, joined)

    def _line(self, first: int, last: int) -> bytes:
        return self.data[self.starts[first] : self.ends[last]]

    def _strange_line(self, i: int, last: bool) -> tuple[list[bytes] | str | None, int]:
        """Fields or reason, and the last line of the record; None: it is not closed yet."""
        line = self._line(i, i)
        fields = _fields(line, self.dialect, strict=False)
        if fields is not None:
            return (fields if len(fields) == self.dialect.fields else WRONG_NUMBER), i
        if self.dialect.across:
            stop = self._closing_line(i)
            if stop is not None:
                fields = _fields(self._line(i, stop), self.dialect, strict=True)
                if fields is not None and len(fields) == self.dialect.fields:
                    return fields, stop
            elif not last and len(self.data) - self.starts[i] < _LONGEST_RECORD:
                return None, i
        plain = line.replace(b"\r", b" ").split(self.dialect.delimiter)
        # Tabs are seldom written with quotes, so one more is likely to be part of a title.
        if self.dialect.delimiter == b"\t" and len(plain) == self.dialect.fields:
            return plain, i
        return NOT_CLOSED, i

    def _closing_line(self, i: int) -> int | None:
        """The line on which the field is closed that line `i` leaves open; None if none does."""
        stop = int(self.ends[i])
        for _ in range(_MOST_TRIES):
            at = self.data.find(b'"', stop + 1, int(self.starts[i]) + _LONGEST_RECORD)
            if at < 0:
                return None
            j = int(np.searchsorted(self.ends, at))
            if _fields(self._line(i, j), self.dialect, strict=False) is not None:
                plain = self.data[self.starts[i + 1] : self.ends[j]].split(b"\n")
                rows = [line.count(self.dialect.delimiter) for line in plain]
                many = len(rows) >= _PLAIN_LINES or self.dialect.delimiter == b"\t"
                as_rows = all(count == self.dialect.fields - 1 for count in rows)
                return None if many and as_rows else j
            stop = int(self.ends[j])
        return None


def _fields(record: bytes, dialect: Dialect, strict: bool) -> list[bytes] | None:
    """The fields of a record, None if a quoted one is not closed (strict: or goes on behind it)."""
    text = record.replace(b"\r", b" ").decode("latin-1")
    lines = [line + "\n" for line in text.split("\n")]
    reader = csv.reader(
        iter([*lines, "\n"]), delimiter=dialect.delimiter.decode("latin-1"), strict=strict
    )
    try:
        fields = next(reader)
    except (csv.Error, StopIteration):
        return None
    if reader.line_num != len(lines):
        return None
    return [value.encode("latin-1") for value in fields]


def _columns(data: bytes, dialect: Dialect, wanted: list[int], quoted: bool) -> pa.Table:
    names = [str(i) for i in range(dialect.fields)]
    include = [names[i] for i in wanted]
    if not data:
        return pa.table({name: pa.array([], pa.binary()) for name in include})
    return pa_csv.read_csv(
        pa.BufferReader(data),
        pa_csv.ReadOptions(column_names=names, use_threads=False, block_size=len(data) + 1),
        pa_csv.ParseOptions(
            delimiter=dialect.delimiter.decode("latin-1"),
            quote_char='"' if quoted and dialect.quoted and b'"' in data else False,
            ignore_empty_lines=False,
        ),
        pa_csv.ConvertOptions(
            column_types=dict.fromkeys(include, pa.binary()),
            include_columns=include,
            null_values=[],
            strings_can_be_null=False,
        ),
    )


def _interleave(
    table: pa.Table,
    good: Positions,
    rows: list[list[bytes]],
    positions: list[int],
    wanted: list[int],
) -> tuple[pa.Table, Positions]:
    """`table`, whose rows are the lines `good`, with `rows` put in at their line positions."""
    if not rows:
        return table, good
    extra = pa.table({str(i): pa.array([row[i] for row in rows], pa.binary()) for i in wanted})
    lines = np.concatenate((good, positions)).astype(np.int64)
    order = np.argsort(lines, kind="stable")
    return pa.concat_tables([table, extra]).take(order), lines[order]
