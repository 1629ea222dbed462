"""Rows by number and numbers by id: what is read for some of them does not grow with all of them.

Of a Parquet file groups of rows are read, and first a footer that lists them all. What a person
waits for, some songs among a million, lies in safetensors files instead: a row is where its number
says, and an id where its hash says, so that some reads of its own bytes find it. A matrix is cut
into parts of :data:`ROWS_A_PART` rows, so that its number says in which file a row is.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fusionrec.errors import WorkspaceError
from fusionrec.hashing import wide_hash

if TYPE_CHECKING:
    from pipelines.runtime.workspace import StageRun, Workspace

ROWS_A_PART = 1 << 14
"""Rows of a matrix a file: 64 MB where a row has 4 kB. Another number is another form of all
artifacts that are written so."""

NAMES_A_PART = 1 << 17
"""The same of songs' names: some 15 MB."""

INDEX = "index.safetensors"

_IDS_A_BUCKET = 32
_HEAD = 1024
"""Bytes read of a file at first: a header, as long as tensors are few."""

_TYPES = {"F32": "<f4", "I32": "<i4", "U64": "<u8", "U8": "u1"}

Arrays = Mapping[str, np.ndarray]


class RowsFile:
    """An open safetensors file, of which some rows are read.

    Raises
    ------
    WorkspaceError
        If it is damaged; also where rows are read.
    """

    def __init__(self, stream: pa.NativeFile, path: str) -> None:
        self._stream, self._path = stream, path
        head = stream.read_at(_HEAD, 0)
        length = int.from_bytes(head[:8], "little")
        self._start = 8 + length
        if self._start > len(head):
            head = stream.read_at(min(self._start, stream.size()), 0)
        try:
            self._tensors = json.loads(head[8 : self._start])
        except ValueError:
            raise self._damaged() from None

    def rows(self, name: str) -> int:
        """How many rows a tensor has."""
        return int(self._tensors[name]["shape"][0])

    def take(self, name: str, numbers: NDArray[np.integer]) -> np.ndarray:
        """Rows of a tensor by number, in this order; those that lie side by side in one read."""
        distinct, inverse = np.unique(numbers, return_inverse=True)
        first = np.flatnonzero(np.diff(distinct, prepend=-2) > 1)
        last = np.append(first[1:], len(distinct))[: len(first)] - 1
        found: np.ndarray = self.spans(name, distinct[first], distinct[last] + 1)[inverse]
        return found

    def spans(
        self, name: str, starts: NDArray[np.integer], stops: NDArray[np.integer]
    ) -> np.ndarray:
        """The rows from each of `starts` to before each of `stops`, one span after the other."""
        tensor = self._tensors[name]
        dtype, shape = np.dtype(_TYPES[tensor["dtype"]]), tensor["shape"][1:]
        row = dtype.itemsize * math.prod(shape)
        begin = self._start + tensor["data_offsets"][0]
        read = b"".join(
            [
                self._stream.read_at((stop - start) * row, begin + start * row)
                for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)
            ]
        )
        if len(read) != int((stops - starts).sum()) * row:
            raise self._damaged()
        return np.frombuffer(read, dtype).reshape(-1, *shape)

    def _damaged(self) -> WorkspaceError:
        return WorkspaceError(
            f"{self._path}: is damaged or cut short; delete the folder above the one that it is "
            "in and run again"
        )


def rows_name(part: int) -> str:
    """The file name of part number `part`."""
    return f"part-{part:05d}.safetensors"


# --- matrices ------------------------------------------------------------------------------


def write_matrix(run: StageRun, rows: NDArray[np.float32], artifact: str) -> None:
    """Write a matrix as an artifact of its own, shape (rows, d), to be read by row number."""
    for part, start in enumerate(range(0, max(len(rows), 1), ROWS_A_PART)):
        run.write_arrays({"rows": rows[start : start + ROWS_A_PART]}, artifact, rows_name(part))


def read_matrix(
    workspace: Workspace, stage: str, artifact: str, numbers: NDArray[np.integer]
) -> NDArray[np.float32]:
    """Rows of a matrix by number, in their order, float32 (numbers, d)."""
    parts = numbers // ROWS_A_PART
    found: np.ndarray | None = None
    for part in np.unique(parts).tolist() or [0]:
        here = parts == part
        with workspace.reading_rows(stage, artifact, rows_name(part)) as file:
            rows = file.take("rows", numbers[here] - part * ROWS_A_PART)
        if found is None:
            found = np.zeros((len(numbers), rows.shape[1]), np.float32)
        found[here] = rows
    assert found is not None
    return found


# --- ids -----------------------------------------------------------------------------------


def index_of(ids: Sequence[str]) -> Arrays:
    """What finds the number of an id among `ids`, each of which is there once.

    Ids are known by 128 bits of a hash, in the order of these and in buckets by the first of them;
    that two of a million ids share them happens once in 10^26 catalogues. It takes 20 bytes an id.
    """
    hashes = wide_hash(ids)
    order = np.lexsort((hashes[:, 1], hashes[:, 0]))
    hashes = hashes[order]
    bits = (len(ids) // _IDS_A_BUCKET).bit_length()
    buckets = _bucket(hashes, bits)
    starts = np.searchsorted(buckets, np.arange((1 << bits) + 1, dtype=np.uint64))
    return {"hashes": hashes, "numbers": order.astype(np.int32), "starts": starts.astype(np.int32)}


def look_up(file: RowsFile, ids: Sequence[str]) -> NDArray[np.int64]:
    """Numbers of ids by what :func:`index_of` gave, shape (ids,); -1 where an id is not known."""
    hashes = wide_hash(ids)
    bucket = _bucket(hashes, (file.rows("starts") - 1).bit_length() - 1).astype(np.int64)
    bounds = file.spans("starts", bucket, bucket + 2).reshape(-1, 2).astype(np.int64)
    candidates = file.spans("hashes", bounds[:, 0], bounds[:, 1])
    sizes = bounds[:, 1] - bounds[:, 0]
    of_id = np.repeat(np.arange(len(ids)), sizes)
    place = np.arange(len(of_id)) + np.repeat(bounds[:, 0] - (np.cumsum(sizes) - sizes), sizes)
    same = (candidates == hashes[of_id]).all(axis=1)
    found = np.full(len(ids), -1, np.int64)
    found[of_id[same]] = file.take("numbers", place[same])
    return found


def _bucket(hashes: NDArray[np.uint64], bits: int) -> NDArray[np.uint64]:
    """The first bits of each hash."""
    return hashes[:, 0] >> np.uint64(64 - bits) if bits else np.zeros(len(hashes), np.uint64)


# --- texts ---------------------------------------------------------------------------------


def texts_of(table: pa.Table) -> Arrays:
    """Columns of strings as tensors: of each its bytes, and where a row's end; "" for a null."""
    arrays: dict[str, np.ndarray] = {}
    for name in table.column_names:
        column = table[name].combine_chunks().fill_null("")
        _, bounds, content = column.buffers()
        offsets = np.frombuffer(bounds, np.int32)[column.offset :][: len(column) + 1]
        text = np.frombuffer(content or b"", np.uint8)[offsets[0] : offsets[-1]]
        arrays[f"{name} bounds"], arrays[f"{name} text"] = offsets - offsets[0], text
    return arrays


def read_texts(file: RowsFile, column: str, numbers: NDArray[np.integer]) -> list[str]:
    """Rows of a column by number, by what :func:`texts_of` gave."""
    starts = file.take(f"{column} bounds", numbers).astype(np.int64)
    stops = file.take(f"{column} bounds", numbers + 1).astype(np.int64)
    text = file.spans(f"{column} text", starts, stops).tobytes()
    ends = np.cumsum(stops - starts)
    return [text[end - size : end].decode() for end, size in zip(ends, stops - starts, strict=True)]
