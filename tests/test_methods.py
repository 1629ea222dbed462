"""What a method of one's own may give back."""

import numpy as np
import pyarrow as pa
import pytest
from scipy.sparse import csr_array

from fusionrec.errors import MethodError
from fusionrec.methods import ColdStart, Features, Vectors, called

FEATURES = Features(np.ones((3, 2), np.float32), np.ones(3, bool))
GIVEN = ColdStart(
    songs=pa.table({"song_id": ["a", "b", "c"]}),
    features={"audio": FEATURES},
    fused=FEATURES,
    plays=csr_array(np.eye(4, 3, dtype=np.float32)),
    user_ids=pa.chunked_array([["t", "u", "v", "w"]]),
    train=np.array([0]),
    validation=np.array([], np.int64),
    candidates=np.array([1, 2]),
    users=np.array([0, 1, 3]),
    seed=0,
)
V, F = np.ones((3, 5)), np.ones((2, 5), np.float16)


def test_a_function_or_a_class_is_called() -> None:
    class Method:
        def __call__(self, given: ColdStart) -> Vectors:
            assert given is GIVEN
            return Vectors(V[::-1], F)

    for method in (Method, Method(), Method().__call__):
        found = called(method, GIVEN)
        assert found.V.dtype == found.F.dtype == np.float32
        assert found.V.flags.c_contiguous
        assert (found.V.shape, found.F.shape) == ((3, 5), (2, 5))


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (None, "returned None: return fusionrec.methods.Vectors"),
        ((V, F), "returned a tuple"),
        (Vectors(V.tolist(), F), "V is a list: make it a NumPy array"),  # type: ignore[arg-type]
        (Vectors(V, np.ones((2, 5), int)), "F is of dtype int64: make it float32"),
        (Vectors(V[:2], F), r"V is of shape \(2, 5\): it must be \(3, d\), a row a user"),
        (Vectors(V, F[0]), r"F is of shape \(5,\): it must be \(2, d\), a row a song in the"),
        (Vectors(V[:, :0], F), r"V is of shape \(3, 0\)"),
        (Vectors(V, F[:, :4]), "V has 5 columns and F 4"),
        (Vectors(V * [[1], [np.nan], [np.inf]], F), "in 2 of 3 rows, first in row 1"),
        (Vectors(V * 1e300, F), "V has NaN or infinite values in float32"),
        (Vectors(V * 3e38, F * np.float32(3)), "may become infinite"),
    ],
)
def test_what_cannot_be_ranked_is_refused(result, message) -> None:
    with pytest.raises(MethodError, match=message) as caught:
        called(lambda given: result, GIVEN)
    assert "\n" not in str(caught.value)
