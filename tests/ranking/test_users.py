"""User vectors against paper 3.4 written out."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fusionrec.errors import ConfigError
from fusionrec.ranking.users import Weighting, user_vectors

F = np.array([[0.5, 0.5], [0.1, 0.9], [1.0, 0.0]], dtype=np.float32)
INDPTR = np.array([0, 2, 3])
SONGS = np.array([0, 2, 1], dtype=np.int32)
PLAYS = np.array([3, 1, 4])


@pytest.mark.parametrize(
    ("weighting", "expected"),
    [
        ("raw", [[(3 * 0.5 + 1) / 2, 3 * 0.5 / 2], [0.4, 3.6]]),
        ("binary", [[(0.5 + 1) / 2, 0.25], [0.1, 0.9]]),
        (
            "log",
            [
                [(math.log(4) * 0.5 + math.log(2)) / 2, math.log(4) * 0.25],
                [math.log(5) * 0.1, math.log(5) * 0.9],
            ],
        ),
    ],
)
def test_hand_worked(weighting: Weighting, expected: list[list[float]]) -> None:
    V = user_vectors(INDPTR, SONGS, PLAYS, F, weighting)
    assert V.dtype == np.float32
    np.testing.assert_allclose(V, expected, rtol=1e-6)


def test_against_the_formula_and_whatever_the_shard() -> None:
    rng = np.random.default_rng(0)
    F = rng.random((50, 4), dtype=np.float32)
    sizes = rng.integers(1, 9, size=30)
    indptr = np.concatenate([[0], np.cumsum(sizes)])
    songs = rng.integers(0, 50, size=indptr[-1])
    plays = rng.integers(1, 100, size=indptr[-1])
    V = user_vectors(indptr, songs, plays, F)
    for u in range(30):
        own = slice(indptr[u], indptr[u + 1])
        expected = (plays[own, None] * F[songs[own]].astype(np.float64)).sum(0) / sizes[u]
        np.testing.assert_allclose(V[u], expected, rtol=1e-6)
        alone = user_vectors(np.array([0, sizes[u]]), songs[own], plays[own], F)
        assert np.array_equal(alone[0], V[u])


def test_accumulates_in_float64() -> None:
    # 2^24 + 1 is no float32: a float32 sum would lose every one of the small terms.
    F = np.ones((1001, 1), dtype=np.float32)
    plays = np.array([2**24] + [1] * 1000)
    V = user_vectors(np.array([0, 1001]), np.arange(1001), plays, F)
    assert V[0, 0] == np.float32((2**24 + 1000) / 1001)


def test_refuses_users_without_songs_and_unknown_weightings() -> None:
    with pytest.raises(ValueError, match="user row 1"):
        user_vectors(np.array([0, 3, 3]), SONGS, PLAYS, F)
    with pytest.raises(ConfigError, match=r"recommend\.weighting"):
        user_vectors(INDPTR, SONGS, PLAYS, F, "tfidf")  # type: ignore[arg-type]
    empty = np.empty(0, dtype=np.int32)
    assert user_vectors(np.array([0]), empty, empty, F).shape == (0, 2)
