"""Songs' vectors, a row each: any numbers that a song can be known by."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fusionrec.errors import SourceError
from fusionrec.formats.batch import Batch
from fusionrec.formats.tables import arrays, lists, values
from fusionrec.formats.tables.names import REST, counts_rows
from fusionrec.formats.tables.places import form_of
from fusionrec.formats.tables.reading import columns_of, names_of, read_head, read_range, unfit
from fusionrec.formats.tables.rows import Rows, show
from fusionrec.formats.tables.spec import TableSpec
from fusionrec.formats.trouble import patient

_BETWEEN = r"[\s,;|]+"


def schema_of(dimension: int) -> pa.Schema:
    """What :func:`read_features` returns."""
    return pa.schema([("song_id", pa.string()), ("vector", pa.list_(pa.float32(), dimension))])


@patient
def feature_dimension(path: str, spec: TableSpec) -> int:
    """How many numbers the vectors have: as the file says, or most of its first ones.

    Raises
    ------
    SourceError
        The file is unreadable, has no vector among its first rows, or a column of another type.
    """
    if form_of(path) in ("npy", "npz"):
        return arrays.shape(path, spec)[1]
    columns = columns_of(path, spec)
    if columns["vector"] == REST:
        return len(spec.rest or rest_of(path, spec, columns["song_id"]))
    column = read_head(path, spec)[columns["vector"]]
    try:
        found = values.of_column("vector", _as_lists, column)
        if pa.types.is_fixed_size_list(column.type):
            return int(column.type.list_size)
        values.of_column("vector", values.numbers, found.flatten())
    except values.UnfitTypeError as error:
        raise unfit(path, spec, columns, error) from None
    lengths = Counter(n for n in pc.list_value_length(found).to_pylist() if n)
    if not lengths:
        raise SourceError(f"{path}: {columns['vector']} has no vector in its first rows")
    return int(lengths.most_common(1)[0][0])


def rest_of(path: str, spec: TableSpec, song_id: str) -> tuple[str, ...]:
    """The columns that are a vector where it is a row: all but the song's id, and but those that
    count rows, as pandas writes its index (`__index_level_0__`, `Unnamed: 0`, or without a name).

    Raises
    ------
    SourceError
        They are not those of `spec.rest`, whose order counts.
    """
    found = tuple(
        name for name in names_of(path, spec) if name != song_id and not counts_rows(name)
    )
    if spec.rest is None:
        return found
    if sorted(found) != sorted(spec.rest):
        differ = sorted(set(found) ^ set(spec.rest)) or sorted(found)
        raise SourceError(
            f"{path}: has other columns than the first file of its table ({differ[0]} is in one of "
            "them alone, or more often); give all files the same columns"
        )
    return spec.rest


@patient
def read_features(
    path: str,
    spec: TableSpec,
    start: int = 0,
    stop: int | None = None,
    dimension: int | None = None,
) -> Batch:
    """Read the vectors of a range that :func:`ranges` gave.

    A vector is a list, text with spaces, commas, semicolons or bars between its numbers (brackets
    around them or not), or a row of all columns but the song's id, those of pandas' index aside,
    in the order of `spec.rest`.

    Parameters
    ----------
    dimension
        How many numbers a vector has; None: as :func:`feature_dimension` finds.

    Returns
    -------
    Batch
        `table` with columns song_id and vector, a fixed-size list of float32. Rows without an id,
        or whose vector is missing, is of another dimension, or holds NaN, infinite values (in
        float32) or none, are rejects, action `dropped`.

    Raises
    ------
    SourceError
        The file is unreadable, lacks a column, or has one of an unusable type.
    """
    if dimension is None:
        dimension = feature_dimension(path, spec)
    columns = columns_of(path, spec)
    of_floats = False
    if form_of(path) not in ("npy", "npz"):
        of_floats = values.head_is_of_floats(read_head(path, spec)[columns["song_id"]])
    if columns["vector"] == REST:
        rest = rest_of(path, spec, columns["song_id"])
        columns = {"song_id": columns["song_id"], **{f"vector {i}": n for i, n in enumerate(rest)}}
    cleaner = _Cleaner(dimension, of_floats)
    return read_range(path, spec, columns, start, stop, cleaner.clean, schema_of(dimension))


class _Cleaner:
    def __init__(self, dimension: int, of_floats: bool) -> None:
        self.dimension, self.of_floats = dimension, of_floats

    def clean(self, rows: Rows) -> tuple[pa.Table, int]:
        table = rows.table
        alive = rows.alive
        ids, damaged = values.of_column("song_id", values.ids, table["song_id"], self.of_floats)
        rows.drop(np.asarray(ids.is_null()), "empty song_id", table["song_id"])
        if "vector" in table.column_names:
            matrix = self._of_lists(rows, alive)
        else:
            matrix = self._of_columns(rows, alive)
        with np.errstate(over="ignore", invalid="ignore"):
            single = matrix.astype(np.float32, copy=False)
        infinite = ~np.isfinite(single).all(axis=1)
        if infinite.any():
            where = np.zeros(len(alive), bool)
            where[np.flatnonzero(alive)[infinite]] = True
            rows.drop(where, "vector has NaN or infinite values", ids)
            single = single[~infinite]
        kept = pa.FixedSizeListArray.from_arrays(pa.array(single.ravel()), self.dimension)
        return (
            pa.Table.from_arrays(
                [ids.filter(pa.array(alive)), kept], schema=schema_of(self.dimension)
            ),
            damaged,
        )

    def _of_lists(self, rows: Rows, alive: values.Bools) -> np.ndarray:
        """The vectors of the rows that are alive, shape (rows, dimension)."""
        column = rows.table["vector"]
        found = values.of_column("vector", _as_lists, column)
        lengths = pc.fill_null(pc.list_value_length(found), 0).to_numpy(zero_copy_only=False)
        rows.drop(lengths == 0, "vector is empty", column)
        wrong = lengths != self.dimension
        if (wrong & alive).any():
            told = [f"{n} numbers instead of {self.dimension}" for n in lengths.tolist()]
            rows.drop(wrong, "vector has another dimension", told)
        flat = (found if alive.all() else found.filter(pa.array(alive))).flatten()
        return values.of_column("vector", values.numbers, flat)[0].reshape(-1, self.dimension)

    def _of_columns(self, rows: Rows, alive: values.Bools) -> np.ndarray:
        columns = rows.table.drop_columns(["song_id"])
        shape = (columns.num_columns, len(alive))
        if len({field.type for field in columns.schema}) == 1:
            # Thousands of columns of a few rows each are no matter at once.
            flat = pa.concat_arrays([values.plain(each) for each in columns.columns])
            name = columns.column_names[0]
            of_all = [of.reshape(shape) for of in values.of_column(name, values.numbers, flat)]
        else:
            of_each = [
                values.of_column(name, values.numbers, columns[name])
                for name in columns.column_names
            ]
            of_all = [np.array(of).reshape(shape) for of in zip(*of_each, strict=True)]
        found, empty, wrong = of_all
        for where, reason in (
            (empty, "vector has NaN or infinite values"),
            (wrong, "vector has what is no number"),
        ):
            if where.any():
                at = where.argmax(axis=0).tolist()
                told = [show(columns[column][row]) for row, column in enumerate(at)]
                rows.drop(np.asarray(where.any(axis=0)), reason, told)
        matrix = found.T
        if matrix.shape[1] != self.dimension:
            told = [f"{matrix.shape[1]} numbers instead of {self.dimension}"] * len(alive)
            rows.drop(alive.copy(), "vector has another dimension", told)
            return np.zeros((0, self.dimension))
        return matrix[alive]


def _as_lists(column: pa.ChunkedArray) -> pa.Array:
    array = values.plain(column)
    if pa.types.is_null(array.type):
        return lists.empty(len(array), pa.float64())
    if values.is_list(array.type):
        return lists.plain_lists(array)
    if not values.is_text(array.type):
        raise values.UnfitTypeError(str(array.type))
    text, _ = values.texts(array)
    bare = pc.utf8_trim(pc.utf8_trim_whitespace(pc.utf8_trim(text, "[](){}")), ",;|")
    spaced = pc.utf8_trim_whitespace(pc.replace_substring_regex(bare, _BETWEEN, " "))
    return lists.plain_lists(pc.split_pattern(spaced, " "))
