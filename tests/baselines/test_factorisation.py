"""Matrix factorisation solves the problem that it states."""

import numpy as np
import pytest
from implicit.cpu.als import AlternatingLeastSquares
from scipy.sparse import csr_matrix

from fusionrec.baselines.factorisation import (
    Here,
    confidence,
    factorise,
    factorise_in_blocks,
    gram_of,
    half_step,
)
from fusionrec.errors import DataError

USUAL = {
    "shape": (30, 20),
    "factors": 5,
    "alpha": 10.0,
    "epsilon": 2.0,
    "regularisation": 3.0,
    "iterations": 8,
    "seed": 0,
}


@pytest.fixture
def plays() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of 30 users and 20 songs, some twice; user 29 and songs 18 and 19 have none."""
    generator = np.random.default_rng(0)
    pairs = generator.integers(0, 29, 150), generator.integers(0, 18, 150)
    return *pairs, generator.integers(1, 9, 150)


def dense(plays: tuple[np.ndarray, np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    counts = np.zeros((30, 20))
    np.add.at(counts, plays[:2], plays[2])
    return (counts > 0).astype(float), 1 + 10.0 * np.log1p(counts / 2.0)


def alternating(p: np.ndarray, c: np.ndarray, X: np.ndarray) -> np.ndarray:
    """One half-step: the songs' factors, given the users'."""
    ridge = 3.0 * np.eye(X.shape[1])
    return np.array(
        [np.linalg.solve((X.T * c[:, s]) @ X + ridge, X.T @ (c[:, s] * p[:, s])) for s in range(20)]
    )


def test_songs_factors_are_the_least_squares_of_the_formula(plays) -> None:
    found = factorise(*plays, **USUAL)
    p, c = dense(plays)
    expected = alternating(p, c, found.users.astype(float))
    np.testing.assert_allclose(found.songs, expected, atol=2e-6)


def test_sweeps_reach_the_objective_of_a_plain_implementation(plays) -> None:
    p, c = dense(plays)

    def objective(X: np.ndarray, Y: np.ndarray) -> float:
        return float((c * (p - X @ Y.T) ** 2).sum() + 3.0 * ((X**2).sum() + (Y**2).sum()))

    Y = np.random.default_rng(1).random((20, 5)) * 0.01
    for _ in range(200):
        X = np.array(
            [
                np.linalg.solve((Y.T * c[u]) @ Y + 3.0 * np.eye(5), Y.T @ (c[u] * p[u]))
                for u in range(30)
            ]
        )
        Y = alternating(p, c, X)
    found = factorise(*plays, **{**USUAL, "iterations": 200})
    ours = objective(found.users.astype(float), found.songs.astype(float))
    # Both may stop in another local minimum; a wrong objective is off by far more.
    assert ours == pytest.approx(objective(X, Y), rel=0.02)


def test_what_has_no_plays_has_no_factors(plays) -> None:
    found = factorise(*plays, **USUAL)
    assert not found.users[29].any()
    assert not found.songs[18:].any()
    assert found.songs[:18].any(axis=1).all()


@pytest.mark.parametrize("iterations", [1, 2, 8])
def test_users_are_a_half_step_from_the_songs_of_the_sweep_before(plays, iterations) -> None:
    """And from the last sweep's they are not; by some users and the songs they played, too."""
    usual = {**USUAL, "iterations": iterations}
    found, blocks = (
        factorise(*plays, **usual),
        factorise_in_blocks(*plays, **usual, block=40, sweeper=Here()),
    )
    c = csr_matrix(np.where(dense(plays)[0], dense(plays)[1], 0).astype(np.float32))
    for each in (found, blocks):
        close = {"rtol": 1e-5, "atol": 1e-6}
        np.testing.assert_allclose(half_step(c, each.songs_before, 3.0), each.users, **close)
        assert np.abs(half_step(c, each.songs, 3.0) - each.users).max() > 1e-3
        assert not each.songs_before[18:].any()
        gram, songs = gram_of(each.songs_before), np.unique(c[[3, 7]].indices)
        some = half_step(c[[3, 7]][:, songs], each.songs_before[songs], 3.0, gram)
        np.testing.assert_allclose(some, each.users[[3, 7]], **close)


def test_it_is_what_implicit_does_in_one_go(plays) -> None:
    found = factorise(*plays, **USUAL)
    p, c = dense(plays)
    model = AlternatingLeastSquares(5, 3.0, 1.0, iterations=8, use_cg=False, random_state=0)
    model.fit(csr_matrix(np.where(p, c, 0).astype(np.float32)[:29, :18]), show_progress=False)
    np.testing.assert_array_equal(found.users[:29], model.user_factors)
    np.testing.assert_array_equal(found.songs[:18], model.item_factors)


def test_the_seed_decides(plays) -> None:
    first, again = factorise(*plays, **USUAL), factorise(*plays, **USUAL)
    np.testing.assert_array_equal(first.songs, again.songs)
    assert not np.array_equal(first.songs, factorise(*plays, **{**USUAL, "seed": 1}).songs)


def test_confidence() -> None:
    np.testing.assert_allclose(
        confidence(np.array([0, 2, 6]), 10.0, 2.0), [1, 1 + 10 * np.log(2), 1 + 10 * np.log(4)]
    )


def test_no_plays() -> None:
    none = np.empty(0, np.int64)
    with pytest.raises(DataError, match="no plays"):
        factorise(none, none, none, **USUAL)


@pytest.mark.parametrize("block", [1, 7, 40, 10_000])
def test_blocks_give_what_the_whole_gives(plays, block: int) -> None:
    whole = factorise(*plays, **USUAL)
    found = factorise_in_blocks(*plays, **USUAL, block=block, sweeper=Here())
    np.testing.assert_allclose(found.users, whole.users, atol=1e-5)
    np.testing.assert_allclose(found.songs, whole.songs, atol=1e-5)
    assert not found.users[29].any()


def test_blocks_are_of_about_as_many_plays(plays) -> None:
    sizes = []

    class Counted(Here):
        def blocks(self, confidences):
            sizes.append([block.nnz for block in confidences])
            return confidences

    factorise_in_blocks(*plays, **USUAL, block=40, sweeper=Counted())
    pairs = len(set(zip(*plays[:2], strict=True)))
    for some in sizes:
        assert sum(some) == pairs
        assert len(some) > 1
        assert max(some) < 2 * 40


def test_a_half_step_of_some_rows_is_theirs_of_all() -> None:
    generator = np.random.default_rng(0)
    rows = csr_matrix(np.where(generator.random((12, 9)) < 0.4, 3.0, 0).astype(np.float32))
    others = generator.normal(size=(9, 4)).astype(np.float32)
    whole = half_step(rows, others, 2.0)
    np.testing.assert_allclose(half_step(rows[5:8], others, 2.0), whole[5:8], atol=1e-6)
    for row in range(12):
        c = np.where(rows.toarray()[row] > 0, 3.0, 1.0)
        p = rows.toarray()[row] > 0
        A = (others.T * c) @ others + 2.0 * np.eye(4)
        np.testing.assert_allclose(whole[row], np.linalg.solve(A, others.T @ (c * p)), atol=1e-5)
