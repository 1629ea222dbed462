"""Columns of times, however they are written."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fusionrec.formats.tables import values
from fusionrec.formats.tables.values import Bools

Floats = npt.NDArray[np.float64]

_WHOLE = r"^-?([0-9]{1,18}|[1-8][0-9]{18})$"
_ZONE = r":[0-9.]+ ?(Z|[+-][0-9]{2}:?[0-9]{2})$"


DATES = 0
"""In place of a unit: numbers are dates, 20200131, or with a time of day, 20200131235959."""

_UNITS = (1, 10**3, 10**6, 10**9)
_END = 4_102_444_800
"""2100: a number that is no time from 1970 until then is none."""
_LEAST = 500_000_000
"""1985, from when on numbers are taken for times since 1970. As milliseconds so much is the year
17814 in seconds; and 253402300799, the end of year 9999, which stands for never, is before it."""


def per_second(found: Floats) -> int | None:
    """How many units of times are a second, if some of these numbers tell; or :data:`DATES`.

    Seconds, milli-, micro- or nanoseconds, in which at least half of them, each counted once, are
    times from 1985 to 2100; dates, if at least half are.
    """
    distinct = np.unique(found[found > 0])
    if not len(distinct):
        return None
    if 2 * _of_dates(distinct)[1].sum() >= len(distinct):
        return DATES
    least = [int(((distinct >= _LEAST * u) & (distinct < _END * u)).sum()) for u in _UNITS]
    best = int(np.argmax(least))
    return _UNITS[best] if 2 * least[best] >= len(distinct) else None


def of_relative(found: Floats) -> int:
    """The same of times since a beginning of their own: the largest unit in which most of them are
    less than 130 years, or 1."""
    distinct = np.unique(found[found > 0])
    fitting = [unit for unit in _UNITS if 2 * (distinct < _END * unit).sum() >= len(distinct)]
    return fitting[0] if fitting else 1


def numbers(column: pa.ChunkedArray | pa.Array) -> tuple[Floats, bool]:
    """The numbers among a column of times, and whether any time is written in it at all."""
    try:
        found, empty, _ = values.numbers(column)
    except values.UnfitTypeError:
        return np.zeros(0), len(column) > column.null_count
    return found[np.isfinite(found)], not empty.all()


def times(column: pa.ChunkedArray | pa.Array, units: int) -> tuple[pa.Array, Bools, Bools]:
    """Seconds since 1970 (UTC), int64; where nothing is written; and where it is no time.

    Arrow's times and dates, numbers, and text as ISO 8601 has it, UTC unless a zone is given. A
    number is no time that is not from 1970 to 2100 in these units.

    Parameters
    ----------
    units
        Of numbers: how many are a second, or :data:`DATES`; see :func:`per_second`.

    Raises
    ------
    values.UnfitTypeError
        The column is of a type that has no times.
    """
    array = values.plain(column)
    kind = array.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        seconds = _seconds(array.cast(pa.timestamp("us", getattr(kind, "tz", None)), safe=False))
        empty = np.asarray(pc.is_null(array))
    elif pa.types.is_integer(kind):
        seconds = _scaled(array.cast(pa.int64(), safe=False), units)
        empty = np.asarray(pc.is_null(array))
    elif not values.is_text(kind):
        found, empty, _ = values.numbers(array)
        seconds = _scaled_floats(found, units)
    else:
        seconds, empty = _of_text(array, units)
    return seconds, empty, np.asarray(pc.is_null(seconds)) & ~empty


def _of_text(array: pa.Array, units: int) -> tuple[pa.Array, Bools]:
    text, _ = values.texts(array)
    try:
        return _scaled(text.cast(pa.int64()), units), np.asarray(pc.is_null(text))
    except pa.ArrowInvalid:
        pass
    # Whole numbers as such: what becomes of one must not depend on what stands beside it.
    whole = pc.if_else(pc.match_substring_regex(text, _WHOLE), text, None).cast(pa.int64())
    found, empty, _ = values.numbers(text)
    others = pa.array(np.isfinite(found))
    iso = _of_iso(pc.if_else(others, pa.scalar(None, pa.string()), text))
    found = np.where(np.asarray(pc.is_null(whole)), found, np.nan)
    return pc.coalesce(_scaled(whole, units), _scaled_floats(found, units), iso), empty


def _scaled(whole: pa.Array, units: int) -> pa.Array:
    """Seconds of numbers, null where they are no time."""
    found = pc.fill_null(whole, -1).to_numpy(zero_copy_only=False)
    if units == DATES:
        seconds, usable = _of_dates(found)
    else:
        seconds = found // units
        usable = (seconds >= 0) & (seconds < _END)
    return pa.array(seconds, mask=~usable)


def _scaled_floats(found: Floats, units: int) -> pa.Array:
    if units != DATES:
        with np.errstate(invalid="ignore"):
            found, units = np.floor(found / units), 1
    usable = np.abs(found) < 2.0**62
    return _scaled(pa.array(np.where(usable, found, -1).astype(np.int64)), units)


def _of_dates(found: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int64], Bools]:
    """Seconds of numbers that are dates, and which of them are some."""
    usable = (found >= 1970_01_01) & (found < 2100_01_01_000000) & (found == np.floor(found))
    whole = np.where(usable, found, 0).astype(np.int64)
    with_clock = whole >= 10**8
    day, clock = np.where(with_clock, whole // 10**6, whole), np.where(with_clock, whole % 10**6, 0)
    year, month, of_month = day // 10**4, day // 100 % 100, day % 100
    hour, minute, second = clock // 10**4, clock // 100 % 100, clock % 100
    usable &= (year >= 1970) & (year < 2100) & (month >= 1) & (month <= 12) & (of_month >= 1)
    usable &= (hour < 24) & (minute < 60) & (second < 60)
    months = np.where(usable, (year - 1970) * 12 + month - 1, 0).astype("datetime64[M]")
    days = months.astype("datetime64[D]") + np.where(usable, of_month - 1, 0)
    usable &= days.astype("datetime64[M]") == months
    seconds = days.astype(np.int64) * 86400 + hour * 3600 + minute * 60 + second
    return np.where(usable, seconds, 0), usable


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
    found = pc.fill_null(micros, 0).to_numpy(zero_copy_only=False) // 10**6
    return pa.array(found, mask=np.asarray(pc.is_null(micros)))
