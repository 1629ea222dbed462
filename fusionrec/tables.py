"""Between Arrow columns and NumPy matrices."""

from __future__ import annotations

import numpy as np
import pyarrow as pa


def matrix(column: pa.ChunkedArray) -> np.ndarray:
    """A fixed-size list column without nulls as a float32 matrix, shape (rows, size)."""
    size = column.type.list_size
    flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.array(flat, np.float32).reshape(-1, size)


def flags(column: pa.ChunkedArray) -> np.ndarray:
    """A fixed-size list column of booleans without nulls, shape (rows, size)."""
    flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.array(flat, bool).reshape(-1, column.type.list_size)


def vectors(rows: np.ndarray) -> pa.FixedSizeListArray:
    """A matrix as a fixed-size list column of float32."""
    flat = pa.array(np.ascontiguousarray(rows, np.float32).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, rows.shape[1])
