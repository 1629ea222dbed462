"""Who played what: a row a play, or a row a user and a song with a number."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fusionrec.formats import files
from fusionrec.formats.batch import Batch, Rejects
from fusionrec.formats.tables import values
from fusionrec.formats.tables.places import form_of
from fusionrec.formats.tables.reading import HEAD, columns_of, read_head, read_range, rows_of
from fusionrec.formats.tables.rows import Rows
from fusionrec.formats.tables.spec import TableSpec
from fusionrec.formats.tables.times import numbers, of_relative, per_second, times
from fusionrec.formats.trouble import patient
from fusionrec.schemas import TRIPLETS

TIMED = TRIPLETS.append(pa.field("time", pa.int64()))
"""Of files that say when a song was played: seconds since 1970 (UTC), null where they do not."""

_MOST = 2**31 - 1
_LOOKED_AT = 1_000_000
"""Rows of a file in which a first time is looked for."""


@patient
def read_plays(path: str, spec: TableSpec, start: int = 0, stop: int | None = None) -> Batch:
    """Read the plays of a range that :func:`ranges` gave.

    How often a song was played is the column `plays`; where there is none, `rating`, rounded up;
    where there is neither, 1 a row. The unit of times that are numbers (seconds, milli-, micro- or
    nanoseconds) is what the first ones of the file tell, or else `spec.units`; if that says nothing
    either, they have a beginning of their own. Numbers like 20200131 are dates.

    Returns
    -------
    Batch
        `table` in schema :data:`fusionrec.schemas.TRIPLETS`, or :data:`TIMED` where the file has a
        column `timestamp`. Rows without an id, or whose number is no whole one from 1 on (a rating
        above 0), are rejects, action `dropped`; an unusable time is null, action `nulled`, and so
        is a number that is none from 1970 to 2100.

    Raises
    ------
    SourceError
        The file is unreadable, lacks a column, or has one of an unusable type.
    """
    columns = columns_of(path, spec)
    if "plays" in columns:
        columns.pop("rating", None)
    head = read_head(path, spec)
    cleaner = _Cleaner(
        {name: values.head_is_of_floats(head[columns[name]]) for name in ("user_id", "song_id")},
        _units(path, spec, columns["timestamp"]) if "timestamp" in columns else None,
    )
    schema = TRIPLETS if cleaner.units is None else TIMED
    return read_range(path, spec, columns, start, stop, cleaner.clean, schema, placed=False)


def _units(path: str, spec: TableSpec, column: str) -> int:
    found = first_times(path, spec, column)
    units = per_second(found)
    units = spec.units if units is None else units
    return of_relative(found) if units is None else units


@patient
def first_times(path: str, spec: TableSpec, column: str) -> npt.NDArray[np.float64]:
    """The first numbers in a column of times; none where other times stand there, or where nothing
    is written in the first :data:`_LOOKED_AT` rows."""
    found, written = numbers(read_head(path, spec)[column])
    if written:
        return found
    looked_at = 0
    stop = files.size(path) if form_of(path) in ("text", "json") else 2**62
    for rows in rows_of(path, spec, {"timestamp": column}, 0, stop, Rejects()):
        found, written = numbers(rows.table["timestamp"])
        looked_at += len(rows.table)
        if written or looked_at >= _LOOKED_AT:
            break
    return found[:HEAD]


class _Cleaner:
    def __init__(self, of_floats: dict[str, bool], units: int | None) -> None:
        self.of_floats, self.units = of_floats, units

    def clean(self, rows: Rows) -> tuple[pa.Table, int]:
        table = rows.table
        alive = rows.alive
        damaged = 0
        arrays: dict[str, pa.Array] = {}
        for name in ("user_id", "song_id"):
            arrays[name], bad = values.of_column(
                name, values.ids, table[name], self.of_floats[name]
            )
            damaged += bad
            rows.drop(np.asarray(arrays[name].is_null()), f"empty {name}", table[name])
        arrays["plays"] = self._plays(rows, alive)
        if self.units is not None:
            found, empty, wrong = values.of_column(
                "timestamp", times, table["timestamp"], self.units
            )
            rows.note(alive & empty, "timestamp is empty", table["timestamp"], "nulled")
            rows.note(alive & wrong, "timestamp is no time", table["timestamp"], "nulled")
            arrays["time"] = found
        schema = TRIPLETS if self.units is None else TIMED
        whole = pa.Table.from_arrays([arrays[field.name] for field in schema], schema=schema)
        return (whole if alive.all() else whole.filter(pa.array(alive))), damaged

    def _plays(self, rows: Rows, alive: values.Bools) -> pa.Array:
        name = next((each for each in ("plays", "rating") if each in rows.table.column_names), None)
        if name is None:
            return pa.array(np.ones(len(alive), np.int32))
        column = rows.table[name]
        found, empty, wrong = values.of_column(name, values.numbers, column)
        rows.drop(empty, f"{name} is empty", column)
        rows.drop(wrong, f"{name} is not a number", column)
        if name == "rating":
            found = np.ceil(found)
        with np.errstate(invalid="ignore"):
            rows.drop(found <= 0, f"{name} is zero or negative", column)
            rows.drop(found > _MOST, f"{name} is too large", column)
            rows.drop(found != np.floor(found), f"{name} is not a whole number", column)
        return pa.array(np.where(alive, found, 0).astype(np.int32))
