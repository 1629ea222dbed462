"""The byte layout that nearly all per-track files of the Million Song Dataset share.

They were written by one program, which created the same groups, tables and arrays in the
same order: all that tells one file's headers from another's is the lengths of arrays, the
addresses of their chunks and the times of writing. A layout is learnt from a file that
libhdf5 has opened and the readers have checked. Another file has it if every byte of the
structure (superblock, groups, links, object headers) is the same but for those; then its
data sets can be read without libhdf5, which spends over a hundred times longer on opening
them than on reading them (File Format Specification 1.1: superblock 0, object headers 1).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from fusionrec.formats.hdf5.access import SEGMENT_ARRAYS, TABLES

HEAD_BYTES = 48 << 10
"""Bytes at the beginning of a file that hold its structure (and most of its metadata)."""

MAX_CHUNK_BYTES = 16 << 20
"""Bytes of an inflated chunk at most; those of the data set have up to 100 kB."""

_SUPERBLOCK = struct.Struct("<8s8BHHIQQQQ QQII16s")
_SUPERBLOCK_BYTES = 96
_END_AT = 40  # where a superblock of version 0 says how long the file is

_DATASPACE, _LAYOUT, _TIME, _ATTRIBUTE = 0x1, 0x8, 0x12, 0xC
_CONTINUATION, _SYMBOL_TABLE = 0x10, 0x11
_SHUFFLE_THEN_GZIP = [h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE]


class Unfamiliar(Exception):  # noqa: N818 - no error: such a file is read by libhdf5
    """A file, or a part of it, that is not of the layout."""


@dataclass(frozen=True)
class DirectDataset:
    """Where one data set's length and chunk index stand, and how its chunks are stored.

    Attributes
    ----------
    name
        Path in the file.
    dtype
        Of an element, little-endian, the fields of a table at their offsets.
    width
        Columns of an array of two dimensions, else 1.
    rank
        1 or 2.
    chunk_rows
        Rows of a chunk.
    chunk_bytes
        Bytes of an inflated chunk.
    length_at, index_at
        Bytes from the beginning of the file: where the number of rows stands (8 bytes), and
        the address of the B-tree of chunks (8 bytes).
    terminated
        Whether texts end at their first zero byte; else only zeros at their end are padding.
    bounds
        The byte ranges, in a table's row, of the fields that say where the song's arrays begin.
    """

    name: str
    dtype: np.dtype[Any]
    width: int
    rank: int
    chunk_rows: int
    chunk_bytes: int
    length_at: int
    index_at: int
    terminated: bool
    bounds: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Layout:
    """One layout.

    Attributes
    ----------
    datasets
        By name.
    expected, mask
        Uint8, as long as the structure: the bytes that a file of this layout begins with, and
        which of their bits count.
    """

    datasets: dict[str, DirectDataset]
    expected: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.uint8]

    def fits(self, head: bytes) -> bool:
        """Whether a file that begins so has this layout."""
        found = np.frombuffer(head, np.uint8)[: len(self.expected)]
        if len(found) < len(self.expected):
            return False
        return not bool(((found ^ self.expected) & self.mask).any())


def learn(file: h5py.File, head: bytes, names: Iterable[str]) -> Layout | None:
    """The layout of a file, or None if it has none that can be relied upon.

    Parameters
    ----------
    file
        Open; the data sets of `names` are known to be there, with the shapes and kinds of
        types that the readers ask for.
    head
        The first :data:`HEAD_BYTES` bytes of the file.
    names
        Data sets ``group/name`` that the layout is to give.
    """
    parser = _Structure(head)
    try:
        parser.superblock()
        groups = {name.split("/")[0] for name in names}
        for group in (b"/", *(group.encode() for group in sorted(groups))):
            parser.group(h5py.h5o.get_info(file.id, group).addr)
        datasets = {name: _dataset(file, name, parser) for name in names}
        return Layout(datasets, *parser.structure())
    except (Unfamiliar, struct.error, IndexError):
        return None
    except (KeyError, OSError, RuntimeError, TypeError, ValueError):
        return None  # as libhdf5 reports damage, here of what the readers do not ask for


def _dataset(file: h5py.File, name: str, parser: _Structure) -> DirectDataset:
    data = h5py.h5d.open(file.id, name.encode())
    created = data.get_create_plist()
    if (
        created.get_layout() != h5py.h5d.CHUNKED
        or [created.get_filter(i)[0] for i in range(created.get_nfilters())] != _SHUFFLE_THEN_GZIP
    ):
        raise Unfamiliar
    dtype = data.dtype
    if created.get_filter(0)[2] != (dtype.itemsize,):  # what the shuffle takes for an element
        raise Unfamiliar
    if not _plain(dtype) or dtype.itemsize != data.get_type().get_size():
        raise Unfamiliar
    shape = data.shape
    chunk = created.get_chunk()
    if len(shape) not in (1, 2) or chunk[1:] != shape[1:]:
        raise Unfamiliar
    if name in SEGMENT_ARRAYS and dtype != np.float64:
        raise Unfamiliar
    if prod(chunk) * dtype.itemsize > MAX_CHUNK_BYTES:
        raise Unfamiliar
    length_at, index_at = parser.dataset(
        h5py.h5o.get_info(data).addr, len(shape), dtype.names is not None
    )
    return DirectDataset(
        name,
        dtype,
        prod(shape[1:]),
        len(shape),
        chunk[0],
        prod(chunk) * dtype.itemsize,
        length_at,
        index_at,
        _terminated(data.get_type()),
        _byte_ranges(dtype, [field for field in TABLES.get(name, ()) if field.startswith("idx_")]),
    )


def _terminated(kind: h5py.h5t.TypeID) -> bool:
    """How the texts of a type end, which must be the same for all of a table."""
    if isinstance(kind, h5py.h5t.TypeCompoundID):
        members = [kind.get_member_type(i) for i in range(kind.get_nmembers())]
    else:
        members = [kind]
    endings = {m.get_strpad() for m in members if isinstance(m, h5py.h5t.TypeStringID)}
    if endings <= {h5py.h5t.STR_NULLTERM}:
        return True
    if endings == {h5py.h5t.STR_NULLPAD}:
        return False
    raise Unfamiliar


def _byte_ranges(dtype: np.dtype[Any], fields: Iterable[str]) -> tuple[tuple[int, int], ...]:
    """Where fields of a row begin and end, in bytes."""
    offsets = {name: dtype.fields[name] for name in fields} if dtype.fields else {}
    return tuple((int(at), int(at) + kind.itemsize) for kind, at, *_ in offsets.values())


def _plain(dtype: np.dtype[Any]) -> bool:
    """Whether a type's bytes in the file are those of NumPy on this machine."""
    if dtype.names is not None:
        return all(_plain(dtype[name]) for name in dtype.names)
    return dtype.kind in "Sfiu" and dtype.isnative and not dtype.shape


class _Structure:
    """Walks over the structure of a file and notes which bytes it rests on."""

    def __init__(self, head: bytes) -> None:
        self._head = head
        self._fixed = np.zeros(len(head), bool)
        self._stop = 0

    def structure(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """The bytes up to the last one that was looked at, and a mask of those that count."""
        mask = np.where(self._fixed[: self._stop], 255, 0).astype(np.uint8)
        return np.frombuffer(self._head[: self._stop], np.uint8), mask

    def superblock(self) -> None:
        (signature, version, _, _, _, _, offsets, lengths, *_) = _SUPERBLOCK.unpack_from(self._head)
        if signature != b"\x89HDF\r\n\x1a\n" or (version, offsets, lengths) != (0, 8, 8):
            raise Unfamiliar
        self._note(0, _SUPERBLOCK_BYTES)
        self._leave(_END_AT, 8)

    def group(self, address: int) -> None:
        """A group's links: header, B-tree, names and symbol table."""
        tables = [body for kind, body in self._messages(address) if kind == _SYMBOL_TABLE]
        if len(tables) != 1:
            raise Unfamiliar
        tree, heap = struct.unpack_from("<QQ", self._head, tables[0][0])
        signature, kind, level, used = struct.unpack_from("<4sBBH", self._head, tree)
        if signature != b"TREE" or kind or level:
            raise Unfamiliar
        self._note(tree, 24 + 8 * (2 * used + 1))
        for i in range(used):
            (table,) = struct.unpack_from("<Q", self._head, tree + 32 + 16 * i)
            signature, _, _, symbols = struct.unpack_from("<4sBBH", self._head, table)
            if signature != b"SNOD":
                raise Unfamiliar
            self._note(table, 8 + 40 * symbols)
        signature, size, _, names = struct.unpack_from("<4s4xQQQ", self._head, heap)
        if signature != b"HEAP":
            raise Unfamiliar
        self._note(heap, 32)
        self._note(names, size)

    def dataset(self, address: int, rank: int, table: bool) -> tuple[int, int]:
        """Where a data set's length and the address of its chunk index stand."""
        length_at = index_at = 0
        for kind, (start, size) in self._messages(address):
            body = self._head[start : start + size]
            if kind == _DATASPACE:
                if body[0] != 1 or body[1] != rank:
                    raise Unfamiliar
                length_at = start + 8
                self._leave(length_at, 8)
            elif kind == _LAYOUT:
                if body[:3] != bytes((3, 2, rank + 1)):  # version 3, chunked
                    raise Unfamiliar
                index_at = start + 3
                self._leave(index_at, 8)
            elif kind == _TIME:
                self._leave(start + 4, 4)
            elif kind == _ATTRIBUTE and not table:
                # PyTables leaves garbage in them. A table's fifty are the same in all files.
                self._leave(start, size)
        if not length_at or not index_at:
            raise Unfamiliar
        return length_at, index_at

    def _messages(self, address: int) -> list[tuple[int, tuple[int, int]]]:
        """Kind, offset and size of each message of an object header of version 1; all are noted."""
        version, count, size = struct.unpack_from("<BxH4xI", self._head, address)
        if version != 1:
            raise Unfamiliar
        self._note(address, 16)
        blocks = [(address + 16, size)]
        found: list[tuple[int, tuple[int, int]]] = []
        while blocks and len(found) < count:
            offset, size = blocks.pop(0)
            self._note(offset, size)
            stop = offset + size
            while offset + 8 <= stop and len(found) < count:
                kind, length = struct.unpack_from("<HH", self._head, offset)
                found.append((kind, (offset + 8, length)))
                if kind == _CONTINUATION:
                    blocks.append(struct.unpack_from("<QQ", self._head, offset + 8))
                offset += 8 + length
        if len(found) != count:
            raise Unfamiliar
        return found

    def _note(self, start: int, size: int) -> None:
        if start + size > len(self._head):
            raise Unfamiliar
        self._fixed[start : start + size] = True
        self._stop = max(self._stop, start + size)

    def _leave(self, start: int, size: int) -> None:
        self._fixed[start : start + size] = False
