"""What is decided once for all files of a table, by what is in the first ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fusionrec.formats.tables.names import REST
from fusionrec.formats.tables.places import form_of, table_files
from fusionrec.formats.tables.plays import first_times
from fusionrec.formats.tables.reading import columns_of
from fusionrec.formats.tables.spec import TableSpec
from fusionrec.formats.tables.times import of_relative, per_second
from fusionrec.formats.tables.vectors import rest_of

_FILES = 20
"""As many files of plays are looked at."""


def settled(spec: TableSpec) -> TableSpec:
    """The spec with what its files must have in common, if it does not say it itself.

    `units`, by the times in the first files of plays; `rest`, the columns of the first file of
    vectors, where a vector is a row. Without it each file is read by what it tells itself.

    Raises
    ------
    SourceError
        There is no file, one is unreadable, or lacks a column.
    """
    if spec.kind == "plays" and spec.units is None:
        return replace(spec, units=_units(spec))
    if spec.kind == "features" and spec.rest is None:
        path = table_files(spec)[0]
        if form_of(path) in ("npy", "npz"):
            return spec
        columns = columns_of(path, spec)
        if columns["vector"] == REST:
            return replace(spec, rest=rest_of(path, spec, columns["song_id"]))
    return spec


def _units(spec: TableSpec) -> int | None:
    found = []
    for path in table_files(spec)[:_FILES]:
        columns = columns_of(path, spec)
        if "timestamp" in columns:
            found.append(first_times(path, spec, columns["timestamp"]))
    numbers = np.concatenate(found) if found else np.zeros(0)
    if not len(numbers):
        return None
    units = per_second(numbers)
    return of_relative(numbers) if units is None else units
