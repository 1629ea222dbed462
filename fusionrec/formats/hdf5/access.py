"""Cautious access to the parts of a Million Song Dataset HDF5 file.

A file may come from anywhere: links out of it are not followed, and nothing is
allocated because a header says so.
"""

from __future__ import annotations

import contextlib
import io
import os
import traceback
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import prod
from typing import Any, NamedTuple

import h5py
import numpy as np
import numpy.typing as npt

from fusionrec.errors import FusionrecError
from fusionrec.formats import files
from fusionrec.formats.trouble import is_trouble

MAX_ELEMENTS = 10_000_000
"""Most elements of an array that one track, or one block of rows, may ask for."""

MAX_BYTES = 1 << 28
"""Most bytes of one row, chunk or array."""

_BUFFER = 1 << 18
"""Bytes read at once; most tracks' files are smaller."""

_SIGNATURE = b"\x89HDF\r\n\x1a\n"

MISSING = "missing file"
"""The reason of a file that is not there."""

TABLES: Mapping[str, Mapping[str, str]] = {
    "metadata/songs": {
        "song_id": "S",
        "title": "S",
        "release": "S",
        "artist_id": "S",
        "artist_name": "S",
        "artist_hotttnesss": "f",
        "artist_familiarity": "f",
        "song_hotttnesss": "f",
        "idx_artist_terms": "i",
        "idx_similar_artists": "i",
    },
    "analysis/songs": {
        "track_id": "S",
        "duration": "f",
        "tempo": "f",
        "loudness": "f",
        "key": "i",
        "mode": "i",
        "time_signature": "i",
        "idx_segments_start": "i",
        "idx_segments_timbre": "i",
        "idx_segments_pitches": "i",
        "idx_segments_loudness_max": "i",
    },
    "musicbrainz/songs": {"year": "i", "idx_artist_mbtags": "i"},
}
"""The three tables, the fields read from each, and the kind each must have."""

_KINDS = {"S": "SO", "f": "fiu", "i": "iu"}


class Damage(Exception):  # noqa: N818 - never leaves the readers, which turn it into a reject
    """Why a file, or a row of it, cannot be used: a fixed phrase and the particulars."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


@contextlib.contextmanager
def open_file(path: str) -> Iterator[h5py.File]:
    """Open a file for reading; what is wrong with the file is raised as :class:`Damage`.

    libhdf5 reads through a file of ours, as its own errors do not tell a damaged file from a
    disk that fails or a process that is out of file handles.

    Raises
    ------
    UnavailableError
        The environment does not give the file's bytes.
    MemoryError
        There is no memory: sizes that a header makes up are damage, and refused before.
    """
    try:
        source = files.SteadyFile(path)
    except FileNotFoundError as error:
        raise Damage(MISSING, os.path.basename(path)) from error
    except OSError as error:
        raise Damage("not a regular file", error.strerror or str(error)) from error
    with contextlib.closing(source):
        try:
            with h5py.File(io.BufferedReader(source, _BUFFER), "r") as file:
                yield file
        except Damage:
            raise
        except Exception as error:  # libhdf5's errors arrive as any of a dozen classes
            for each in (error, source.failure):
                # Frames of h5py hold lists of libhdf5's, which calls back into Python to free them.
                # An error that outlives Python would keep them until then, and crash its end.
                traceback.clear_frames(each.__traceback__ if each else None)
            if source.failure is not None:
                raise source.failure from None
            if is_trouble(error) or isinstance(error, FusionrecError):
                raise
            raise Damage(_reason(source, error), str(error)) from error


def _reason(source: files.SteadyFile, error: Exception) -> str:
    if source.read_at(len(_SIGNATURE), 0) != _SIGNATURE:
        return "not an HDF5 file"
    return "truncated HDF5 file" if "truncated file" in str(error) else "unreadable HDF5 file"


@dataclass(frozen=True)
class Node:
    """A dataset; its shape and type are asked for once, which is most of a small file's cost."""

    id: h5py.h5d.DatasetID
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def read(self, start: int, stop: int, fields: Iterable[str] = ()) -> npt.NDArray[Any]:
        """Rows `[start, stop)`, of a table only `fields`, in file order of the rows."""
        dtype = self.dtype
        if fields:
            dtype = np.dtype([(field, self.dtype[field]) for field in fields])
        shape = (stop - start, *self.shape[1:])
        _check_size(self.name, prod(shape), dtype)
        if dtype.hasobject:  # variable-length text: h5py knows how to own it
            data = h5py.Dataset(self.id)
            return np.asarray((data.fields(list(fields)) if fields else data)[start:stop])
        values = np.empty(shape, dtype)
        if values.size:
            space = self.id.get_space()
            space.select_hyperslab((start, *(0 for _ in shape[1:])), shape)
            self.id.read(h5py.h5s.create_simple(shape), space, values, _memory_type(dtype))
        return values


@lru_cache(maxsize=64)
def _memory_type(dtype: np.dtype[Any]) -> h5py.h5t.TypeID:
    return h5py.h5t.py_create(dtype)


def tables(file: h5py.File) -> dict[str, Node]:
    """The three tables of :data:`TABLES`, checked for their fields and equal lengths."""
    found = {}
    for name, fields in TABLES.items():
        table = node(file, name)
        if table is None or table.dtype.names is None or len(table.shape) != 1:
            raise Damage("missing group or table", f"/{name}")
        for field, kind in fields.items():
            if field not in table.dtype.names:
                raise Damage("missing field", f"/{name} {field}")
            if table.dtype[field].kind not in _KINDS[kind] or table.dtype[field].shape:
                raise Damage("field of a wrong type", f"/{name} {field}: {table.dtype[field]}")
        found[name] = table
    lengths = {name: table.shape[0] for name, table in found.items()}
    if len(set(lengths.values())) > 1:
        raise Damage("tables differ in length", str(lengths))
    return found


def row_count(found: dict[str, Node]) -> int:
    return int(found["metadata/songs"].shape[0])


def array(file: h5py.File, name: str, kind: str, width: int = 0) -> Node | None:
    """An array of one dimension, or of two with `width` columns; None if there is no such."""
    found = node(file, name)
    if found is None:
        return None
    if not found.shape or found.shape[1:] != ((width,) if width else ()):
        raise Damage("array of a wrong shape", f"/{name}: {found.shape}")
    if found.dtype.kind not in _KINDS[kind]:
        raise Damage("field of a wrong type", f"/{name}: {found.dtype}")
    return found


def node(file: h5py.File, name: str) -> Node | None:
    """The dataset at `group/name`, if all of it lies within the file; None if there is none."""
    path = name.encode()
    for part in (path.split(b"/")[0], path):
        if not file.id.links.exists(part):
            return None
        kind = file.id.links.get_info(part).type
        if kind == h5py.h5l.TYPE_EXTERNAL:
            raise Damage("external link", f"/{name}")
        if kind != h5py.h5l.TYPE_HARD:
            raise Damage("symbolic link", f"/{name}")
        if part != path and h5py.h5o.get_info(file.id, part).type != h5py.h5o.TYPE_GROUP:
            return None
    if h5py.h5o.get_info(file.id, path).type != h5py.h5o.TYPE_DATASET:
        return None
    data = h5py.h5d.open(file.id, path)
    layout = data.get_create_plist()
    if layout.get_external_count() or layout.get_layout() == h5py.h5d.VIRTUAL:
        raise Damage("external link", f"/{name}: its data lie in another file")
    dtype = data.dtype
    if layout.get_layout() == h5py.h5d.CHUNKED:
        chunk = layout.get_chunk()
        if prod(chunk) * dtype.itemsize > MAX_BYTES:
            raise Damage("absurd size", f"/{name}: chunks of {chunk}")
    return Node(data, name, data.shape, dtype)


def _check_size(name: str, elements: int, dtype: np.dtype[Any]) -> None:
    """Refuse to read more than one track can have."""
    if elements > MAX_ELEMENTS or elements * dtype.itemsize > MAX_BYTES:
        raise Damage("absurd size", f"/{name}: {elements:,} elements of {dtype.itemsize:,} bytes")


class _Array(NamedTuple):
    column: str
    bounds: str
    kind: str
    width: int = 0


LIST_ARRAYS = {
    "metadata/artist_terms": _Array("terms", "idx_artist_terms", "S"),
    "metadata/artist_terms_weight": _Array("term_weights", "idx_artist_terms", "f"),
    "metadata/similar_artists": _Array("similar_artists", "idx_similar_artists", "S"),
    "musicbrainz/artist_mbtags": _Array("mbtags", "idx_artist_mbtags", "S"),
    "musicbrainz/artist_mbtags_count": _Array("mbtag_counts", "idx_artist_mbtags", "i"),
}
SEGMENT_ARRAYS = {
    "analysis/segments_start": _Array("start", "idx_segments_start", "f"),
    "analysis/segments_timbre": _Array("timbre", "idx_segments_timbre", "f", 12),
    "analysis/segments_pitches": _Array("pitches", "idx_segments_pitches", "f", 12),
    "analysis/segments_loudness_max": _Array("loudness_max", "idx_segments_loudness_max", "f"),
}


@dataclass
class Row:
    """A song's raw fields, and its segment arrays by column (empty unless asked for)."""

    raw: dict[str, object]
    segments: dict[str, npt.NDArray[Any]]


class SongFile:
    """The tables and arrays of an open file of any of the three kinds."""

    def __init__(self, file: h5py.File, segments: bool) -> None:
        self._tables = tables(file)
        self.count = row_count(self._tables)
        self._specs = LIST_ARRAYS | SEGMENT_ARRAYS if segments else LIST_ARRAYS
        found = {name: array(file, name, s.kind, s.width) for name, s in self._specs.items()}
        missing = [name for name, values in found.items() if values is None]
        if missing and any(node(file, name) is not None for name in LIST_ARRAYS | SEGMENT_ARRAYS):
            raise Damage("missing group or table", f"/{missing[0]}")
        self._arrays = {} if missing else {n: v for n, v in found.items() if v is not None}

    def rows(self, start: int, stop: int) -> list[Row | Damage]:
        """Rows `[start, stop)`; a row that contradicts itself is the damage instead."""
        # One row more, if there is one: its indices end the arrays of the row before.
        last = min(stop + 1, self.count)
        fields: dict[str, list[Any]] = {}
        for name, table in self._tables.items():
            records = table.read(start, last, TABLES[name])
            fields |= {field: records[field].tolist() for field in TABLES[name]}
        texts = [f for f in fields if not f.startswith("idx_")]
        rows: list[Row | Damage] = [
            Row({f: fields[f][i] for f in texts}, {}) for i in range(stop - start)
        ]
        for name, values in self._arrays.items():
            spec = self._specs[name]
            ends = [*fields[spec.bounds][: last - start], values.shape[0]]
            bounds = list(pairwise(ends))[: stop - start]
            for i, part in enumerate(_slices(name, values, bounds)):
                row = rows[i]
                if isinstance(row, Damage):
                    continue
                if isinstance(part, Damage):
                    rows[i] = part
                elif name in SEGMENT_ARRAYS:
                    row.segments[spec.column] = part
                else:
                    row.raw[spec.column] = part.tolist()
        return rows


def _slices(
    name: str, values: Node, bounds: list[tuple[int, int]]
) -> Iterator[npt.NDArray[Any] | Damage]:
    """The parts `values[a:b]`, read at once if that is not more than they need."""
    total = values.shape[0]
    sound = [(a, b) for a, b in bounds if 0 <= a <= b <= total]
    width = values.shape[1] if len(values.shape) > 1 else 1
    low = min((a for a, _ in sound), default=0)
    high = max((b for _, b in sound), default=0)
    # Indices that jump about may ask for far more than their rows hold.
    together = (high - low) * width <= MAX_ELEMENTS
    whole = values.read(low, high) if together else None
    for a, b in bounds:
        if not 0 <= a <= b <= total:
            yield Damage("index out of range", f"/{name}: {a} to {b} of {total}")
        elif whole is not None:
            yield whole[a - low : b - low]
        else:
            yield values.read(a, b)


def read_rows(songs: SongFile, start: int, stop: int) -> list[Row | Damage]:
    """Rows `[start, stop)`, read one by one where they cannot be read together."""
    try:
        return songs.rows(start, stop)
    except Exception as error:  # libhdf5's errors arrive as any of a dozen classes
        if is_trouble(error) or isinstance(error, FusionrecError):
            raise
        if stop - start > 1:
            return [row for i in range(start, stop) for row in read_rows(songs, i, i + 1)]
        damage = error if isinstance(error, Damage) else Damage("unreadable row", str(error))
        return [damage]
