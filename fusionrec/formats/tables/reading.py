"""A table's files, whichever kind they are: their heads, their ranges, their rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import pyarrow as pa

from fusionrec.errors import SourceError
from fusionrec.formats import files, text
from fusionrec.formats.batch import Batch, Rejects
from fusionrec.formats.tables import parquet_files, text_files
from fusionrec.formats.tables.names import find_columns
from fusionrec.formats.tables.places import form_of
from fusionrec.formats.tables.rows import Rows
from fusionrec.formats.tables.spec import TableSpec
from fusionrec.formats.tables.values import UnfitTypeError
from fusionrec.formats.trouble import patient

HEAD = 100
"""Rows by which it is decided what a file's values mean, whatever range of it is read."""


@patient
def read_head(path: str, spec: TableSpec, rows: int = HEAD) -> pa.Table:
    """The first rows of a file as they stand, by the file's names of the columns.

    Those of a text file are all text, without the rows that have a wrong number of fields.

    Raises
    ------
    SourceError
        The file is missing, empty, or not what its name says.
    """
    if form_of(path) == "parquet":
        return parquet_files.head(path, rows)
    return text_files.head(path, spec, rows)


@patient
def columns_of(path: str, spec: TableSpec) -> dict[str, str]:
    """The file's column of each of :data:`fusionrec.formats.tables.spec.COLUMNS` that it has.

    By `spec.columns`, else by its own name, else by one that is commonly used for it; upper and
    lower case, `-`, `_`, `.` and spaces make no difference.

    Raises
    ------
    SourceError
        A required column is missing, or two may be the same one; the message names the key that
        says which it is.
    """
    if form_of(path) == "parquet":
        return find_columns(path, spec, parquet_files.names_of(path))
    return find_columns(path, spec, text_files.names_of(path, spec)[0])


@patient
def ranges(path: str, spec: TableSpec, *, rows: int, bytes_: int) -> list[tuple[int, int]]:
    """Cut a file into ranges that the readers can read independently.

    Parameters
    ----------
    rows, bytes_
        About how many rows a range of Parquet has, or bytes a range of text.

    Returns
    -------
    list of (int, int)
        `(start, stop)`, ascending, without a gap or an overlap; in rows or bytes. A file is one
        range if it is compressed, or has quoted fields that run over several lines: all of a file
        of songs or lyrics is looked at for these, of others the beginning. None of an empty file.

    Raises
    ------
    SourceError
        The file is missing or unreadable.
    """
    if rows < 1 or bytes_ < 1:
        raise ValueError(f"rows and bytes_ must be at least 1, not {rows} and {bytes_}")
    if form_of(path) == "parquet":
        return parquet_files.row_ranges(path, rows)
    whole = text.byte_ranges(path, max(bytes_, 1))
    if len(whole) > 1 and text_files.runs_over_lines(path, spec):
        return [(0, whole[-1][1])]
    return whole


def rows_of(
    path: str,
    spec: TableSpec,
    columns: Mapping[str, str],
    start: int,
    stop: int,
    rejects: Rejects,
) -> Iterator[Rows]:
    """The rows of a range, some at a time; damage of the file as a whole goes to `rejects`."""
    if form_of(path) == "parquet":
        return parquet_files.parquet_rows(path, columns, start, stop)
    return text_files.byte_rows(path, spec, columns, start, stop, rejects)


def read_range(
    path: str,
    spec: TableSpec,
    columns: Mapping[str, str],
    start: int,
    stop: int | None,
    clean: Callable[[Rows], tuple[pa.Table, int]],
    schema: pa.Schema,
) -> Batch:
    """Read a range and clean its rows.

    Parameters
    ----------
    columns
        The file's column of each that is wanted.
    clean
        Of some rows: those that can be used, in `schema`, and how many texts were damaged; what is
        wrong it adds to the rows' rejects.

    Raises
    ------
    SourceError
        The file is unreadable, or a column of a type that cannot be used.
    """
    if stop is None:
        stop = files.size(path) if form_of(path) != "parquet" else 2**62
    rejects = Rejects()
    tables, read, damaged = [], 0, 0
    for rows in rows_of(path, spec, columns, start, stop, rejects):
        read += len(rows.table) + rows.dropped
        try:
            table, of_text = clean(rows)
        except UnfitTypeError as error:
            raise _unfit(path, spec, columns, rows.table.schema, error) from None
        tables.append(table)
        damaged += of_text
        rows.file(rejects)
    table = pa.concat_tables(tables) if tables else schema.empty_table()
    return Batch(table, rejects.to_table(), read=read, damaged_text=damaged)


def _unfit(
    path: str,
    spec: TableSpec,
    columns: Mapping[str, str],
    schema: pa.Schema,
    error: UnfitTypeError,
) -> SourceError:
    label = error.args[1] if len(error.args) > 1 else ""
    name = columns.get(label, label)
    return SourceError(
        f"{path}: column {name} is of type {error.args[0]}, which cannot be {label}; convert it, "
        f"or name another in source.tables.{spec.kind}.columns"
    )
