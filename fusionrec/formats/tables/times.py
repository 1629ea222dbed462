"""Columns of times, however they are written."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fusionrec.formats.tables import values
from fusionrec.formats.tables.values import Bools

_WHOLE = r"^-?([0-9]{1,18}|[1-8][0-9]{18})$"
_ZONE = r":[0-9.]+ ?(Z|[+-][0-9]{2}:?[0-9]{2})$"


def per_second(head: pa.ChunkedArray | pa.Array) -> int:
    """How many units of a column of times are a second, by the largest of its first numbers.

    1e11 seconds are the year 5138, and as many milliseconds 1973. 1 for times that are not numbers.
    """
    try:
        found, _, _ = values.numbers(head)
    except values.UnfitTypeError:
        return 1
    largest = float(np.nanmax(np.abs(found))) if np.isfinite(found).any() else 0.0
    for units, least in ((10**9, 1e17), (10**6, 1e14), (10**3, 1e11)):
        if largest >= least:
            return units
    return 1


def times(column: pa.ChunkedArray | pa.Array, units: int) -> tuple[pa.Array, Bools, Bools]:
    """Seconds since 1970 (UTC), int64; where nothing is written; and where it is no time.

    Arrow's times and dates, numbers, and text as ISO 8601 has it, UTC unless a zone is given.

    Parameters
    ----------
    units
        Of numbers: how many are a second, as :func:`per_second` found.

    Raises
    ------
    values.UnfitTypeError
        The column is of a type that has no times.
    """
    array = values.plain(column)
    kind = array.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        seconds = _seconds(array.cast(pa.timestamp("us", getattr(kind, "tz", None)), safe=False))
        return seconds, np.asarray(pc.is_null(array)), np.zeros(len(array), bool)
    if pa.types.is_integer(kind):
        whole = array.cast(pa.int64(), safe=False)
        return _divided(whole, units), np.asarray(pc.is_null(array)), np.zeros(len(array), bool)
    if not values.is_text(kind):
        found, empty, wrong = values.numbers(array)
        return _of_numbers(found, units), empty, wrong | (np.abs(found) >= 2.0**62)
    text, _ = values.texts(array)
    try:
        return (
            _divided(text.cast(pa.int64()), units),
            np.asarray(pc.is_null(text)),
            np.zeros(len(text), bool),
        )
    except pa.ArrowInvalid:
        pass
    # Whole numbers as such: what becomes of one must not depend on what stands beside it.
    whole = pc.if_else(pc.match_substring_regex(text, _WHOLE), text, None).cast(pa.int64())
    others, empty, _ = values.numbers(text)
    seconds = pc.coalesce(_divided(whole, units), _of_numbers(others, units), _of_iso(text))
    return seconds, empty, np.asarray(pc.is_null(seconds)) & ~empty


def _divided(whole: pa.Array, units: int) -> pa.Array:
    if units == 1:
        return whole
    found = pc.fill_null(whole, 0).to_numpy(zero_copy_only=False) // units
    return pa.array(found, mask=np.asarray(pc.is_null(whole)))


def _of_numbers(found: npt.NDArray[np.float64], units: int) -> pa.Array:
    usable = np.abs(found) < 2.0**62
    whole = np.floor(np.where(usable, found, 0) / units).astype(np.int64)
    return pa.array(whole, mask=~usable)


def _of_iso(text: pa.Array) -> pa.Array:
    """Seconds of ISO 8601, null where it is not."""
    zoned = pc.fill_null(pc.match_substring_regex(text, _ZONE), False)
    with_zone = pc.if_else(zoned, text, None)
    without = pc.if_else(zoned, None, text)
    try:
        return pc.coalesce(
            _seconds(with_zone.cast(pa.timestamp("us", "UTC"))),
            _seconds(without.cast(pa.timestamp("us"))),
        )
    except pa.ArrowInvalid:
        return pa.array([_iso_second(value) for value in text.to_pylist()], pa.int64())


def _iso_second(value: str | None) -> int | None:
    try:
        found = datetime.fromisoformat(value or "")
    except ValueError:
        return None
    found = found if found.tzinfo else found.replace(tzinfo=UTC)
    return int(found.timestamp() // 1)


def _seconds(stamps: pa.Array) -> pa.Array:
    micros = stamps.cast(pa.int64())
    return _divided(micros, 10**6)
