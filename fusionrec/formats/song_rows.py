"""From a song's raw fields, whatever the container, to a row of the songs artifact."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from fusionrec.formats.batch import Rejects
from fusionrec.formats.text import decode
from fusionrec.schemas import SONGS

TEXTS = ("title", "release", "artist_id", "artist_name")
FLOATS = ("duration", "artist_hotttnesss", "artist_familiarity", "tempo", "loudness")
INTEGERS = ("key", "mode", "time_signature")

_FIRST_YEAR, _LAST_YEAR = 1860, 2100  # no recording is older
_INT32 = range(-(2**31), 2**31)


class SongRows:
    """Rows of :data:`fusionrec.schemas.SONGS`, cleaned as they are added.

    Parameters
    ----------
    rejects
        Receives what is dropped or emptied.
    """

    def __init__(self, rejects: Rejects) -> None:
        self.damaged_text = 0
        self._rejects = rejects
        self._columns: dict[str, list[object]] = {name: [] for name in SONGS.names}

    def add(self, source: str, item: str, raw: Mapping[str, object]) -> str | None:
        """Clean one song and append it.

        Parameters
        ----------
        source, item
            What its rejects are filed under; a readable track id takes the place of `item`.
        raw
            Values by column of the songs artifact: bytes or str for text, numbers, and
            sequences for the lists. A column that is not in `raw` does not exist in the
            source and is null, or an empty list, without a reject.

        Returns
        -------
        str or None
            The track id; None where the row was dropped, as it has no track or song id.
        """
        ids = {name: self.text(raw.get(name)).strip() for name in ("track_id", "song_id")}
        item = ids["track_id"] or item
        for name, value in ids.items():
            if not value:
                self._rejects.add(source, item, f"empty {name}")
                return None
        row: dict[str, object] = dict(ids)

        def null(reason: str, detail: str = "") -> None:
            self._rejects.add(source, item, reason, detail, "nulled")

        for name in TEXTS:
            row[name] = self.text(raw.get(name)).strip() or None
            if row[name] is None:
                null(f"{name} is empty")
        for name in FLOATS:
            row[name] = _float(raw.get(name))
            if row[name] is None and name in raw:
                null(f"{name} is NaN", _show(raw[name]))
        if isinstance(row["duration"], float) and row["duration"] <= 0:
            null("duration is not positive", _show(row["duration"]))
            row["duration"] = None
        row["song_hotttnesss"] = _float(raw.get("song_hotttnesss"))  # NaN for most songs
        for name in INTEGERS:
            row[name] = _integer(raw.get(name))
            if row[name] is None and name in raw:
                null(f"{name} is not an integer", _show(raw[name]))
        year = _integer(raw.get("year"))
        known = year is not None and _FIRST_YEAR <= year <= _LAST_YEAR
        row["year"] = year if known else None
        if not known:
            null("year unknown", _show(raw.get("year")))
        for name, companion in (("mbtags", "mbtag_counts"), ("terms", "term_weights")):
            row[name], row[companion], reasons = self._tags(raw, name, companion)
            for reason in reasons:
                null(reason)
        for name, column in self._columns.items():
            column.append(row[name])
        return ids["track_id"]

    def text(self, value: object) -> str:
        """`value` as text, empty if it is neither bytes nor str; replaced bytes are counted."""
        if not isinstance(value, bytes | str):
            return ""
        text, damaged = decode(value)
        self.damaged_text += damaged
        return text

    def to_table(self) -> pa.Table:
        """All rows, schema :data:`fusionrec.schemas.SONGS`."""
        arrays = [pa.array(self._columns[field.name], field.type) for field in SONGS]
        return pa.Table.from_arrays(arrays, schema=SONGS)

    def _tags(
        self, raw: Mapping[str, object], name: str, companion: str
    ) -> tuple[list[str], list[int | None] | list[float | None] | None, list[str]]:
        """Tags, the numbers beside them (None where there are none), and what is wrong."""
        tags = [self.text(tag).strip() for tag in _sequence(raw.get(name))]
        reasons = []
        convert = _integer if companion == "mbtag_counts" else _float
        numbers: list[object] | None = None
        if companion in raw:
            numbers = [convert(number) for number in _sequence(raw[companion])]
            if len(numbers) != len(tags):
                numbers = None
                reasons.append(f"{companion} do not match {name}")
        elif not tags:
            numbers = []
        if not all(tags):
            reasons.append(f"empty tag in {name}")
            if numbers is not None:
                numbers = [n for n, tag in zip(numbers, tags, strict=True) if tag]
            tags = [tag for tag in tags if tag]
        return tags, numbers, reasons  # type: ignore[return-value]


def _sequence(value: object) -> Sequence[object]:
    return value if isinstance(value, list | tuple) else ()


def _float(value: object) -> float | None:
    """`value` if it is a number that a float32 can hold."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value) if abs(value) <= float(np.finfo(np.float32).max) else None


def _integer(value: object) -> int | None:
    """`value` if it is a whole number that an int32 can hold."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and value in _INT32 else None


def _show(value: object) -> str:
    return decode(value)[0] if isinstance(value, bytes) else str(value)
