"""Per-track HDF5 files read without libhdf5, where their layout is known.

Only the chunks that are asked for are inflated, and of a table's chunk only the one row is
unshuffled, by compiled code (:mod:`fusionrec.formats.hdf5.kernel`). Whatever is not as the layout
says it makes the file unfamiliar, and libhdf5 reads it instead; so nothing is decided here about
damage.
"""

from __future__ import annotations

import ctypes
import os
import weakref
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fusionrec import probes
from fusionrec.formats.hdf5.access import LIST_ARRAYS, SEGMENT_ARRAYS, TABLES
from fusionrec.formats.hdf5.layout import HEAD_BYTES, MAX_CHUNK_BYTES, Layout, learn
from fusionrec.formats.song_rows import Column, Ragged

_MAX_LAYOUTS = 16
"""Layouts kept in a process; the real corpus has one or two."""

WHOLE_FILE = 8 << 20
"""Bytes of a file that are read at once where its segments are wanted."""

_TAGS, _TAG_BYTES, _SEGMENTS = 128, 2048, 2000
"""What a track has at most, nearly always: room is set aside, and more is made when it is full.
Memory that is not written to is not taken."""

_MAX_ROOM = (1 << 31) - 1
"""Bytes of the texts of a batch, which Arrow counts in an int32."""

_AT_FIRST = {False: 16_384, True: 1_024}
"""Tracks for which room is set aside at once, without and with their segments."""

ReadAt = Callable[[int, int], bytes]
"""Takes a number of bytes and where they begin; fewer come back at the end of the file."""


class DirectTracks:
    """Tracks read so far, in columns, those of each layout together.

    Parameters
    ----------
    segments
        Read the segment arrays too.
    expected
        About how many tracks there will be.
    """

    def __init__(self, segments: bool, expected: int = 1) -> None:
        self.segments = segments
        self._expected = max(1, min(expected, _AT_FIRST[segments]))
        self._known = _known_layouts(segments)
        self._groups: dict[_Types, TrackColumns] = {}
        self._own_buffers: _Buffers | None = None

    @property
    def groups(self) -> list[TrackColumns]:
        """The tracks of all layouts, those together whose data sets have the same types."""
        return [group for group in self._groups.values() if group.numbers]

    @property
    def knows_layouts(self) -> bool:
        """Whether any file can be read directly."""
        return bool(self._known.plans)

    def add_file(self, number: int, path: str) -> bool:
        """Read one local file; False, and nothing is kept of it, if it is unfamiliar.

        `number` is its position among all tracks of the batch.
        """
        if not self._known.plans:
            return False
        buffers = self._buffers()
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return False
        try:
            read = os.preadv(file, [buffers.head.data], 0)
            size = read if read < len(buffers.head) else os.fstat(file).st_size
            return self._read(number, read, size, file) == _READ
        except OSError:
            return False
        finally:
            os.close(file)

    def add_remote(self, number: int, size: int, read_at: ReadAt) -> bool:
        """Read one file of `size` bytes by a function; as :meth:`add_file`."""
        if not self._known.plans:
            return False
        buffers = self._buffers()
        for wanted in (len(buffers.head), WHOLE_FILE):
            content = read_at(min(size, wanted), 0)
            buffers.fill(content)
            found = self._read(number, len(content), size, -1)
            if found != _REST_WANTED or size > WHOLE_FILE:
                break
        return found == _READ

    def learn(self, file: h5py.File, head: bytes) -> bool:
        """Learn the layout of a file that libhdf5 has just read without a fault.

        `head` is the file's first :data:`HEAD_BYTES` bytes. True if the layout is a new one: then
        the caller is to read the file once more, directly, and to :meth:`judge` what it got.
        """
        known = self._known
        if known.given_up or len(known.plans) >= _MAX_LAYOUTS or not libdeflate_works().works:
            return False
        names = [*TABLES, *LIST_ARRAYS, *(SEGMENT_ARRAYS if self.segments else ())]
        layout = learn(file, head, names)
        if layout is None or any(plan.layout.fits(head) for plan in known.plans):
            return False
        known.plans.append(_Plan(layout))
        return True

    def forget(self) -> None:
        """Take back what was learnt last: it could not be tried."""
        self._known.plans.pop()

    def judge(self, finding: probes.Finding) -> None:
        """Take note of how a file of a new layout was read directly; if wrongly, never again."""
        if not finding.works:
            self._known.plans.clear()
            self._known.given_up = True
        probes.report("HDF5 files", finding, "compiled code", "libhdf5, some twenty times slower")

    def _buffers(self) -> _Buffers:
        if self._own_buffers is None:
            self._own_buffers = _Buffers(WHOLE_FILE if self.segments else HEAD_BYTES)
        return self._own_buffers

    def _read(self, number: int, read: int, size: int, file: int) -> int:
        buffers = self._buffers()
        for plan in self._known.plans:
            group = self._groups.get(plan.types)
            if group is None:
                group = self._groups[plan.types] = TrackColumns(plan, self._expected)
            found = group.add(number, plan, buffers, read, size, file)
            if found != _OTHER_LAYOUT:
                return found
        return _UNFAMILIAR


# As in `kernel`, which is compiled code and imported where it is needed.
_READ, _OTHER_LAYOUT, _UNFAMILIAR, _FULL, _REST_WANTED = range(5)


_Types = tuple[tuple[str, np.dtype[Any], int, bool], ...]
"""Of each data set its name, type and columns, and whether its texts end at the first zero."""


class _Plan:
    """A layout as the compiled code takes it."""

    def __init__(self, layout: Layout) -> None:
        from fusionrec.formats.hdf5 import kernel as kernel

        self.layout = layout
        self.types: _Types = tuple(
            (data.name, data.dtype, data.width, data.terminated)
            for data in layout.datasets.values()
        )
        words = -(-len(layout.expected) // 8)
        self.expected, self.mask = np.zeros((2, 8 * words), np.uint8)
        self.expected[: len(layout.expected)] = layout.expected
        self.mask[: len(layout.mask)] = layout.mask
        self.expected, self.mask = self.expected.view(np.uint64), self.mask.view(np.uint64)
        rows, zeros = [], []
        for s, data in enumerate(layout.datasets.values()):
            kind = kernel.NUMBERS
            if data.name in TABLES:
                kind = kernel.TABLE
            elif data.name in SEGMENT_ARRAYS:
                kind = kernel.FLOATS
            elif LIST_ARRAYS[data.name].kind == "S":
                kind = kernel.TEXTS
            row = [0] * (kernel.TERMINATED + 1)
            row[kernel.KIND], row[kernel.RANK], row[kernel.WIDTH] = kind, data.rank, data.width
            row[kernel.LENGTH_AT], row[kernel.INDEX_AT] = data.length_at, data.index_at
            row[kernel.CHUNK_ROWS], row[kernel.ITEM_BYTES] = data.chunk_rows, data.dtype.itemsize
            row[kernel.TERMINATED] = data.terminated
            rows.append(row)
            zeros += [(s, start, stop) for start, stop in data.bounds]
        self.sets = np.array(rows, np.int64)
        self.zeros = np.array(zeros, np.int64).reshape(-1, 3)
        self.kinds = [row[kernel.KIND] for row in rows]
        self.chunk_bytes = [data.chunk_bytes for data in layout.datasets.values()]


@dataclass
class _Layouts:
    """What this process has learnt, for reading with or without segments."""

    plans: list[_Plan] = field(default_factory=list)
    given_up: bool = False


@cache
def _known_layouts(segments: bool) -> _Layouts:
    return _Layouts()


class _Buffers:
    """Memory and functions that the compiled code works with, for one thread."""

    def __init__(self, head_bytes: int) -> None:
        from fusionrec.formats.hdf5 import kernel as kernel

        library = _libdeflate()  # it works, or no layout would be known
        decompressor = library.libdeflate_alloc_decompressor()
        weakref.finalize(self, library.libdeflate_free_decompressor, decompressor)
        self.head = np.empty(head_bytes, np.uint8)
        self.functions = np.array(
            [
                _address(ctypes.CDLL(None).pread),
                _address(library.libdeflate_zlib_decompress),
                decompressor,
            ],
            np.int64,
        )
        self.chunks = np.empty((kernel.MAX_ROWS, 2), np.int64)
        self.nodes = np.empty((kernel.LEVELS, kernel.NODE_BYTES), np.uint8)
        self.scratch = np.empty(2 * (MAX_CHUNK_BYTES + kernel.EXTRA), np.uint8)
        self.read_track = kernel.read_track

    def fill(self, content: bytes) -> None:
        """Take the beginning of a file for the head."""
        if len(content) > len(self.head):
            self.head = np.empty(-(-len(content) // 8) * 8, np.uint8)
        self.head[: len(content)] = np.frombuffer(content, np.uint8)


def _address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


@cache
def _libdeflate() -> ctypes.CDLL:
    """libdeflate's own functions, which the package `deflate` has within it.

    Raises
    ------
    OSError, AttributeError, TypeError
        The package does not show them.
    """
    import deflate

    library = ctypes.CDLL(getattr(deflate, "_deflate", deflate).__file__)
    library.libdeflate_alloc_decompressor.restype = ctypes.c_void_p
    library.libdeflate_free_decompressor.argtypes = [ctypes.c_void_p]
    inflate = library.libdeflate_zlib_decompress
    size, pointer = ctypes.c_size_t, ctypes.c_void_p
    inflate.argtypes = [pointer, ctypes.c_char_p, size, ctypes.c_char_p, size, pointer]
    return library


@cache
def libdeflate_works() -> probes.Finding:
    """Whether libdeflate can be called and inflates here; tried once a process."""

    def trial() -> str:
        library = _libdeflate()
        known = np.random.default_rng(0).integers(0, 9, 10_000, np.uint8).tobytes() * 3
        inflated = ctypes.create_string_buffer(len(known))
        decompressor = library.libdeflate_alloc_decompressor()
        try:
            for damage in (0, 1):
                data = bytearray(zlib.compress(known))
                data[-1] ^= damage
                error = library.libdeflate_zlib_decompress(
                    decompressor, bytes(data), len(data), inflated, len(known), None
                )
                if bool(error) != bool(damage) or inflated.raw != known:
                    return f"error {error} with {damage} damaged bytes"
        finally:
            library.libdeflate_free_decompressor(decompressor)
        return ""

    finding = probes.attempt(trial)
    return probes.report("HDF5 files", finding, "libdeflate", "libhdf5, some twenty times slower")


class TrackColumns:
    """Tracks in columns, one after the other.

    Parameters
    ----------
    plan
        A layout; others whose data sets have the same types can be added, too.
    expected
        About how many tracks there will be.

    Attributes
    ----------
    numbers
        The number under which each track was added.
    """

    def __init__(self, plan: _Plan, expected: int) -> None:
        from fusionrec.formats.hdf5 import kernel as kernel

        self.numbers: list[int] = []
        self._types = {name: (dtype, ended) for name, dtype, _, ended in plan.types}
        self._index = {name: i for i, name in enumerate(self._types)}
        self._lengths = np.empty((expected, len(plan.types)), np.int64)
        self._targets = np.zeros((len(plan.types), kernel.COUNT + 1), np.int64)
        self._arenas: list[npt.NDArray[np.uint8]] = []
        self._ends: list[npt.NDArray[np.int32]] = []
        for kind, (_, dtype, width, _), chunk in zip(
            plan.kinds, plan.types, plan.chunk_bytes, strict=True
        ):
            room = {
                kernel.TABLE: dtype.itemsize,
                kernel.TEXTS: _TAG_BYTES,
                kernel.NUMBERS: _TAGS * dtype.itemsize,
                kernel.FLOATS: _SEGMENTS * width * 4,
            }[kind]
            # A chunk more than that: texts are given room as if they were not padded.
            self._arenas.append(np.empty(expected * room + chunk, np.uint8))
            texts = expected * _TAGS + chunk // dtype.itemsize if kind == kernel.TEXTS else 0
            self._ends.append(np.zeros(texts + 1, np.int32))
        self._point()

    def add(
        self, number: int, plan: _Plan, buffers: _Buffers, read: int, size: int, file: int
    ) -> int:
        """Take in one track, all of it or nothing; what the compiled code says of it."""
        count = len(self.numbers)
        if count == len(self._lengths):
            self._lengths = _doubled(self._lengths)
        while True:
            found: int = buffers.read_track(
                buffers.head,
                read,
                size,
                file,
                buffers.functions,
                plan.expected,
                plan.mask,
                plan.sets,
                plan.zeros,
                self._targets,
                self._lengths[count],
                buffers.chunks,
                buffers.nodes,
                buffers.scratch,
            )
            if found != _FULL:
                break
            if not self._grow():
                return _UNFAMILIAR
        if found == _READ:
            self.numbers.append(number)
        return found

    def _grow(self) -> bool:
        """Make room; False if there are too many texts already."""
        texts = [a for a, ends in zip(self._arenas, self._ends, strict=True) if len(ends) > 1]
        if max(map(len, texts)) > _MAX_ROOM // 2:
            return False
        # Where there is no memory for all of them, none is replaced.
        arenas = [_doubled(arena) for arena in self._arenas]
        ends = [_doubled(ends) for ends in self._ends]
        self._arenas, self._ends = arenas, ends  # both or, if there is no memory, neither
        self._point()
        return True

    def _point(self) -> None:
        """Tell where the targets are."""
        from fusionrec.formats.hdf5 import kernel as kernel

        self._targets[:, kernel.START] = [arena.ctypes.data for arena in self._arenas]
        self._targets[:, kernel.ROOM] = [len(arena) for arena in self._arenas]
        self._targets[:, kernel.ENDS] = [ends.ctypes.data for ends in self._ends]
        self._targets[:, kernel.ENDS_ROOM] = [len(ends) for ends in self._ends]

    def columns(self) -> tuple[dict[str, Column], dict[str, Ragged]]:
        """Columns and lists for :func:`fusionrec.formats.song_rows.clean_songs`."""
        columns: dict[str, Column] = {}
        for table, fields in TABLES.items():
            dtype, ended = self._types[table]
            records = self._written(table).view(dtype)
            for name, kind in fields.items():
                if not name.startswith("idx_"):
                    values = np.ascontiguousarray(records[name])
                    columns[name] = _ended(values.tolist(), ended) if kind == "S" else values
        lists = {}
        for name, spec in LIST_ARRAYS.items():
            written = self._written(name)
            lengths = self._lengths_of(name)
            if spec.kind == "S":
                ends = pa.py_buffer(self._ends[self._index[name]])
                buffers = [None, ends, pa.py_buffer(written)]
                of_lists: Column = pa.Array.from_buffers(pa.binary(), int(lengths.sum()), buffers)
            else:
                of_lists = written.view(self._types[name][0])
            lists[spec.column] = Ragged(of_lists, lengths)
        return columns, lists

    def segments(self) -> dict[str, Ragged]:
        """Segment arrays by column, float32, of two dimensions where they have columns."""
        found = {}
        for name, spec in SEGMENT_ARRAYS.items():
            values = self._written(name).view(np.float32)
            values = values.reshape(-1, spec.width) if spec.width else values
            found[spec.column] = Ragged(values, self._lengths_of(name))
        return found

    def _written(self, name: str) -> npt.NDArray[np.uint8]:
        from fusionrec.formats.hdf5 import kernel as kernel

        index = self._index[name]
        return self._arenas[index][: self._targets[index, kernel.USED]]

    def _lengths_of(self, name: str) -> npt.NDArray[np.int64]:
        return np.ascontiguousarray(self._lengths[: len(self.numbers), self._index[name]])


def _doubled(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    larger = np.empty((2 * len(array), *array.shape[1:]), array.dtype)
    larger[: len(array)] = array
    return larger


def _ended(texts: list[bytes], terminated: bool) -> list[bytes]:
    """Texts that end at their first zero byte, if their type says so, as libhdf5 gives them."""
    if terminated and b"\0".join(texts).count(b"\0") >= len(texts):
        return [text.partition(b"\0")[0] for text in texts]
    return texts
