"""From songs' raw fields, whatever the container, to rows of the songs artifact.

Columns are cleaned whole, not value by value: a million songs have twenty million values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fusionrec.formats.batch import Rejects
from fusionrec.formats.text import decode
from fusionrec.schemas import SONGS

IDS = ("track_id", "song_id")
TEXTS = ("title", "release", "artist_id", "artist_name")
FLOATS = ("duration", "artist_hotttnesss", "artist_familiarity", "tempo", "loudness")
INTEGERS = ("key", "mode", "time_signature")
TAGS = {"mbtags": "mbtag_counts", "terms": "term_weights"}
"""Lists of tags, and the list of numbers beside each."""
ID_LISTS = ("similar_artists",)
"""Lists of ids, in the order of the source; nothing stands beside them."""

YEARS = (1860, 2100)
"""The first and the last that are believed: no recording is older."""
_INT32 = range(-(2**31), 2**31)
_FLOAT32_MAX = float(np.finfo(np.float32).max)


Column: TypeAlias = Sequence[Any] | npt.NDArray[Any] | Any
"""Values: a sequence, an array, or a BinaryArray of Arrow's, which is not typed."""


@dataclass(frozen=True)
class Ragged:
    """A column of lists.

    Attributes
    ----------
    values
        Those of all lists, one after the other.
    lengths
        Int64, shape (songs,).
    """

    values: Column
    lengths: npt.NDArray[np.int64]

    @staticmethod
    def of(lists: Sequence[Sequence[object]]) -> Ragged:
        """From a list of lists."""
        return Ragged(list(chain.from_iterable(lists)), np.array([*map(len, lists)], np.int64))

    def take(self, rows: Sequence[int]) -> Ragged:
        """The lists of some songs."""
        lists = self.lists()
        return Ragged.of([lists[row] for row in rows])

    def lists(self) -> list[list[object]]:
        """One list a song."""
        stops = np.cumsum(self.lengths)
        values = self.values if isinstance(self.values, Sequence) else self.values.tolist()
        return [
            list(values[stop - n : stop])
            for stop, n in zip(stops.tolist(), self.lengths.tolist(), strict=True)
        ]


NameOf = Callable[[int, str], tuple[str, str]]
Reject = tuple[int, str, str, str, str, str]
"""Number of the row, and the fields of :data:`fusionrec.schemas.REJECTS`."""


@dataclass(frozen=True)
class CleanSongs:
    """Songs that could be used, and what was wrong with them and with the others.

    Attributes
    ----------
    table
        Schema :data:`fusionrec.schemas.SONGS`.
    numbers
        Int64, shape (rows of the table,): the number of each row, ascending if they were.
    rejects
        By column, not by row; :func:`file_rejects` sorts them.
    damaged_text
        Texts in which bytes had to be replaced.
    """

    table: pa.Table
    numbers: npt.NDArray[np.int64]
    rejects: list[Reject]
    damaged_text: int


class SongRows:
    """Songs collected one by one, for containers that are read so."""

    def __init__(self) -> None:
        self._numbers: list[int] = []
        self._names: list[tuple[str, str]] = []
        self._rows: list[Mapping[str, object]] = []

    def add(self, number: int, source: str, item: str, raw: Mapping[str, object]) -> None:
        """Append a song.

        Parameters
        ----------
        number
            Its position among all songs of the batch.
        source, item
            What its rejects are filed under; a readable track id takes the place of `item`.
        raw
            Values by column of the songs artifact: bytes or str for text, numbers, and
            lists for the lists. A column that the first song lacks does not exist in the
            source and is null, or an empty list, without a reject.
        """
        self._numbers.append(number)
        self._names.append((source, item))
        self._rows.append(raw)

    def clean(self) -> CleanSongs:
        """All songs so far; see :func:`clean_songs`."""
        names = self._rows[0] if self._rows else ()
        columns = {name: [row.get(name) for row in self._rows] for name in names}
        lists = {
            name: Ragged.of([_sequence(value) for value in columns.pop(name)])
            for name in (*TAGS, *TAGS.values(), *ID_LISTS)
            if name in columns
        }

        def name_of(i: int, track: str) -> tuple[str, str]:
            source, item = self._names[i]
            return source, track or item

        return clean_songs(self._numbers, name_of, columns, lists)


def clean_songs(
    numbers: Sequence[int],
    name_of: NameOf,
    columns: Mapping[str, Column],
    lists: Mapping[str, Ragged],
) -> CleanSongs:
    """Clean songs, column by column.

    A song without a track or song id is dropped. An unusable field is emptied: text that is
    empty, a number that is NaN or infinite, a duration that is not positive, a year that is
    0 or absurd, an empty tag or id in a list, tag numbers that do not match their tags.

    Parameters
    ----------
    numbers
        Each song's position in its batch, carried along.
    name_of
        The source and item under which song i (a position in the columns) files its rejects,
        given its track id, which may be empty.
    columns, lists
        Columns of the songs artifact, of equal length: bytes or str for text, numbers (a
        list or an array); and those of lists. One that is missing gives nulls, or empty
        lists, without a reject.
    """
    cleaner = _Cleaner(numbers, name_of)
    ids = {name: cleaner.texts(columns.get(name, [None] * len(numbers))) for name in IDS}
    kept = []
    for i, (track, song) in enumerate(zip(*(ids[name] for name in IDS), strict=True)):
        if track and song:
            kept.append(i)
        else:
            cleaner.reject(i, f"empty {'song_id' if track else 'track_id'}", track, "dropped")
    if len(kept) < len(numbers):
        columns = {
            name: column[kept] if isinstance(column, np.ndarray) else [column[i] for i in kept]
            for name, column in columns.items()
        }
        lists = {name: column.take(kept) for name, column in lists.items()}
    ids = {name: [values[i] for i in kept] for name, values in ids.items()}
    return cleaner.table(ids, kept, columns, lists)


def file_rejects(rejects: Rejects, found: Sequence[Reject]) -> None:
    """Append what was found wrong, in the order of the rows."""
    for _, source, item, reason, detail, action in sorted(found, key=lambda reject: reject[0]):
        rejects.add(source, item, reason, detail, action)


class _Cleaner:
    """The state of one call of :func:`clean_songs`."""

    def __init__(self, numbers: Sequence[int], name_of: NameOf) -> None:
        self._numbers = numbers
        self._name_of = name_of
        self._found: list[Reject] = []
        self._damaged = 0

    def reject(self, i: int, reason: str, track: str, action: str, detail: str = "") -> None:
        source, item = self._name_of(i, track)
        self._found.append((self._numbers[i], source, item, reason, detail, action))

    def texts(self, column: Column) -> list[str]:
        """Every value as stripped text; empty if it is neither bytes nor str."""
        if isinstance(column, pa.BinaryArray):
            try:
                return [text.strip() for text in column.cast(pa.string()).to_pylist()]
            except pa.ArrowInvalid:  # not all of it is UTF-8
                column = column.to_pylist()
        try:
            # Decoded together, which takes a third of the time.
            texts: list[str] = b"\0".join(column).decode().split("\0")
            if len(texts) == len(column):
                return [text.strip() for text in texts]
            return [value.decode().strip() for value in column]
        except (TypeError, AttributeError, UnicodeDecodeError):
            return [self._text(value).strip() for value in column]

    def table(
        self,
        ids: dict[str, list[str]],
        kept: list[int],
        columns: Mapping[str, Column],
        lists: Mapping[str, Ragged],
    ) -> CleanSongs:
        """Clean the rest of the songs `kept`, whose ids are clean."""
        tracks = ids["track_id"]
        arrays: dict[str, pa.Array] = {name: pa.array(v, pa.string()) for name, v in ids.items()}

        def null(row: int, reason: str, detail: str = "") -> None:
            self.reject(kept[row], reason, tracks[row], "nulled", detail)

        for name in TEXTS:
            texts = self.texts(columns.get(name, [None] * len(kept)))
            arrays[name] = pa.array([text or None for text in texts], pa.string())
            for row in (row for row, text in enumerate(texts) if not text):
                null(row, f"{name} is empty")
        for name in (*FLOATS, "song_hotttnesss"):
            values, usable = _floats(columns.get(name), len(kept))
            if name in columns and name != "song_hotttnesss":  # which most songs lack
                for row in np.flatnonzero(~usable).tolist():
                    null(row, f"{name} is NaN", _show(columns[name][row]))
            if name == "duration":
                for row in np.flatnonzero(usable & (values <= 0)).tolist():
                    null(row, "duration is not positive", _show(columns[name][row]))
                usable &= values > 0
            with np.errstate(over="ignore", invalid="ignore"):
                arrays[name] = pa.array(values.astype(np.float32), mask=~usable)
        for name in (*INTEGERS, "year"):
            numbers, whole = _integers(columns.get(name), len(kept))
            if name == "year":
                whole &= (numbers >= YEARS[0]) & (numbers <= YEARS[1])
            for row in np.flatnonzero(~whole).tolist():
                raw = columns[name][row] if name in columns else None
                if name == "year":
                    null(row, "year unknown", _show(raw))
                elif name in columns:
                    null(row, f"{name} is not an integer", _show(raw))
            arrays[name] = pa.array(np.where(whole, numbers, 0).astype(np.int32), mask=~whole)
        for name, companion in TAGS.items():
            arrays[name], arrays[companion] = self._tags(lists, name, len(kept), null)
        for name in ID_LISTS:
            arrays[name] = self._id_lists(lists, name, len(kept), null)
        table = pa.Table.from_arrays([arrays[field.name] for field in SONGS], schema=SONGS)
        rows = np.array([self._numbers[i] for i in kept], np.int64)
        return CleanSongs(table, rows, self._found, self._damaged)

    def _tags(
        self,
        lists: Mapping[str, Ragged],
        name: str,
        rows: int,
        null: Callable[[int, str], None],
    ) -> tuple[pa.Array, pa.Array]:
        """Tags, and the numbers beside them (null where there are none or too few)."""
        companion = TAGS[name]
        tags = lists.get(name) or Ragged.of([()] * rows)
        numbers = lists.get(companion)
        texts = self.texts(tags.values)
        type_ = SONGS.field(companion).type
        if not all(texts) or (numbers and not np.array_equal(numbers.lengths, tags.lengths)):
            tags = Ragged(texts, tags.lengths)
            return self._mended_tags(tags, numbers, name, null)
        if numbers is None:
            none = pa.array([None if length else [] for length in tags.lengths.tolist()], type_)
            return _lists(pa.array(texts, pa.string()), tags.lengths), none
        convert = _integers if companion == "mbtag_counts" else _floats
        values, usable = convert(numbers.values, len(numbers.values))
        beside = pa.array(np.where(usable, values, 0), mask=~usable).cast(
            type_.value_type, safe=False
        )
        return _lists(pa.array(texts, pa.string()), tags.lengths), _lists(beside, tags.lengths)

    def _mended_tags(
        self, tags: Ragged, numbers: Ragged | None, name: str, null: Callable[[int, str], None]
    ) -> tuple[pa.Array, pa.Array]:
        """The same where a tag is empty, or the numbers are not one a tag: song by song."""
        companion = TAGS[name]
        convert = _integer if companion == "mbtag_counts" else _float
        all_tags: list[list[object]] = []
        all_numbers: list[list[object] | None] = []
        beside = numbers.lists() if numbers else [None] * len(tags.lengths)
        for row, (texts, raw) in enumerate(zip(tags.lists(), beside, strict=True)):
            kept: list[object] | None = None if texts and raw is None else []
            if raw is not None:
                kept = [convert(number) for number in raw]
                if len(kept) != len(texts):
                    kept = None
                    null(row, f"{companion} do not match {name}")
            if not all(texts):
                null(row, f"empty tag in {name}")
                if kept is not None:
                    kept = [n for n, text in zip(kept, texts, strict=True) if text]
                texts = [text for text in texts if text]
            all_tags.append(texts)
            all_numbers.append(kept)
        return (
            pa.array(all_tags, SONGS.field(name).type),
            pa.array(all_numbers, SONGS.field(companion).type),
        )

    def _id_lists(
        self, lists: Mapping[str, Ragged], name: str, rows: int, null: Callable[[int, str], None]
    ) -> pa.Array:
        """Lists of ids as they are, without the empty ones."""
        ids = lists.get(name) or Ragged.of([()] * rows)
        plain = _plain_texts(ids.values)
        if plain is not None:  # nearly always, and a million songs have 100 million of them
            return _lists(plain, ids.lengths)
        texts, lengths = self.texts(ids.values), ids.lengths
        if not all(texts):
            row_of = np.repeat(np.arange(rows), lengths)
            empty = np.array([not text for text in texts])
            for row in np.unique(row_of[empty]).tolist():
                null(row, f"empty id in {name}")
            texts = [text for text in texts if text]
            lengths = np.bincount(row_of[~empty], minlength=rows)
        return _lists(pa.array(texts, pa.string()), lengths)

    def _text(self, value: object) -> str:
        if not isinstance(value, bytes | str):
            return ""
        text, damaged = decode(value)
        self._damaged += damaged
        return text


def _plain_texts(values: Column) -> pa.Array | None:
    """Texts that are Arrow's and have none but visible ASCII: there is nothing to strip or mend."""
    if not isinstance(values, pa.BinaryArray) or values.offset or not len(values):
        return None
    _, offsets, content = values.buffers()
    ends = np.frombuffer(offsets, np.int32)[: len(values) + 1]
    if not (np.diff(ends) > 0).all():
        return None
    text = np.frombuffer(content, np.uint8)[ends[0] : ends[-1]]
    if not ((text > 0x20) & (text < 0x7F)).all():
        return None
    return values.cast(pa.string())


def _lists(values: pa.Array, lengths: npt.NDArray[np.int64]) -> pa.ListArray:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values)


def _floats(
    column: Column | None, rows: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Values, and whether each is a number that a float32 can hold."""
    if isinstance(column, np.ndarray):
        values = column.astype(np.float64)
    else:
        found = [_float(value) for value in column] if column is not None else [None] * rows
        values = np.array([math.nan if value is None else value for value in found], np.float64)
    return values, np.abs(values) <= _FLOAT32_MAX  # False for NaN


def _integers(
    column: Column | None, rows: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Values, and whether each is a whole number that an int32 can hold."""
    if isinstance(column, np.ndarray) and column.dtype.kind == "i":
        values = column.astype(np.int64)
        return values, (values >= _INT32.start) & (values < _INT32.stop)
    found = [_integer(value) for value in column] if column is not None else [None] * rows
    usable = np.array([value is not None for value in found], bool)
    return np.array([value or 0 for value in found], np.int64), usable


def _sequence(value: object) -> Sequence[object]:
    return value if isinstance(value, list | tuple) else ()


def _float(value: object) -> float | None:
    """`value` if it is a number that a float32 can hold."""
    if isinstance(value, np.generic):
        value = value.item()
    if not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value) if abs(value) <= _FLOAT32_MAX else None


def _integer(value: object) -> int | None:
    """`value` if it is a whole number that an int32 can hold."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and value in _INT32 else None


def _show(value: object) -> str:
    return decode(value)[0] if isinstance(value, bytes) else str(value)
