"""Columns of lists, as Arrow has them or written as text."""

from __future__ import annotations

import ast
import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fusionrec.formats.tables import values
from fusionrec.formats.text import decode

Bools = npt.NDArray[np.bool_]


def empty(rows: int, type_: pa.DataType) -> pa.ListArray:
    """Lists of nothing."""
    return pa.ListArray.from_arrays(pa.array(np.zeros(rows + 1, np.int32)), pa.array([], type_))


def nulled(lists: pa.ListArray, where: Bools) -> pa.ListArray:
    """The lists, null where `where` is true."""
    return pc.if_else(pa.array(where), pa.scalar(None, lists.type), lists) if where.any() else lists


def emptied(lists: pa.ListArray, where: Bools) -> pa.ListArray:
    """The lists, with nothing in those that `where` is true of."""
    return plain_lists(nulled(lists, where)) if where.any() else lists


def texts(column: pa.ChunkedArray, separator: str | None) -> tuple[pa.ListArray, int]:
    """Lists of stripped text, null where it is empty; and how many values had damaged bytes.

    A null list has nothing in it. Text is cut at `separator`, at white space if it is None; what
    stands in brackets is read as JSON or Python write lists, or objects, of which it is the keys.

    Raises
    ------
    values.UnfitTypeError
        The column is of neither lists of texts or numbers, nor of text.
    """
    array, damaged = _lists(column, separator)
    found, of_items = values.texts(array.flatten())
    return rebuilt(array, found), damaged + of_items


def numbers(column: pa.ChunkedArray, separator: str | None) -> pa.ListArray:
    """Lists of float64, null where there is no number; of objects the values; see :func:`texts`."""
    array, _ = _lists(column, separator, of_values=True)
    found, _, _ = values.numbers(array.flatten())
    return rebuilt(array, pa.array(found, mask=np.isnan(found)))


def cast_numbers(lists: pa.ListArray, type_: pa.ListType) -> pa.ListArray:
    """Lists of numbers in another type, null where it cannot hold them."""
    found = lists.flatten().to_numpy(zero_copy_only=False).astype(np.float64)
    if pa.types.is_integer(type_.value_type):
        usable = (np.abs(found) < 2**31) & (found == np.floor(found))
    else:
        usable = np.abs(found) <= float(np.finfo(np.float32).max)
    dtype = type_.value_type.to_pandas_dtype()
    return rebuilt(lists, pa.array(np.where(usable, found, 0).astype(dtype), mask=~usable))


def without_empty(
    texts: pa.ListArray, beside: pa.ListArray | None
) -> tuple[pa.ListArray, pa.ListArray | None, Bools]:
    """Lists without their nulls, those beside them without what stands at the same places, and
    which lists had some. A list beside is null, or as long."""
    items = texts.flatten()
    holes = np.asarray(items.is_null())
    if not holes.any():
        return texts, beside, np.zeros(len(texts), bool)
    of = np.repeat(np.arange(len(texts)), lengths(texts))
    with_holes = np.zeros(len(texts), bool)
    with_holes[of[holes]] = True
    left = np.bincount(of[~holes], minlength=len(texts))
    found = of_lengths(items.filter(pa.array(~holes)), left, None)
    if beside is not None:
        null = np.asarray(beside.is_null())
        keep = ~holes[~null[of]]
        kept = beside.flatten().filter(pa.array(keep))
        beside = of_lengths(kept, np.where(null, 0, left), null)
    return found, beside, with_holes


def _lists(
    column: pa.ChunkedArray, separator: str | None, of_values: bool = False
) -> tuple[pa.ListArray, int]:
    array = values.plain(column)
    if values.is_list(array.type):
        return plain_lists(array), 0
    if not values.is_text(array.type):
        if pa.types.is_null(array.type):
            return empty(len(array), pa.string()), 0
        raise values.UnfitTypeError(str(array.type))
    text, damaged = values.texts(array)
    bracketed = values.flags(pc.match_substring_regex(text, r"(?s)^(\[.*\]|\{.*\})$"))
    cut = pc.utf8_split_whitespace(text) if separator is None else pc.split_pattern(text, separator)
    if bracketed.any():
        whole: list[Any] = cut.to_pylist()
        for row in np.flatnonzero(bracketed).tolist():
            # What is escaped as half a character is no text.
            items = [decode(item) for item in _written(text[row].as_py(), separator, of_values)]
            whole[row] = [item for item, _ in items]
            damaged += sum(bad for _, bad in items)
        cut = pa.array(whole, pa.list_(pa.string()))
    return plain_lists(cut), damaged


def _written(text: str, separator: str | None, of_values: bool) -> list[str]:
    """The items of a list as JSON or Python write it; as text is cut where it is neither."""
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(text)
            if isinstance(found, dict):
                # Of each key something: there are as many values as keys.
                items = list(found.values() if of_values else found)
                return ["" if _is_nested(each) else _as_text(each) for each in items]
            if isinstance(found, list) and not any(map(_is_nested, found)):
                return [_as_text(each) for each in found]
        # TypeError: Python has no set of lists; ValueError also of numbers too long to be written.
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            continue
    return text.split(separator)


def _is_nested(value: object) -> bool:
    return isinstance(value, list | dict)


def _as_text(value: object) -> str:
    return "" if value is None else str(value)


def plain_lists(array: pa.Array) -> pa.ListArray:
    """Lists with 32-bit offsets from 0, nulls as lists of nothing."""
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    return of_lengths(values.plain(array.flatten()), lengths, None)


def lengths(lists: pa.ListArray) -> npt.NDArray[np.int64]:
    """How many items each list has; a null one none. Shape (lists,)."""
    found = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    return np.asarray(found, np.int64)


def rebuilt(lists: pa.ListArray, items: pa.Array) -> pa.ListArray:
    """Lists of other items, as long as those of `lists`, and null where those are."""
    null = np.asarray(lists.is_null())
    return of_lengths(items, lengths(lists), null if null.any() else None)


def of_lengths(
    items: pa.Array, lengths: npt.NDArray[np.integer[Any]], null: Bools | None = None
) -> pa.ListArray:
    """Lists of `items`, one after the other."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    mask = None if null is None else pa.array(null)
    return pa.ListArray.from_arrays(pa.array(offsets), items, mask=mask)
