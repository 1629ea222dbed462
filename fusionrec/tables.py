"""Between Arrow columns and NumPy matrices."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from fusionrec.errors import DataError


def matrix(column: pa.ChunkedArray) -> np.ndarray:
    """A fixed-size list column as a float32 matrix, shape (rows, size).

    Raises
    ------
    DataError
        A row is null, or lists are of any length.
    """
    return np.array(_flat(column), np.float32).reshape(-1, column.type.list_size)


def flags(column: pa.ChunkedArray) -> np.ndarray:
    """A fixed-size list column of booleans, shape (rows, size).

    Raises
    ------
    DataError
        As :func:`matrix`.
    """
    return np.array(_flat(column), bool).reshape(-1, column.type.list_size)


def _flat(column: pa.ChunkedArray) -> np.ndarray:
    """All values, one after the other."""
    if not pa.types.is_fixed_size_list(column.type):
        raise DataError(f"vectors are of type {column.type}: give lists of a fixed size")
    if column.null_count:  # which Arrow leaves out, so that all behind would move up
        row = np.flatnonzero(np.array(column.is_null()))[0] + 1
        raise DataError(f"row {row} has no vector: leave it out")
    flat: np.ndarray = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return flat


def vectors(rows: np.ndarray) -> pa.FixedSizeListArray:
    """A matrix as a fixed-size list column of float32."""
    flat = pa.array(np.ascontiguousarray(rows, np.float32).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, rows.shape[1])
