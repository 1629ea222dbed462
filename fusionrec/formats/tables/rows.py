"""Rows of a file as they stand, and what is wrong with some of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fusionrec.formats.batch import Rejects
from fusionrec.formats.text import decode

_EXCERPT = 120

Bools = npt.NDArray[np.bool_]


@dataclass
class Rows:
    """Some consecutive rows of a file, before any of their values is looked at.

    Attributes
    ----------
    path
        The file.
    table
        By the names that the project gives the columns, of whatever types the file has; of text
        files binary.
    number_of
        The number in the file of a row, from its position here: rows of Parquet and of arrays are
        counted from 1, of text files it is the line, of which the header is one.
    places
        Where in the range each row begins, int64, shape (rows,): lines of text, rows of others.
    stop
        The place behind the last line or row that these were made of.
    rejects
        What became of rows that are not in the table, or of their fields: number in the file,
        reason, detail, action.
    dropped
        How many rows are not in the table.
    alive
        Which rows have not been dropped, bool, shape (rows,).
    """

    path: str
    table: pa.Table
    number_of: Callable[[int], int]
    places: npt.NDArray[np.int64]
    stop: int
    rejects: list[tuple[int, str, str, str]] = field(default_factory=list)
    dropped: int = 0
    alive: Bools = field(init=False)

    def __post_init__(self) -> None:
        self.alive = np.ones(len(self.table), bool)

    @property
    def source(self) -> str:
        """The file's name in rejects."""
        return os.path.basename(self.path)

    def note(
        self, where: Bools, reason: str, values: pa.Array | Sequence[object], action: str
    ) -> None:
        """A reject for each row that `where` is true of, with its value as the detail."""
        for row in np.flatnonzero(where).tolist():
            shown = show(values[row])
            self.rejects.append((self.number_of(row), reason, shown, action))

    def drop(self, where: Bools, reason: str, values: pa.Array | Sequence[object]) -> None:
        """Reject the rows that `where` is true of, once each: `alive` is false of them then."""
        where = where & self.alive
        if where.any():
            self.note(where, reason, values, "dropped")
            self.alive &= ~where

    def file(self, rejects: Rejects) -> None:
        """Append the rejects, in the order of the rows."""
        for number, *of in sorted(self.rejects, key=lambda reject: reject[0]):
            rejects.add(self.source, str(number), *of)


def show(value: object) -> str:
    """The beginning of a value, as a reject's detail."""
    if isinstance(value, pa.Scalar):
        try:
            value = value.as_py()
        except UnicodeDecodeError:  # of a list of texts
            value = "text that is not UTF-8"
    if value is None:
        return ""
    text = decode(value)[0] if isinstance(value, bytes) else str(value)
    return text[:_EXCERPT]


def with_bytes(table: pa.Table) -> pa.Table:
    """The table with its texts as bytes: files may hold what is no UTF-8."""
    for i, of in enumerate(table.schema):
        if pa.types.is_string(of.type):
            table = table.set_column(i, of.name, table.column(i).cast(pa.binary()))
    return table
