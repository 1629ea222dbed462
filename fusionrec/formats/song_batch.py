"""Songs of HDF5 files, collected into one batch in the order of the files."""

from __future__ import annotations

import math
import os
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fusionrec.formats.batch import Batch, Rejects
from fusionrec.formats.hdf5_access import SEGMENT_ARRAYS, TAG_ARRAYS, Damage, Row
from fusionrec.formats.hdf5_direct import DirectTracks, TrackColumns
from fusionrec.formats.song_rows import NameOf, Reject, SongRows, clean_songs, file_rejects
from fusionrec.schemas import SEGMENTS

Floats = npt.NDArray[np.float32]


class SongBatch:
    """Collects songs, whichever way each was read.

    Parameters
    ----------
    segments
        Keep their segment arrays too.

    Attributes
    ----------
    direct
        The tracks that are read without libhdf5.
    """

    def __init__(self, segments: bool) -> None:
        self.direct = DirectTracks(segments)
        self._rows = SongRows()
        self._found: list[Reject] = []
        self._segments: dict[int, dict[str, Floats]] = {}

    def add(self, number: int, source: str, item: str, row: Row | Damage) -> None:
        """Append a row that libhdf5 read, or file why there is none.

        `number` is its place in the batch, `source` and `item` its rejects' file and row.
        """
        if isinstance(row, Damage):
            self._found.append((number, source, item, row.reason, row.detail, "dropped"))
            return
        lists: dict[str, object] = {spec.column: [] for spec in TAG_ARRAYS.values()}
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
            if self.direct.segments:
                self._segments |= zip(group.numbers, group.segments, strict=True)
        table = pa.concat_tables([part.table for part in cleaned])
        places = np.concatenate([part.numbers for part in cleaned])
        order = np.argsort(places, kind="stable")
        if not np.array_equal(order, np.arange(len(order))):
            table = table.take(order)
        rejects = Rejects()
        segments = None
        if self.direct.segments:
            segments = self._segment_table(table, places[order].tolist(), name_of)
        file_rejects(rejects, [*self._found, *(r for part in cleaned for r in part.rejects)])
        damaged = sum(part.damaged_text for part in cleaned)
        return Batch(table, rejects.to_table(), segments, read, damaged, direct)

    def _segment_table(
        self, songs: pa.Table, numbers: list[int], name_of: Callable[[int], str]
    ) -> pa.Table:
        tracks = songs["track_id"].to_pylist()
        rows = [self._segments.pop(number) for number in numbers]
        for i in self._damaged_segments(rows):
            lengths = {len(part) for part in rows[i].values()}
            reason = "segments have NaN" if len(lengths) == 1 else "segment arrays differ in length"
            self._found.append((numbers[i], name_of(numbers[i]), tracks[i], reason, "", "nulled"))
            rows[i] = {}
        columns = [pa.array(tracks, pa.string())]
        for spec in SEGMENT_ARRAYS.values():
            empty = np.zeros((0, spec.width) if spec.width else 0, np.float32)
            parts = [row.get(spec.column, empty) for row in rows]
            offsets = np.concatenate(([0], np.cumsum([len(part) for part in parts])))
            values = pa.array(np.concatenate([empty, *parts]).reshape(-1))
            if spec.width:
                values = pa.FixedSizeListArray.from_arrays(values, spec.width)
            columns.append(pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values))
        return pa.Table.from_arrays(columns, schema=SEGMENTS)

    @staticmethod
    def _damaged_segments(rows: list[dict[str, Floats]]) -> list[int]:
        """Which songs' arrays differ in length or hold values that are not finite."""
        with np.errstate(over="ignore", invalid="ignore"):
            return [
                i
                for i, row in enumerate(rows)
                if len({len(part) for part in row.values()}) > 1
                # A sum is finite if every value is, but for an overflow, which is looked into.
                or (
                    not math.isfinite(sum(float(part.sum()) for part in row.values()))
                    and not all(np.isfinite(part).all() for part in row.values())
                )
            ]


def _namer(name_of: Callable[[int], str], group: TrackColumns) -> NameOf:
    """What the rejects of the group's i-th track are filed under."""

    def source_and_item(i: int, track: str) -> tuple[str, str]:
        source = name_of(group.numbers[i])
        return source, track or os.path.splitext(os.path.basename(source))[0]

    return source_and_item
