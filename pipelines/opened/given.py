"""What is given from Python, as Arrow: tables and data frames, ids, vectors."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from numbers import Integral
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fusionrec.errors import DataError

log = logging.getLogger("fusionrec")

_NAMED = 5
"""Unknown ids that are named."""


def as_table(given: Any, what: str) -> pa.Table | None:
    """A table or data frame as a table; None of what is neither.

    Raises
    ------
    DataError
        A column of a frame has values of several types.
    """
    if isinstance(given, pa.Table):
        return given
    if not hasattr(given, "columns"):
        return None
    try:
        return pa.Table.from_pandas(given, preserve_index=False)
    except (pa.ArrowException, TypeError) as error:  # what Arrow raises of mixed types is either
        raise DataError(f"{what}: {_mixed(given) or str(error).splitlines()[0]}") from None


def _mixed(frame: Any) -> str:
    """Which row of a frame is of another type than those before it."""
    for name in frame.columns:
        try:
            pa.array(frame[name], from_pandas=True)
        except (pa.ArrowException, TypeError):
            kinds = [(row, type(value).__name__) for row, value in enumerate(frame[name], 1)]
            there = [kinds[i] for i in np.flatnonzero(frame[name].notna())]
            for row, kind in there:
                if kind != there[0][1]:
                    return (
                        f"row {row}: {name} is of type {kind}, and before of type {there[0][1]}: "
                        "make them of one type"
                    )
    return ""


def ids_of(table: pa.Table, name: str, what: str) -> pa.ChunkedArray:
    """A column of ids as text; whole numbers are their decimal text.

    Raises
    ------
    DataError
        It is missing, of another type, or a row has none.
    """
    if name not in table.column_names:
        have = ", ".join(table.column_names) or "none"
        raise DataError(f"{what}: have no column {name}, but {have}: rename the one that has it")
    column = table[name]
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_null(kind)
    ):
        raise DataError(f"{what}: column {name} is of type {kind}: give ids as text or integers")
    found = column.cast(kind).cast(pa.string())
    empty = pc.fill_null(pc.equal(found, ""), True)
    if pc.any(empty).as_py():
        row = pc.index(empty, True).as_py() + 1
        raise DataError(f"{what}: row {row} has no {name}: leave it out, or give it one")
    return found


def text_of(given: Any, of: str) -> str:
    """An id as text, by the same rule.

    Raises
    ------
    DataError
        It is no text, or none at all, and no whole number.
    """
    if isinstance(given, bool) or not isinstance(given, str | Integral) or given == "":
        raise DataError(f"{of} is {given!r}: give ids as text or integers")
    return str(given)


def listed_ids(given: Any, what: str) -> pa.Array:
    """Ids that are given as a list, array or column, as text.

    Raises
    ------
    DataError
        They are none, or one of them is no id.
    """
    if isinstance(given, pa.Array | pa.ChunkedArray):
        given = given.to_pylist()
    if not isinstance(given, Iterable):
        raise DataError(
            f"{what}: are of type {type(given).__name__}: give a name, song ids, or a table or "
            "data frame with song_id and vector"
        )
    ids = [text_of(each, f"{what}: id {number}") for number, each in enumerate(given, 1)]
    return pa.array(ids, pa.string())


def vectors_of(
    column: pa.ChunkedArray,
    dimension: int,
    what: str,
    name: str,
    why: str,
    used: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """A column of lists of numbers, of one length or of any; a null is a row without a vector.

    Parameters
    ----------
    dimension
        Numbers that each must have.
    what, name, why
        Of an error: what is given, as "songs", the column, and what asks for these numbers.
    used
        Rows that are looked at, bool (n,); all, if none is given.

    Returns
    -------
    tuple
        Float32 (n, dimension), zeros of a row without; and which rows have one, bool (n,).

    Raises
    ------
    DataError
        One has another length, or holds NaN, infinity or null.
    """
    found = np.zeros((len(column), dimension), np.float32)
    kind = column.type
    if pa.types.is_null(kind):
        return found, np.zeros(len(column), bool)
    if not (
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    ) or not (
        pa.types.is_floating(kind.value_type)
        or pa.types.is_integer(kind.value_type)
        or pa.types.is_null(kind.value_type)
    ):
        raise DataError(f"{what}: column {name} is of type {kind}: give lists of numbers")
    present = np.array(column.is_valid())
    if used is not None:
        present &= used
    rows = np.flatnonzero(present)
    lists = column.combine_chunks().take(pa.array(rows))
    wrong = pc.list_value_length(lists).to_numpy(zero_copy_only=False) != dimension
    if not wrong.any():
        values = lists.flatten().cast(pa.float32(), safe=False).to_numpy(zero_copy_only=False)
        found[rows] = values.reshape(-1, dimension)
        wrong = ~np.isfinite(found[rows]).all(axis=1)
    if wrong.any():
        row = rows[np.argmax(wrong)] + 1
        raise DataError(f"{what}: row {row}: {name} must be {dimension} finite numbers, {why}")
    return found, present


def flags_of(column: pa.ChunkedArray, what: str, name: str) -> NDArray[np.bool_]:
    """A column of true and false; a null is false.

    Raises
    ------
    DataError
        It is of another type.
    """
    if not (pa.types.is_boolean(column.type) or pa.types.is_null(column.type)):
        raise DataError(f"{what}: column {name} is of type {column.type}: give true or false")
    return np.array(pc.fill_null(column.cast(pa.bool_()), False))


def warn_of_unknown(of: str, unknown: pa.Array, uri: str) -> None:
    """Say in the log which song ids a workspace does not have, if there are any."""
    if len(unknown):
        named = ", ".join(unknown.slice(0, _NAMED).to_pylist())
        log.warning("%s: %s song ids are not in %s, as %s", of, f"{len(unknown):,}", uri, named)
