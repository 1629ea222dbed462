"""What songs of a history add to a user's vector: against the code that makes the vectors."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

from fusionrec.baselines.factorisation import half_step
from fusionrec.models import shares
from fusionrec.models.user_tower import Attention

RNG = np.random.default_rng(3)


@pytest.mark.parametrize("songs", [1, 7])
def test_parts_by_factors_add_up_to_the_least_squares(songs) -> None:
    Y = RNG.normal(size=(30, 5)).astype(np.float32)
    own, c = RNG.choice(30, songs, replace=False), RNG.uniform(1, 9, songs).astype(np.float32)
    row = csr_matrix((c, (np.zeros(songs, int), own)), shape=(1, 30))
    found = shares.of_factors(Y.astype(np.float64).T @ Y, Y[own], c, 2.5)
    assert found.shape == (songs, 5)
    np.testing.assert_allclose(found.sum(axis=0), half_step(row, Y, 2.5)[0], rtol=1e-3, atol=1e-5)
    # A song's part is what its own term of the right-hand side gives.
    A = Y.T @ Y + (Y[own] * (c - 1)[:, None]).T @ Y[own] + 2.5 * np.eye(5)
    for part, song, weight in zip(found, own, c, strict=True):
        np.testing.assert_allclose(A @ part, weight * Y[song], rtol=1e-3, atol=1e-4)


def test_shares_by_attention_are_those_of_the_user_tower() -> None:
    attention = Attention(4)
    with torch.no_grad():
        attention.query.copy_(torch.tensor([0.5, -1.0, 2.0, 0.0]))
        attention.slope.fill_(0.7)
    v, plays = RNG.normal(size=(6, 4)).astype(np.float32), np.array([1, 2, 1, 40, 3, 1])
    query, slope = attention.query.detach().numpy(), attention.slope.item()
    found = shares.of_attention(v, plays, query, slope)
    assert found.sum() == pytest.approx(1)
    weights = torch.from_numpy(np.log1p(plays).astype(np.float32))
    expected = attention(torch.from_numpy(v), weights, torch.zeros(6, dtype=torch.int64), 1)
    np.testing.assert_allclose(found @ v, expected[0].detach().numpy(), rtol=1e-4, atol=1e-6)


def test_a_cold_song_is_one_more_of_the_least_squares() -> None:
    """Of songs with factors and one whose factors its content predicts, which has no others."""
    Y, cold = RNG.normal(size=(30, 5)), RNG.normal(size=(1, 5))
    every = np.concatenate([Y, cold]).astype(np.float32)
    own, plays = np.array([4, 9, 30]), np.array([1, 7, 3])
    users = shares.TasteUsers((Y.T @ Y).astype(np.float32), 2.0, 0.5, 2.5)
    c = 1 + 2.0 * np.log1p(plays / 0.5)
    A = every.T @ every + (every[own].T * (c - 1)) @ every[own] + 2.5 * np.eye(5)
    found = users.vector(every[own], own == 30, plays)
    np.testing.assert_allclose(found, np.linalg.solve(A, every[own].T @ c), rtol=1e-4)


def test_who_has_no_factors_stands_with_what_the_content_predicts() -> None:
    """Under `factors` alone, and nobody is asked about who has some."""
    played = np.array([[1, 2], [0, 0], [3, 0], [0, 0]], np.float32)
    content = np.array([[9, 9], [5, 6], [9, 9], [0, 0]], np.float32)
    asked: list[int] = []

    def predicted(places: np.ndarray) -> np.ndarray:
        asked.extend(places.tolist())
        return content[places]

    found = shares.HistorySongs.of("factors", played.copy(), predicted)
    np.testing.assert_array_equal(found.vectors, [[1, 2], [5, 6], [3, 0], [0, 0]])
    assert found.cold.tolist() == [False, True, False, False]
    assert found.known.tolist() == [True, True, True, False]
    assert asked == [1, 3]
    others = shares.HistorySongs.of("ranking", played.copy(), predicted)
    np.testing.assert_array_equal(others.vectors, played)
    assert not others.cold.any()
    assert asked == [1, 3]
    shares.HistorySongs.of("factors", played[[0, 2]], predicted)
    assert asked == [1, 3]
