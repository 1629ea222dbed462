"""A safetensors file on any filesystem, of which some rows are read and little else."""

from __future__ import annotations

import json
import math

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fusionrec.errors import WorkspaceError

_HEAD = 1024
"""Bytes read of a file at first: a header, as long as tensors are few."""

_TYPES = {"F32": "<f4", "I32": "<i4", "U8": "u1"}


class RowsFile:
    """An open safetensors file, of which some rows are read.

    Raises
    ------
    WorkspaceError
        If it is damaged, or has not the rows that are asked for.
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

    @property
    def names(self) -> list[str]:
        """Its tensors."""
        return [name for name in self._tensors if name != "__metadata__"]

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
        dtype, (rows, *shape) = np.dtype(_TYPES[tensor["dtype"]]), tensor["shape"]
        if len(starts) and (starts.min() < 0 or stops.max() > rows):
            raise self._damaged()
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
