"""Songs of HDF5 files, collected into one batch in the order of the files."""

from __future__ import annotations

import math
import os
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fusionrec.formats.batch import Batch, Rejects
from fusionrec.formats.hdf5.access import LIST_ARRAYS, SEGMENT_ARRAYS, Damage, Row
from fusionrec.formats.hdf5.direct import DirectTracks, TrackColumns
from fusionrec.formats.song_rows import (
    NameOf,
    Ragged,
    Reject,
    SongRows,
    clean_songs,
    file_rejects,
)
from fusionrec.schemas import SEGMENTS

Floats = npt.NDArray[np.float32]


class SongBatch:
    """Collects songs, whichever way each was read.

    Parameters
    ----------
    segments
        Keep their segment arrays too.
    expected
        About how many songs there will be.

    Attributes
    ----------
    direct
        The tracks that are read without libhdf5.
    """

    def __init__(self, segments: bool, expected: int = 1) -> None:
        self.direct = DirectTracks(segments, expected)
        self._rows = SongRows()
        self._found: list[Reject] = []
        self._segments: dict[int, dict[str, Floats]] = {}

    def add(self, number: int, source: str, item: str, row: Row | Damage) -> None:
        """Append a row that libhdf5 read, or file why there is none.

        `number` is its position in the batch, `source` and `item` its rejects' file and row.
        """
        if isinstance(row, Damage):
            self._found.append((number, source, item, row.reason, row.detail, "dropped"))
            return
        lists: dict[str, object] = {spec.column: [] for spec in LIST_ARRAYS.values()}
        self._rows.add(number, source, item, lists | row.raw)
        if self.direct.segments:
            with np.errstate(over="ignore"):
                self._segments[number] = {
                    name: part.astype(np.float32) for name, part in row.segments.items()
                }

    def batch(self, read: int, name_of: Callable[[int], str] = str) -> Batch:
        """All songs so far; `read` is how many files or rows they came from.

        `name_of` gives the source of a song read directly, from its number.
        """
        cleaned = [self._rows.clean()]
        direct = 0
        for group in self.direct.groups:
            cleaned.append(clean_songs(group.numbers, _namer(name_of, group), *group.columns()))
            direct += len(group.numbers)
        table = pa.concat_tables([part.table for part in cleaned])
        numbers = np.concatenate([part.numbers for part in cleaned])
        order = np.argsort(numbers, kind="stable")
        if not np.array_equal(order, np.arange(len(order))):
            table = table.take(order)
        rejects = Rejects()
        segments = None
        if self.direct.segments:
            segments = self._segment_table(table, numbers[order], name_of)
        file_rejects(rejects, [*self._found, *(r for part in cleaned for r in part.rejects)])
        damaged = sum(part.damaged_text for part in cleaned)
        return Batch(table, rejects.to_table(), segments, read, damaged, direct)

    def _segment_table(
        self, songs: pa.Table, numbers: npt.NDArray[np.int64], name_of: Callable[[int], str]
    ) -> pa.Table:
        """Segments of the songs, whose numbers these are."""
        groups = [(group.numbers, group.segments()) for group in self.direct.groups]
        if self._segments or not groups:
            groups.append((list(self._segments), _by_column(list(self._segments.values()))))
        read = np.concatenate([np.array(members, np.int64) for members, _ in groups])
        at = np.argsort(read, kind="stable")
        rows = at[np.searchsorted(read, numbers, sorter=at)]
        damage = [_damage(columns) for _, columns in groups]
        tracks = songs["track_id"].combine_chunks()
        of_songs = np.concatenate(damage)[rows]
        for i in np.flatnonzero(of_songs != _SOUND).tolist():
            number, track = int(numbers[i]), tracks[i].as_py()
            reason = _REASONS[int(of_songs[i])]
            self._found.append((number, name_of(number), track, reason, "", "nulled"))
        columns = [tracks]
        for spec in SEGMENT_ARRAYS.values():
            parts = [
                _list_array(found[spec.column], of_group == _SOUND, spec.width)
                for (_, found), of_group in zip(groups, damage, strict=True)
            ]
            column = pa.chunked_array(parts)
            columns.append(column if _counts_up(rows, len(read)) else column.take(pa.array(rows)))
        return pa.Table.from_arrays(columns, schema=SEGMENTS)


_SOUND, _NOT_FINITE, _UNEQUAL = range(3)
_REASONS = {_NOT_FINITE: "segments have NaN", _UNEQUAL: "segment arrays differ in length"}


def _by_column(rows: list[dict[str, Floats]]) -> dict[str, Ragged]:
    """Songs' segment arrays, one after the other in each column."""
    columns = {}
    for spec in SEGMENT_ARRAYS.values():
        empty = np.zeros((0, spec.width) if spec.width else 0, np.float32)
        parts = [row.get(spec.column, empty) for row in rows]
        lengths = np.array([*map(len, parts)], np.int64)
        columns[spec.column] = Ragged(np.concatenate([empty, *parts]), lengths)
    return columns


def _damage(columns: dict[str, Ragged]) -> npt.NDArray[np.int8]:
    """What is wrong with each song's arrays."""
    first = next(iter(columns.values())).lengths
    found = np.zeros(len(first), np.int8)
    for column in columns.values():
        values: Floats = np.asarray(column.values)
        with np.errstate(over="ignore", invalid="ignore"):
            # A sum is finite if every value is, but for an overflow, which is looked into.
            if not math.isfinite(values.sum()):
                sound = np.isfinite(values).reshape(len(values), -1).all(axis=1)
                odd = np.concatenate([[0], np.cumsum(~sound)])
                stops = np.cumsum(column.lengths)
                found[odd[stops] > odd[stops - column.lengths]] = _NOT_FINITE
    for column in columns.values():
        found[column.lengths != first] = _UNEQUAL
    return found


def _list_array(column: Ragged, kept: npt.NDArray[np.bool_], width: int) -> pa.ListArray:
    """A list a song, empty where it is not `kept`."""
    values: Floats = np.asarray(column.values)
    lengths = column.lengths
    if not kept.all():
        values, lengths = values[np.repeat(kept, lengths)], np.where(kept, lengths, 0)
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    inner = pa.array(values.reshape(-1))
    if width:
        inner = pa.FixedSizeListArray.from_arrays(inner, width)
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), inner)


def _counts_up(rows: npt.NDArray[np.int64], count: int) -> bool:
    return np.array_equal(rows, np.arange(count))


def _namer(name_of: Callable[[int], str], group: TrackColumns) -> NameOf:
    """What the rejects of the group's i-th track are filed under."""

    def source_and_item(i: int, track: str) -> tuple[str, str]:
        source = name_of(group.numbers[i])
        return source, track or os.path.splitext(os.path.basename(source))[0]

    return source_and_item
