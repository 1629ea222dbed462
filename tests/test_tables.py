"""Between Arrow columns and NumPy matrices."""

import numpy as np
import pyarrow as pa
import pytest

from fusionrec.errors import DataError
from fusionrec.tables import flags, matrix, vectors


def test_a_matrix_is_a_column_and_back() -> None:
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    column = pa.chunked_array([vectors(rows[:1]), vectors(rows[1:])])
    np.testing.assert_array_equal(matrix(column), rows)
    np.testing.assert_array_equal(matrix(column.slice(2)), rows[2:])
    assert matrix(column.slice(4)).shape == (0, 3)


@pytest.mark.parametrize(("read", "kind"), [(matrix, pa.float32()), (flags, pa.bool_())])
def test_a_row_without_a_vector_does_not_move_those_behind_it(read, kind) -> None:
    """Arrow would leave it out of the values, so that each vector stood in the row before."""
    column = pa.chunked_array([[[1, 0]], [None, [0, 1]]], pa.list_(pa.int8(), 2))
    column = column.cast(pa.list_(kind, 2))
    with pytest.raises(DataError, match=r"^row 2 has no vector"):
        read(column)
    assert len(read(column.slice(2))) == 1
    with pytest.raises(DataError, match="give lists of a fixed size"):
        read(column.cast(pa.list_(kind)))
