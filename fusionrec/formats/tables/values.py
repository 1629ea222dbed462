"""Values of any type to those that the project knows, a column at a time.

Only values that a cast of the whole column stops at are looked at one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar
from uuid import UUID

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fusionrec.formats.text import decode

Bools = npt.NDArray[np.bool_]

_NONE_WORDS = ("", "na", "n/a", "nan", "null", "none", r"\n", "-")
"""Numbers that are not there, as they are written in lower case."""
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?$"


class UnfitTypeError(TypeError):
    """A column's type holds nothing of the kind; its arguments are the type and the column."""


P = ParamSpec("P")
T = TypeVar("T")


def of_column(
    name: str,
    convert: Callable[Concatenate[pa.Array, P], T],
    column: pa.ChunkedArray,
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """`convert` of a column, whose name an UnfitTypeError gets."""
    try:
        return convert(column, *args, **kwargs)
    except UnfitTypeError as error:
        raise UnfitTypeError(error.args[0], name) from None


def plain(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """One array without dictionaries and extension types; UUIDs as they are written."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):  # several, where one would be too long
        array = pa.concat_arrays(array.chunks)
    if isinstance(array.type, pa.BaseExtensionType):
        of_uuids = array.type.extension_name == "arrow.uuid"
        array = _written_uuids(array.storage) if of_uuids else array.storage
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_string_view(array.type) or pa.types.is_large_string(array.type):
        array = array.cast(pa.string())
    if pa.types.is_binary_view(array.type) or pa.types.is_large_binary(array.type):
        array = array.cast(pa.binary())
    return array


def _written_uuids(storage: pa.Array) -> pa.Array:
    found = [None if value is None else str(UUID(bytes=value)) for value in storage.to_pylist()]
    return pa.array(found, pa.string())


def is_text(kind: pa.DataType) -> bool:
    """Whether values are text, or bytes of it."""
    return bool(
        pa.types.is_string(kind) or pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind)
    )


def is_list(kind: pa.DataType) -> bool:
    """Whether values are lists."""
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def flags(array: pa.Array) -> Bools:
    """A boolean array as NumPy's; null is false."""
    return np.asarray(pc.fill_null(array, False).to_numpy(zero_copy_only=False), bool)


def decoded(array: pa.Array, escaped: bool = False) -> tuple[pa.Array, int]:
    """Text or bytes as valid UTF-8, and how many values had bytes replaced by U+FFFD.

    Parameters
    ----------
    escaped
        Such bytes become `\\xe9` instead, so that values which differ stay different.
    """
    raw = array.cast(pa.binary())
    try:
        return raw.cast(pa.string()), 0
    except pa.ArrowInvalid:
        read = _escaped if escaped else decode
        found = [None if value is None else read(value) for value in raw.to_pylist()]
    texts = pa.array([None if each is None else each[0] for each in found], pa.string())
    return texts, sum(each[1] for each in found if each is not None)


def _escaped(value: bytes) -> tuple[str, bool]:
    found = value.decode("utf-8", "backslashreplace")
    return found, found.encode() != value


def texts(column: pa.ChunkedArray | pa.Array, escaped: bool = False) -> tuple[pa.Array, int]:
    """Stripped text, null where nothing is left; and how many values had damaged bytes.

    Numbers are written as they are, lists joined by commas; see :func:`decoded` for `escaped`.

    Raises
    ------
    UnfitTypeError
        The column is of a nested type.
    """
    array, damaged = plain(column), 0
    if is_list(array.type) and is_text(plain(array.flatten()).type):
        array = pc.binary_join(array.cast(pa.list_(pa.string())), ", ")
    if is_text(array.type):
        array, damaged = decoded(array, escaped)
    elif pa.types.is_nested(array.type):
        raise UnfitTypeError(str(array.type))
    else:
        array = array.cast(pa.string())
    stripped = pc.utf8_trim_whitespace(array)
    empty = pc.equal(stripped, "")
    if pc.any(empty).as_py():
        stripped = pc.if_else(empty, pa.scalar(None, pa.string()), stripped)
    return stripped, damaged


def ids(column: pa.ChunkedArray | pa.Array, of_floats: bool = False) -> tuple[pa.Array, int]:
    """Ids as text, null where there is none; and how many had damaged bytes.

    Whole numbers become their decimal text, also those of a column of floats, and UUIDs their
    canonical one. Otherwise ids are taken as they are, but for the spaces around them: two that
    look alike may be different. Bytes that are no UTF-8 are escaped, `Jos\\xe9`: what is written in
    Latin-1 would be one user where only the last letter of two differs. (Such ids match those of
    another table that is written in the same way; save tables as UTF-8 where they are not.)

    Parameters
    ----------
    of_floats
        Text is of whole numbers written as floats: 12.0 is 12.

    Raises
    ------
    UnfitTypeError
        The column is of a type that has no ids: lists, times, logical values.
    """
    array = plain(column)
    kind = array.type
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        values = array.cast(pa.float64(), safe=False)
        whole = pc.and_(pc.is_finite(values), pc.equal(pc.floor(values), values))
        whole = pc.and_(whole, pc.less(pc.abs(values), 2.0**63))
        numbers = pc.if_else(whole, values, None).cast(pa.int64())
        written = pc.if_else(pc.is_nan(values), None, values).cast(pa.string())
        return pc.coalesce(numbers.cast(pa.string()), written), 0
    if not (is_text(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind)):
        raise UnfitTypeError(str(kind))
    found, damaged = texts(array, escaped=True)
    if of_floats:
        found = pc.replace_substring_regex(found, r"^(-?[0-9]+)\.0+$", r"\1")
    return found, damaged


def numbers(column: pa.ChunkedArray | pa.Array) -> tuple[npt.NDArray[np.float64], Bools, Bools]:
    """Numbers, NaN where there is none; where nothing is written; and where it is no number.

    Shape (rows,) each. Infinite values are no numbers.

    Raises
    ------
    UnfitTypeError
        The column is of a type that has no numbers.
    """
    array = plain(column)
    kind = array.type
    if is_text(kind):
        found, empty = _numbers_of_text(array)
    elif (
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_null(kind)
    ):
        found = array.cast(pa.float64(), safe=False)
        empty = np.asarray(pc.is_null(found, nan_is_null=True))
    else:
        raise UnfitTypeError(str(kind))
    values = np.asarray(found.to_numpy(zero_copy_only=False), np.float64)
    finite = np.isfinite(values)
    return np.where(finite, values, np.nan), empty, ~finite & ~empty


def _numbers_of_text(array: pa.Array) -> tuple[pa.Array, Bools]:
    text, _ = texts(array)
    try:
        return _as_floats(text), np.asarray(pc.is_null(text))
    except pa.ArrowInvalid:
        pass
    words = pc.is_in(pc.utf8_lower(text), value_set=pa.array(_NONE_WORDS))
    empty = np.asarray(pc.or_(pc.is_null(text), pc.fill_null(words, False)))
    sound = pc.match_substring_regex(text, _NUMBER)
    return _as_floats(pc.if_else(sound, text, None)), empty


def _as_floats(text: pa.Array) -> pa.Array:
    found = text.cast(pa.float64())
    if pc.any(pc.is_nan(found)).as_py():
        raise pa.ArrowInvalid("nan is a word for nothing")
    return found


def years(column: pa.ChunkedArray | pa.Array) -> npt.NDArray[np.float64]:
    """Years, NaN where there is none: numbers, dates, and text that begins as a date does."""
    array = plain(column)
    if pa.types.is_timestamp(array.type) or pa.types.is_date(array.type):
        array = pc.year(array)
    elif is_text(array.type):
        text = decoded(array)[0]
        array = pc.replace_substring_regex(text, r"^\s*([0-9]{4})-[0-9]{2}(-.*)?$", r"\1")
    return numbers(array)[0]


def head_is_of_floats(head: pa.ChunkedArray | pa.Array) -> bool:
    """Whether ids in the first rows of a text file are all whole numbers written as floats."""
    array = plain(head)
    if not is_text(array.type):
        return False
    text = texts(array)[0].drop_null()
    match: Any = pc.all(pc.match_substring_regex(text, r"^-?[0-9]+\.0+$"))
    return len(text) > 0 and bool(match.as_py())
