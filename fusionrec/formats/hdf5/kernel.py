"""One track's data sets out of the bytes of its file, compiled by numba.

:mod:`fusionrec.formats.hdf5.direct` calls it, once a file. The bytes may hold anything: every
address, length and count is checked before it is used, since nothing else stands between a
damaged file and the memory of the process. Chunks are inflated by libdeflate, by way of the
address of its function.

A shuffled chunk of E elements of S bytes holds first all elements' first bytes, then all their
second bytes, and so on: byte j of element i lies at j E + i.
"""

from __future__ import annotations

from typing import Any

import llvmlite.ir as ir
import numpy as np
from numba import carray, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from fusionrec.compiled import compiled

READ, OTHER_LAYOUT, UNFAMILIAR, FULL, REST_WANTED = range(5)
"""What :func:`read_track` returns: the track was read; the file is of another layout; it is not
as its layout says; a target is full; the file is wanted beyond its head, and is not at hand."""

TABLE, TEXTS, NUMBERS, FLOATS = range(4)
"""Kinds of data sets: a table of one row, texts, numbers kept as they are, and float64 numbers
kept as float32."""

KIND, LENGTH_AT, INDEX_AT, RANK, CHUNK_ROWS, ITEM_BYTES, WIDTH, TERMINATED = range(8)
"""Columns of `sets`: its kind, where in the file its number of rows and the address of its index
stand, its dimensions, rows of a chunk, bytes of an element, elements of a row, and whether a
text ends at its first zero byte (else only zeros at its end are padding)."""

START, ROOM, USED, ENDS, ENDS_ROOM, COUNT = range(6)
"""Columns of `targets`: address, size and bytes used; of texts also the address of the int32
offsets at which they end, the first of which is 0, how many fit, and how many texts there are."""

MAX_ROWS = 100_000
"""Rows of a longer array are left to libhdf5; the longest track has about 15,000 segments."""

EXTRA = 4096
"""Bytes that a chunk may have over its inflated size."""

LEVELS = 4
"""Levels of a B-tree at most."""

NODE_BYTES = 1 << 16
"""Bytes of a node of a B-tree at most."""

Array = NDArray[Any]

_TREE = 0x01_45_45_52_54  # "TREE", and type 1: of chunks
_NODE_GUESS = 2560  # bytes of a node of 64 entries of one dimension
_END_AT = 40  # where a superblock of version 0 says how long the file is
_COMPARED = 128  # words at once
_BLOCK = 64  # bytes of a row at once
_LANES = 8

# --- addresses ---------------------------------------------------------------------------

_INT = ir.IntType(64)
Builder = Any


def _pointer_to(kind: Any) -> Any:
    """An intrinsic that takes an address as a pointer to `kind`, for carray."""

    @intrinsic
    def pointer(typing: Any, address: Any) -> Any:
        def generate(context: Any, builder: Builder, signature: Any, args: Any) -> Any:
            return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

        return types.CPointer(kind)(types.intp), generate

    return pointer


_as_bytes, _as_int32, _as_float32 = (
    _pointer_to(kind) for kind in (types.uint8, types.int32, types.float32)
)


@intrinsic
def _word(typing: Any, address: Any) -> Any:
    """The int64 at an address, aligned or not."""

    def generate(context: Any, builder: Builder, signature: Any, args: Any) -> Any:
        return builder.load(builder.inttoptr(args[0], _INT.as_pointer()), align=1)

    return types.int64(types.intp), generate


@intrinsic
def _converted(typing: Any, chunk: Any, elements: Any, to: Any) -> Any:
    """The next _LANES float64, whose first bytes are at `chunk`, as float32 to `to`."""

    def generate(context: Any, builder: Builder, signature: Any, args: Any) -> Any:
        chunk, elements, to = args
        plane, words = (ir.VectorType(ir.IntType(bits), _LANES) for bits in (8, 64))
        joined = ir.Constant(words, None)
        for j in range(8):
            address = builder.add(chunk, builder.mul(elements, _INT(j)))
            part = builder.load(builder.inttoptr(address, plane.as_pointer()), align=1)
            shift = ir.Constant(words, [8 * j] * _LANES)
            joined = builder.or_(joined, builder.shl(builder.zext(part, words), shift))
        doubles = builder.bitcast(joined, ir.VectorType(ir.DoubleType(), _LANES))
        floats = builder.fptrunc(doubles, ir.VectorType(ir.FloatType(), _LANES))
        builder.store(floats, builder.inttoptr(to, floats.type.as_pointer()), align=1)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 3), generate


def _called(builder: Builder, address: Any, result: Any, arguments: list[Any]) -> Any:
    """Call the C function at an address."""
    kind = ir.FunctionType(result, [a.type for a in arguments])
    return builder.call(builder.inttoptr(address, kind.as_pointer()), arguments)


@intrinsic
def _pread(typing: Any, function: Any, file: Any, to: Any, size: Any, offset: Any) -> Any:
    """ssize_t pread(int file, void *to, size_t size, off_t offset)"""

    def generate(context: Any, builder: Builder, signature: Any, args: Any) -> Any:
        function, file, to, size, offset = args
        descriptor = builder.trunc(file, ir.IntType(32))
        return _called(builder, function, _INT, [descriptor, to, size, offset])

    return types.int64(*[types.intp] * 5), generate


@intrinsic
def _inflate(
    typing: Any, function: Any, decompressor: Any, data: Any, size: Any, to: Any, inflated: Any
) -> Any:
    """0 if `data` inflated to exactly `inflated` bytes and its checksum is right."""

    def generate(context: Any, builder: Builder, signature: Any, args: Any) -> Any:
        function, *arguments = args
        exactly = _INT(0)  # no address for the number of bytes, which then must be all of them
        return _called(builder, function, ir.IntType(32), [*arguments, exactly])

    return types.int32(*[types.intp] * 6), generate


# --- one file ----------------------------------------------------------------------------


@compiled
def read_track(
    head: Array,
    read: int,
    size: int,
    file: int,
    functions: Array,
    expected: Array,
    mask: Array,
    sets: Array,
    zeros: Array,
    targets: Array,
    lengths: Array,
    chunks: Array,
    nodes: Array,
    scratch: Array,
) -> int:
    """Read all data sets of one file behind what the targets hold, or leave the targets alone.

    Parameters
    ----------
    head
        Bytes from the beginning of the file, of which the first `read` are there; a multiple of
        8, and so aligned.
    size, file
        Of the file, its bytes, and its descriptor or -1.
    functions
        Addresses of pread and of libdeflate_zlib_decompress, and a decompressor.
    expected, mask
        Uint64: the structure that the layout's files begin with, and which of its bits count.
    sets
        Int64, a row a data set, with the columns above.
    zeros
        Int64, rows of (data set, start, stop): bytes of a table's row that must be zero.
    targets
        Int64, a row a data set, with the columns above.
    lengths
        Int64, filled with the rows of each data set.
    chunks, nodes, scratch
        Working memory: (chunks of a data set, 2) int64; (LEVELS, NODE_BYTES) bytes; and bytes
        for two chunks.
    """
    if read < 8 * len(expected):
        return OTHER_LAYOUT
    words = head.view(np.uint64)
    for begin in range(0, len(expected), _COMPARED):
        different = np.uint64(0)
        for i in range(begin, min(begin + _COMPARED, len(expected))):
            different |= (words[i] ^ expected[i]) & mask[i]
        if different != 0:
            return OTHER_LAYOUT
    start = np.intp(head.ctypes.data)
    end = _word(start + _END_AT)
    if end < 0 or end > size:  # libhdf5 says that it is truncated
        return UNFAMILIAR

    inflated = np.intp(scratch.ctypes.data)
    half = len(scratch) // 2
    used, texts = targets[:, USED].copy(), targets[:, COUNT].copy()
    for s in range(len(sets)):
        kind, rows = sets[s, KIND], _word(start + sets[s, LENGTH_AT])
        lengths[s] = rows
        if rows < 0 or rows > MAX_ROWS or (kind == TABLE and rows != 1):
            return UNFAMILIAR
        if rows == 0:
            continue
        step, item, width = sets[s, CHUNK_ROWS], sets[s, ITEM_BYTES], sets[s, WIDTH]
        elements = step * width
        count = (rows + step - 1) // step
        if count > len(chunks) or elements * item + EXTRA > half:
            return UNFAMILIAR
        index = _word(start + sets[s, INDEX_AT])
        found = _find_chunks(
            index,
            sets[s, RANK],
            step,
            width,
            item,
            count,
            start,
            read,
            end,
            file,
            functions[0],
            nodes,
            chunks,
        )
        if found != READ:
            return found
        for c in range(count):
            address, stored = chunks[c, 0], chunks[c, 1]
            if stored <= 0 or stored > elements * item + EXTRA:
                return UNFAMILIAR
            where = _fetch(start, read, end, file, functions[0], address, stored, inflated + half)
            if where <= 0:
                return REST_WANTED if where == 0 else UNFAMILIAR
            if _inflate(functions[1], functions[2], where, stored, inflated, elements * item) != 0:
                return UNFAMILIAR
            here = min(step, rows - c * step)
            to, room = targets[s, START] + used[s], targets[s, ROOM] - used[s]
            if kind == FLOATS:
                written = here * width * 4
                if room < written:
                    return FULL
                _floats(inflated, elements, here * width, to)
            elif kind == TEXTS:
                if room < here * item or texts[s] + here >= targets[s, ENDS_ROOM]:
                    return FULL
                ends = carray(_as_int32(targets[s, ENDS]), targets[s, ENDS_ROOM])
                written = _texts(
                    inflated, elements, item, here, sets[s, TERMINATED] != 0, to, ends, texts[s]
                )
                texts[s] += here
            elif kind == TABLE:
                written = item
                if room < written:
                    return FULL
                _row(inflated, elements, item, to)
            else:
                written = here * width * item
                if room < written:
                    return FULL
                _unshuffled(inflated, elements, item, here * width, to)
            used[s] += written
    for i in range(len(zeros)):
        s = zeros[i, 0]
        row = carray(_as_bytes(targets[s, START] + targets[s, USED]), sets[s, ITEM_BYTES])
        for j in range(zeros[i, 1], zeros[i, 2]):
            if row[j]:  # the arrays of a file of one track are all its own
                return UNFAMILIAR
    targets[:, USED] = used
    targets[:, COUNT] = texts
    return READ


@compiled
def _find_chunks(
    root: int,
    rank: int,
    step: int,
    width: int,
    item: int,
    count: int,
    start: int,
    read: int,
    end: int,
    file: int,
    pread: int,
    nodes: Array,
    chunks: Array,
) -> int:
    """Walk over a B-tree of chunks, which must be `count` in their order, none missing.

    Fills `chunks` with addresses and stored sizes.
    """
    # A key: stored size and skipped filters (4 bytes each), offsets; then its child.
    words = rank + 3
    scratch = np.intp(nodes.ctypes.data)
    # Of each inner node on the way: its next entry, how many are left, its level.
    at, left, level_at = (
        np.empty(LEVELS, np.int64),
        np.empty(LEVELS, np.int64),
        np.empty(LEVELS, np.int64),
    )
    found, depth, node, levels = 0, 0, root, LEVELS
    while True:
        # Enter a node.
        if node < 0 or node > end - 24:
            return UNFAMILIAR
        size = min(_NODE_GUESS, end - node)
        where = _fetch(start, read, end, file, pread, node, size, scratch + depth * NODE_BYTES)
        if where <= 0:
            return REST_WANTED if where == 0 else UNFAMILIAR
        head = _word(where)
        level, entries = (head >> 40) & 0xFF, (head >> 48) & 0xFFFF
        wanted = 24 + 8 * (words * entries + words - 1)
        if (
            head & 0xFF_FFFF_FFFF != _TREE
            or level >= levels
            or entries == 0
            or entries > count - found
            or wanted > NODE_BYTES
        ):
            return UNFAMILIAR
        if wanted > size:
            where = _fetch(
                start, read, end, file, pread, node, wanted, scratch + depth * NODE_BYTES
            )
            if where <= 0:
                return REST_WANTED if where == 0 else UNFAMILIAR
        if depth == 0 and (_word(where + 8) != -1 or _word(where + 16) != -1):
            return UNFAMILIAR  # a root has no siblings
        first = where + 24
        # libhdf5 finds a chunk by the keys on both its sides; the last one is of no chunk.
        last, before = first + 8 * words * entries, first + 8 * words * (entries - 1)
        ascends = decided = False
        for i in range(1, rank + 2):
            unit = step if i == 1 else (item if i == rank + 1 else width)
            if _word(last + 8 * i) < 0 or _word(last + 8 * i) % unit != 0:
                return UNFAMILIAR
            if not decided and _word(last + 8 * i) != _word(before + 8 * i):
                ascends, decided = _word(last + 8 * i) > _word(before + 8 * i), True
        if not ascends or not _begins_at(before, rank, _word(before + 8)):
            return UNFAMILIAR
        if level > 0:
            at[depth], left[depth], level_at[depth] = first, entries, level
        else:
            for i in range(entries):
                key = first + 8 * words * i
                # Filters may be skipped chunk by chunk, and a chunk may be missing: not here. A
                # stored size of 32 bits with no skipped filter is a number of 64 bits.
                chunks[found, 0], chunks[found, 1] = _word(key + 8 * (words - 1)), _word(key)
                if not _begins_at(key, rank, found * step):
                    return UNFAMILIAR
                found += 1
            depth -= 1
        # Go on with the next child of the innermost node that has one left.
        while depth >= 0 and left[depth] == 0:
            depth -= 1
        if depth < 0:
            return READ if found == count else UNFAMILIAR
        node = _word(at[depth] + 8 * (words - 1))
        if not _begins_at(at[depth], rank, found * step):
            return UNFAMILIAR
        at[depth] += 8 * words
        left[depth] -= 1
        levels = level_at[depth]
        depth += 1


@compiled
def _begins_at(key: int, rank: int, row: int) -> bool:
    """Whether a key's chunk begins at a row, and at the first column and byte."""
    others = np.int64(0)
    for i in range(2, rank + 2):
        others |= _word(key + 8 * i)
    return _word(key + 8) == row and others == 0


@compiled
def _fetch(
    start: int, read: int, end: int, file: int, pread: int, offset: int, size: int, scratch: int
) -> int:
    """The address of some bytes of the file: in its head, or read into `scratch`.

    0 if they would have to be read and no file is at hand, -1 if they are not in the file.
    """
    if offset < 0 or offset > end - size:
        return -1
    if offset + size <= read:
        return start + offset
    if file < 0:
        return 0
    return scratch if _pread(pread, file, scratch, size, offset) == size else -1


@compiled
def _unshuffled(chunk: int, elements: int, item: int, count: int, to: int) -> None:
    """The first `count` elements of a chunk, whole."""
    planes = carray(_as_bytes(chunk), elements * item)
    out = carray(_as_bytes(to), count * item)
    for j in range(item):
        for i in range(count):
            out[i * item + j] = planes[j * elements + i]


@compiled
def _texts(
    chunk: int,
    elements: int,
    item: int,
    count: int,
    terminated: bool,
    to: int,
    ends: Array,
    before: int,
) -> int:
    """The first `count` texts of a chunk without their padding; the bytes written."""
    planes = carray(_as_bytes(chunk), elements * item)
    out = carray(_as_bytes(to), count * item)
    most = item
    if not terminated:  # the last byte that any of them has
        most = len(planes)
        while most > 0 and planes[most - 1] == 0:
            most -= 1
        most = (most + elements - 1) // elements
    written = 0
    for i in range(count):
        length = 0
        if terminated:
            while length < most and planes[length * elements + i] != 0:
                length += 1
        else:
            length = most
            while length > 0 and planes[(length - 1) * elements + i] == 0:
                length -= 1
        for j in range(length):
            out[written + j] = planes[j * elements + i]
        written += length
        ends[before + i + 1] = ends[before + i] + np.int32(length)
    return written


@compiled
def _row(chunk: int, elements: int, item: int, to: int) -> None:
    """The first element of a chunk; a table's row is mostly zeros."""
    planes = carray(_as_bytes(chunk), elements * item)
    out = carray(_as_bytes(to), item)
    for begin in range(0, item, _BLOCK):
        end = min(begin + _BLOCK, item)
        any_bit = np.int64(0)
        # Up to seven bytes more are harmless: then zeros are copied.
        for at in range(chunk + begin * elements, chunk + end * elements, 8):
            any_bit |= _word(at)
        if any_bit != 0:
            for j in range(begin, end):
                out[j] = planes[j * elements]
        else:
            out[begin:end] = 0


@compiled
def _floats(chunk: int, elements: int, count: int, to: int) -> None:
    """The first `count` float64 of a chunk, as float32."""
    whole = count - count % _LANES
    for i in range(0, whole, _LANES):
        _converted(chunk + i, elements, to + 4 * i)
    planes = carray(_as_bytes(chunk), elements * 8)
    out = carray(_as_float32(to), count)
    bits = np.empty(1, np.uint64)
    for i in range(whole, count):
        bits[0] = 0
        for j in range(8):
            bits[0] |= np.uint64(planes[j * elements + i]) << np.uint64(8 * j)
        out[i] = np.float32(bits.view(np.float64)[0])
