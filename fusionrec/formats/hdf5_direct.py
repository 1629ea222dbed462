"""Per-track HDF5 files read without libhdf5, where their layout is known.

Only the chunks that are asked for are inflated, and of a table's chunk only the one row is
unshuffled. Whatever is not as the layout says it makes the file unfamiliar, and libhdf5
reads it instead; so nothing is decided here about damage.

A shuffled chunk of E elements of S bytes holds first the S-th part of all elements' first
bytes, then of all second bytes, and so on: byte j of element i lies at j E + i.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
from deflate import DeflateError, zlib_decompress

from fusionrec.formats.hdf5_access import SEGMENT_ARRAYS, TABLES, TAG_ARRAYS
from fusionrec.formats.hdf5_layout import (
    HEAD_BYTES,
    DirectDataset,
    Layout,
    Unfamiliar,
    learn,
)
from fusionrec.formats.song_rows import Ragged

_MAX_LAYOUTS = 16
"""Layouts kept in a process; the real corpus has one or two."""

_MAX_ROWS = 100_000
"""Rows of a longer array are left to libhdf5; the longest track has about 15,000 segments."""

_WHOLE_FILE = 8 << 20
"""Bytes of a file that are read at once where its segments are wanted."""

_NODE = struct.Struct("<4sBBH16x")
"""Head of a node of a B-tree: signature, type, level, entries; siblings."""

_SINGLE = struct.Struct("<8s16xIIQQQ8xQQ")
"""A node of a B-tree of chunks of one dimension that has one: key, address, the end's key."""

_ONE_LEAF = b"TREE\x01\x00\x01\x00"

_MAX_LEVELS = 4
_EXTRA = 4096
"""Bytes that a chunk may have over its inflated size."""

Read = Callable[[int, int], bytes]
"""Takes a number of bytes and where they begin; fewer come back at the end of the file."""


class DirectTracks:
    """Tracks read so far, in columns, those of each layout together.

    Parameters
    ----------
    segments
        Read the segment arrays too.
    """

    def __init__(self, segments: bool) -> None:
        self.segments = segments
        self._layouts = _known_layouts(segments)
        self._groups: dict[int, TrackColumns] = {}

    @property
    def groups(self) -> list[TrackColumns]:
        """The tracks of each layout."""
        return list(self._groups.values())

    @property
    def head_bytes(self) -> int:
        """Bytes to read of a file before it is added."""
        return _WHOLE_FILE if self.segments else HEAD_BYTES

    def add(self, number: int, head: bytes, size: int, read: Read) -> bool:
        """Read one track; False, and nothing is kept of it, if the file is unfamiliar.

        Parameters
        ----------
        number
            Its place among all tracks of the batch.
        head
            The file's first :attr:`head_bytes` bytes, or all if it has fewer.
        size
            Bytes of the file.
        read
            Reads the rest of it.
        """
        index = next((i for i, known in enumerate(self._layouts) if known.fits(head)), None)
        if index is None:
            return False
        if index not in self._groups:
            self._groups[index] = TrackColumns(self._layouts[index])
        try:
            track = _Track(self._layouts[index], head, size, read)
            self._groups[index].add(number, track, self.segments)
        except (Unfamiliar, DeflateError, struct.error):
            return False
        return True

    def learn(self, file: h5py.File, head: bytes) -> None:
        """Learn the layout of a file that libhdf5 has just read without a fault.

        `head` is the file's first :data:`HEAD_BYTES` bytes.
        """
        if len(self._layouts) >= _MAX_LAYOUTS:
            return
        names = [*TABLES, *TAG_ARRAYS, *(SEGMENT_ARRAYS if self.segments else ())]
        layout = learn(file, head, names)
        if layout is not None and not any(known.fits(head) for known in self._layouts):
            self._layouts.append(layout)


class TrackColumns:
    """Tracks of one layout, in columns.

    Attributes
    ----------
    numbers
        The number under which each track was added.
    segments
        Each track's segment arrays by column, float32; empty unless asked for.
    """

    def __init__(self, layout: Layout) -> None:
        self.numbers: list[int] = []
        self.segments: list[dict[str, npt.NDArray[np.float32]]] = []
        self._layout = layout
        self._rows: dict[str, list[bytearray]] = {name: [] for name in TABLES}
        self._lengths: dict[str, list[int]] = {name: [] for name in TAG_ARRAYS}
        self._texts: dict[str, list[bytes]] = {
            name: [] for name, spec in TAG_ARRAYS.items() if spec.kind == "S"
        }
        # Of every number its first byte, its second byte, ...: put together at the end.
        self._planes: dict[str, list[list[bytearray]]] = {
            name: [[] for _ in range(layout.datasets[name].dtype.itemsize)]
            for name, spec in TAG_ARRAYS.items()
            if spec.kind != "S"
        }

    def add(self, number: int, track: _Track, segments: bool) -> None:
        """Take in one track, all of it or, if it is unfamiliar, nothing."""
        rows = [(found, track.row(name)) for name, found in self._rows.items()]
        texts = [(found, track.texts(name)) for name, found in self._texts.items()]
        planes = [(found, track.planes(name)) for name, found in self._planes.items()]
        arrays = {}
        if segments:
            with np.errstate(over="ignore"):
                arrays = {
                    spec.column: track.array(name).astype(np.float32)
                    for name, spec in SEGMENT_ARRAYS.items()
                }
        self.numbers.append(number)
        self.segments.append(arrays)
        for found, row in rows:
            found.append(row)
        for collected, elements in texts:
            collected += elements
        for planes_, parts in planes:
            for plane, part in zip(planes_, parts, strict=True):
                plane.append(part)
        for name, lengths in self._lengths.items():
            lengths.append(track.length(name))

    def columns(self) -> tuple[dict[str, Any], dict[str, Ragged]]:
        """Columns and lists for :func:`fusionrec.formats.song_rows.clean_songs`."""
        columns: dict[str, Any] = {}
        for table, fields in TABLES.items():
            dtype = self._layout.datasets[table].dtype
            terminated = self._layout.datasets[table].terminated
            records = np.frombuffer(b"".join(self._rows[table]), dtype)
            for name, kind in fields.items():
                if not name.startswith("idx_"):
                    column = records[name]
                    columns[name] = np.ascontiguousarray(column)
                    if kind == "S":
                        columns[name] = _ended(column.tolist(), terminated)
        lists = {
            spec.column: Ragged(
                _ended(self._texts[name], self._layout.datasets[name].terminated)
                if spec.kind == "S"
                else self._numbers(name),
                np.array(self._lengths[name], np.int64),
            )
            for name, spec in TAG_ARRAYS.items()
        }
        return columns, lists

    def _numbers(self, name: str) -> npt.NDArray[Any]:
        planes = [np.frombuffer(b"".join(plane), np.uint8) for plane in self._planes[name]]
        return np.stack(planes, axis=1).view(self._layout.datasets[name].dtype)[:, 0]


def _ended(texts: list[bytes], terminated: bool) -> list[bytes]:
    """Texts that end at their first zero byte, if their type says so, as libhdf5 gives them."""
    if terminated and b"\0".join(texts).count(b"\0") >= len(texts):
        return [text.partition(b"\0")[0] for text in texts]
    return texts


@cache
def _known_layouts(segments: bool) -> list[Layout]:
    """The layouts this process has learnt; a list to append to."""
    return []


class _Track:
    """One file, whose structure is that of `layout`."""

    def __init__(self, layout: Layout, head: bytes, size: int, read: Read) -> None:
        self._datasets = layout.datasets
        self._head = head
        self._view = memoryview(head)
        self._read = read
        self._places = layout.places
        self._numbers = layout.numbers.unpack_from(head)
        self._end = self._numbers[0]
        if self._end > size:  # libhdf5 says that it is truncated
            raise Unfamiliar

    def length(self, name: str) -> int:
        """Rows of a data set."""
        rows: int = self._numbers[self._places[name][0]]
        return rows

    def row(self, name: str) -> bytearray:
        """The only row of a table."""
        data = self._datasets[name]
        if self.length(name) != 1:
            raise Unfamiliar
        row = self._chunks(data)[0][:: data.chunk_rows]
        for start, stop in data.bounds:
            if any(row[start:stop]):  # the arrays of a file of one track are all its own
                raise Unfamiliar
        return row

    def texts(self, name: str) -> list[bytes]:
        """All elements of an array of text, without the zeros at their ends."""
        data = self._datasets[name]
        rows, step = self.length(name), data.chunk_rows
        found: list[bytes] = []
        for chunk in self._chunks(data):
            here = range(min(step, rows - len(found)))
            # A zero in one byte of every element ends them all.
            stop = chunk.find(bytes(step))
            if not data.terminated and chunk.count(0, stop) < len(chunk) - stop:
                stop = -1
            used = bytes(memoryview(chunk)[:stop]) if stop >= 0 else bytes(chunk)
            found += [used[i::step].rstrip(b"\0") for i in here]
        return found

    def planes(self, name: str) -> list[bytearray]:
        """The first bytes of all elements of an array of numbers, their second bytes, ..."""
        data = self._datasets[name]
        rows, step, width = self.length(name), data.chunk_rows, data.dtype.itemsize
        chunks = self._chunks(data)
        if len(chunks) == 1:
            chunk = chunks[0]
            return [chunk[i : i + rows] for i in range(0, step * width, step)]
        lengths = [min(step, rows - i * step) for i in range(len(chunks))]
        return [
            bytearray().join(chunk[i : i + n] for chunk, n in zip(chunks, lengths, strict=True))
            for i in range(0, step * width, step)
        ]

    def array(self, name: str) -> npt.NDArray[Any]:
        """All of an array of numbers, in the type that the file has."""
        data = self._datasets[name]
        rows, step, width = self.length(name), data.chunk_rows, data.dtype.itemsize
        joined = np.frombuffer(b"".join(self._chunks(data)), np.uint8)
        planes = joined.reshape(-1, width, step * data.width)
        bytes_ = np.empty((len(planes), step * data.width, width), np.uint8)
        for i in range(width):
            bytes_[:, :, i] = planes[:, i]
        values = bytes_.view(data.dtype).reshape(-1, data.width)[:rows]
        return values if data.rank == 2 else values[:, 0]

    def _chunks(self, data: DirectDataset) -> list[bytearray]:
        """All chunks of a data set, inflated, in order."""
        rows, index = (self._numbers[place] for place in self._places[data.name])
        if rows == 0:
            return []
        if rows > _MAX_ROWS:
            raise Unfamiliar
        if rows <= data.chunk_rows and data.rank == 1 and index + _SINGLE.size <= len(self._head):
            # Most arrays are one chunk: its index at one go.
            head, stored, skipped, first, zero, address, end, over = _SINGLE.unpack_from(
                self._head, index
            )
            if head == _ONE_LEAF and not (skipped or first or zero) and (end or over):
                return [self._chunk(address, stored, data.chunk_bytes)]
        expected = -(-rows // data.chunk_rows)
        places = self._walk(index, data, 0, expected, _MAX_LEVELS)
        if len(places) != expected:
            raise Unfamiliar
        return [self._chunk(address, stored, data.chunk_bytes) for address, stored in places]

    def _chunk(self, address: int, stored: int, size: int) -> bytearray:
        """One chunk, inflated to `size` bytes."""
        if not 0 < stored <= size + _EXTRA:
            raise Unfamiliar
        chunk = zlib_decompress(self._bytes(address, stored), size)
        if len(chunk) != size:
            raise Unfamiliar
        return chunk

    def _walk(
        self, node: int, data: DirectDataset, first: int, expected: int, levels: int
    ) -> Sequence[tuple[int, int]]:
        """Address and stored size of the chunks below a node of the B-tree.

        `first` chunks come before them, and at most `expected` are to be there.
        """
        signature, kind, level, used = _NODE.unpack_from(self._bytes(node, _NODE.size))
        if signature != b"TREE" or kind != 1 or level >= levels or not 0 < used <= expected:
            raise Unfamiliar
        # A key: stored size and skipped filters (4 bytes each), offsets; then its child.
        words = data.rank + 3
        size = 8 * words * used + 8 * (words - 1)
        entries = struct.unpack(f"<{size // 8}Q", self._bytes(node + _NODE.size, size))
        offsets = [entries[1 + i :: words] for i in range(data.rank + 1)]
        children = entries[words - 1 :: words]
        # libhdf5 finds a chunk by the keys on both its sides.
        if tuple(o[-1] for o in offsets) <= tuple(o[-2] for o in offsets):
            raise Unfamiliar
        if level:
            found: list[tuple[int, int]] = []
            for child in children:
                before = len(found)
                found += self._walk(child, data, first + before, expected - before, level)
            return found
        step = data.chunk_rows
        # Filters may be skipped chunk by chunk, and a chunk may be missing: not here. A
        # stored size of 32 bits with no skipped filter is a number of 64 bits.
        if offsets[0][:used] != tuple(range(first * step, (first + used) * step, step)):
            raise Unfamiliar
        if any(any(o[:used]) for o in offsets[1:]):
            raise Unfamiliar
        return list(zip(children, entries[::words], strict=False))

    def _bytes(self, start: int, size: int) -> bytes | memoryview:
        stop = start + size
        if stop > self._end:
            raise Unfamiliar
        if stop <= len(self._head):
            return self._view[start:stop]
        data = self._read(size, start)
        if len(data) != size:
            raise Unfamiliar
        return data
