"""A table's files, whichever kind they are: their heads, their ranges, their rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fusionrec.errors import SourceError
from fusionrec.formats import files, text
from fusionrec.formats.batch import Batch, Rejects
from fusionrec.formats.tables import (
    arrays,
    json_lines,
    parquet_files,
    playlists,
    text_files,
    values,
)
from fusionrec.formats.tables.names import counts_rows, find_columns
from fusionrec.formats.tables.places import form_of
from fusionrec.formats.tables.rows import Rows
from fusionrec.formats.tables.spec import TableSpec
from fusionrec.formats.tables.values import UnfitTypeError
from fusionrec.formats.trouble import patient

MOST_BYTES = 2 << 30
"""Bytes of a range's ids, texts and numbers, as Arrow holds them, that one task may read. No column
can have more: its offsets have 32 bits."""

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
    _refuse_arrays(path, spec)
    if spec.layout == playlists.LAYOUT:
        for found in playlists.rows_of(path, {name: name for name in playlists.NAMES}):
            return found.table.slice(0, rows)
    form = form_of(path)
    if form == "parquet":
        return parquet_files.head(path, rows)
    if form == "json":
        return json_lines.head(path, rows)
    if form != "text":
        for found in arrays.array_rows(path, spec, 0, rows):
            return found.table
        return pa.table({"song_id": [], "vector": []})
    return text_files.head(path, spec, rows)


def names_of(path: str, spec: TableSpec) -> list[str]:
    """The file's columns."""
    if spec.layout == playlists.LAYOUT:
        return list(playlists.NAMES)
    form = form_of(path)
    if form == "parquet":
        return parquet_files.names_of(path)
    return json_lines.names_of(path) if form == "json" else text_files.names_of(path, spec)[0]


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
    _refuse_arrays(path, spec)
    if form_of(path) in ("npy", "npz"):
        return arrays.columns_of(path, spec)
    names = names_of(path, spec)
    beside = False
    if spec.kind == "features" and form_of(path) != "json":
        beside = _beside_are_numbers(read_head(path, spec))
    return find_columns(path, spec, names, beside)


def _refuse_arrays(path: str, spec: TableSpec) -> None:
    if form_of(path) in ("npy", "npz") and spec.kind != "features":
        raise SourceError(
            f"{path}: NumPy files hold vectors alone; give source.tables.{spec.kind} as Parquet, "
            "CSV, TSV or JSON lines"
        )


def _beside_are_numbers(head: pa.Table) -> bool:
    """Whether all columns but one hold numbers, nearly always; those that only count rows aside."""
    of_other = 0
    for name, column in zip(head.column_names, head.columns, strict=True):
        if counts_rows(name):
            continue
        try:
            _, empty, wrong = values.numbers(column)
        except UnfitTypeError:
            empty, wrong = np.zeros(1, bool), np.ones(1, bool)
        of_other += bool(2 * wrong.sum() > (~empty).sum())
    return of_other <= 1


@patient
def ranges(path: str, spec: TableSpec, *, rows: int, bytes_: int) -> list[tuple[int, int]]:
    """Cut a file into ranges that the readers can read independently.

    Parameters
    ----------
    rows, bytes_
        About how many rows a range of Parquet or of an `.npy` file has, or bytes a range of text.

    Returns
    -------
    list of (int, int)
        `(start, stop)`, ascending, without a gap or an overlap; in rows or bytes. A file is one
        range if it is compressed, or has quoted fields that run over several lines: all of a file
        of songs or lyrics is looked at for these, of others the beginning; one that is too large
        for that (:data:`MOST_BYTES`) is refused when it is read. None of an empty file.

    Raises
    ------
    SourceError
        The file is missing or unreadable.
    """
    if rows < 1 or bytes_ < 1:
        raise ValueError(f"rows and bytes_ must be at least 1, not {rows} and {bytes_}")
    if form_of(path) == "parquet":
        return parquet_files.row_ranges(path, rows)
    if form_of(path) in ("npy", "npz"):
        count = arrays.shape(path, spec)[0]
        step = rows if form_of(path) == "npy" else max(count, 1)
        return [(start, min(start + step, count)) for start in range(0, count, step)]
    if spec.layout == playlists.LAYOUT:
        return [(0, files.size(path))]
    whole = text.byte_ranges(path, bytes_)
    if len(whole) > 1 and form_of(path) == "text" and text_files.runs_over_lines(path, spec):
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
    """The rows of a range, some at a time; damage of the file as a whole goes to `rejects`.

    Where a value is empty that of `spec.otherwise` is in its place.
    """
    instead = {name: f"{name} otherwise" for name in spec.otherwise if name in columns}
    wanted = {**columns, **{label: spec.otherwise[name] for name, label in instead.items()}}
    for rows in _rows_of(path, spec, wanted, start, stop, rejects):
        for name, label in instead.items():
            first, second = (values.plain(rows.table[each]) for each in (name, label))
            empty = pc.is_null(values.texts(first)[0])
            place = rows.table.column_names.index(name)
            chosen = pc.if_else(empty, second, first)
            rows.table = rows.table.set_column(place, name, chosen).drop_columns([label])
        yield rows


def _rows_of(
    path: str,
    spec: TableSpec,
    columns: Mapping[str, str],
    start: int,
    stop: int,
    rejects: Rejects,
) -> Iterator[Rows]:
    if spec.layout == playlists.LAYOUT:
        return playlists.rows_of(path, columns)
    if form_of(path) == "parquet":
        return parquet_files.parquet_rows(path, columns, start, stop)
    if form_of(path) == "json":
        return json_lines.json_rows(path, columns, start, stop, rejects)
    if form_of(path) in ("npy", "npz"):
        return arrays.array_rows(path, spec, start, stop)
    return text_files.byte_rows(path, spec, columns, start, stop, rejects)


def read_range(
    path: str,
    spec: TableSpec,
    columns: Mapping[str, str],
    start: int,
    stop: int | None,
    clean: Callable[[Rows], tuple[pa.Table, int]],
    schema: pa.Schema,
    shorten: Callable[[pa.Table], pa.Array] | None = None,
    placed: bool = True,
) -> Batch:
    """Read a range and clean its rows.

    Parameters
    ----------
    columns
        The file's column of each that is wanted.
    clean
        Of some rows: those that can be used, in `schema`, and how many texts were damaged; what is
        wrong it adds to the rows' rejects.
    shorten
        Of the rows so far: positions of those that count, where there would be too many.
    placed
        The batch has `places`: eight bytes a row.

    Raises
    ------
    SourceError
        The file is unreadable, a column of a type that cannot be used, or the range holds more than
        :data:`MOST_BYTES`, vectors aside.
    """
    if stop is None:
        stop = files.size(path) if form_of(path) in ("text", "json") else 2**62
    rejects = Rejects()
    tables: list[pa.Table] = []
    places = [np.zeros(0, np.int64)]
    read = damaged = size = lines = 0
    for rows in rows_of(path, spec, columns, start, stop, rejects):
        read += len(rows.table) + rows.dropped
        try:
            table, of_text = clean(rows)
        except UnfitTypeError as error:
            raise unfit(path, spec, columns, error) from None
        tables.append(table)
        if placed:
            places.append(rows.places[rows.alive])
        lines = rows.stop
        damaged += of_text
        rows.file(rejects)
        size += _size(table)
        if size > MOST_BYTES and shorten is not None:
            table = pa.concat_tables(tables)
            kept = shorten(table)
            tables, places = [table.take(kept)], [np.concatenate(places)[kept.to_numpy()]]
            size = _size(tables[0])
            shorten = shorten if size < MOST_BYTES / 2 else None
        if size > MOST_BYTES:
            raise _too_large(path, start, stop)
    return Batch(
        pa.concat_tables(tables) if tables else schema.empty_table(),
        rejects.to_table(),
        read=read,
        damaged_text=damaged,
        places=np.concatenate(places) if placed else None,
        lines=lines,
    )


def _size(table: pa.Table) -> int:
    kept = (each for each in table.columns if not pa.types.is_fixed_size_list(each.type))
    return sum(each.nbytes for each in kept)


def _too_large(path: str, start: int, stop: int) -> SourceError:
    most = f"more than {MOST_BYTES:,} bytes of ids and text, which is too much for one task"
    if text.is_packed(path):
        return SourceError(
            f"{path}: is compressed, so that it can only be read as a whole, and holds {most}; "
            "unpack it, or write it as Parquet"
        )
    if form_of(path) in ("text", "json") and start == 0 and stop >= files.size(path):
        return SourceError(
            f"{path}: is read as a whole, as files are whose quoted fields run over several lines, "
            f"and holds {most}; cut it into several files, or write it as Parquet"
        )
    key = "rows_per_shard" if form_of(path) == "parquet" else "bytes_per_shard"
    return SourceError(f"{path}: from {start:,} to {stop:,} it holds {most}; lower ingest.{key}")


def unfit(
    path: str, spec: TableSpec, columns: Mapping[str, str], error: UnfitTypeError
) -> SourceError:
    """What is said of a column whose type holds nothing of the kind."""
    label = error.args[1] if len(error.args) > 1 else ""
    name = columns.get(label, label)
    of = spec.kind + (".NAME" if spec.kind == "features" else "")
    return SourceError(
        f"{path}: column {name} is of type {error.args[0]}, which cannot be "
        f"{label.partition(' ')[0]}; convert it, or name another in source.tables.{of}.columns"
    )
