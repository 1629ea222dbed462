"""The convolutional network: its losses against brute force, and what it learns of planted data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fusionrec.baselines.cnn import ConvNet, fit_cnn
from fusionrec.baselines.factor_loss import Feedback, weighted_prediction_error
from fusionrec.errors import DataError

T = 16
NONE = np.array([], int)


def feedback(songs: int, users: int = 30, factors: int = 4, seed: int = 0) -> Feedback:
    """Song 1 has no listener, and song 2 has all users."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 9, songs)
    sizes[1:3] = 0, users
    listeners = [rng.permutation(users)[:size] for size in sizes]
    return Feedback(
        rng.normal(size=(users, factors)).astype(np.float32),
        np.concatenate([[0], np.cumsum(sizes)]),
        np.concatenate(listeners),
        rng.uniform(1, 40, sizes.sum()).astype(np.float32),
    )


def dense_error(y: Tensor, given: Feedback) -> Tensor:
    """The definition: the whole matrices of preferences and confidences."""
    p = torch.zeros(len(given.X), len(y), dtype=y.dtype)
    c = torch.ones_like(p)
    for i in range(len(y)):
        listeners = given.users[given.indptr[i] : given.indptr[i + 1]]
        p[listeners, i] = 1
        c[listeners, i] = torch.tensor(given.confidence[given.indptr[i] : given.indptr[i + 1]]).to(
            c
        )
    X = torch.tensor(given.X, dtype=y.dtype)
    return (c * (p - X @ y.T).square()).sum(dim=0)


def sparse_error(y: Tensor, given: Feedback, rows: np.ndarray) -> Tensor:
    X = torch.tensor(given.X, dtype=y.dtype)
    indptr, users, confidence = (torch.tensor(x) for x in given.of(rows))
    return weighted_prediction_error(y, X.T @ X, indptr, users, confidence.to(y), X)


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_the_weighted_prediction_error_and_its_gradient(dtype: torch.dtype, rtol: float) -> None:
    given = feedback(8)
    y = torch.randn(8, 4, generator=torch.Generator().manual_seed(0)).to(dtype).requires_grad_()
    ours, theirs = sparse_error(y, given, np.arange(8)), dense_error(y, given)
    assert ours.dtype == dtype
    torch.testing.assert_close(ours, theirs, rtol=rtol, atol=0)
    weights = torch.arange(1.0, 9.0, dtype=dtype)
    gradients = [torch.autograd.grad((e * weights).sum(), y)[0] for e in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=rtol, atol=rtol)
    if dtype == torch.float64:
        assert torch.autograd.gradcheck(lambda v: sparse_error(v, given, np.arange(8)), y)
    # Any songs in any order, also twice.
    rows = np.array([5, 2, 1, 5])
    torch.testing.assert_close(sparse_error(y[rows], given, rows), theirs[rows], rtol=rtol, atol=0)


def test_its_minimum_is_the_least_squares_step_of_matrix_factorisation() -> None:
    """(X'X + X'(C - 1)X) y = X' C p, the equation of Hu et al. (2008), makes the gradient 0."""
    given = feedback(3)
    y = np.zeros((3, 4))
    X = given.X.astype(np.float64)
    for i in range(3):
        here = slice(given.indptr[i], given.indptr[i + 1])
        x, c = X[given.users[here]], given.confidence[here].astype(np.float64)
        y[i] = np.linalg.solve(X.T @ X + x.T @ ((c - 1)[:, None] * x), x.T @ c)
    at = torch.tensor(y, requires_grad=True)
    (gradient,) = torch.autograd.grad(sparse_error(at, given, np.arange(3)).sum(), at)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-8)


def planted(songs: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Factors that are a linear map of the means of channels 3 and 20, in odd units."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(5, 60, songs)
    lengths[::11] = 0
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    level = rng.normal(size=(songs, 24))
    frames = np.repeat(level, lengths, axis=0) + 0.5 * rng.normal(size=(offsets[-1], 24))
    frames = frames * np.geomspace(0.01, 100, 24) + 7
    mix = np.random.default_rng(9).normal(size=(2, 4))
    targets = level[:, [3, 20]] @ mix * 0.03 + 0.01
    return offsets, frames.astype(np.float32), targets.astype(np.float32)


def fitted(loss: str = "mse", songs: int = 150, **settings: Any) -> ConvNet:
    offsets, frames, targets = planted(songs, seed=0)
    standard: dict[str, Any] = {"validation_rows": np.arange(5, songs, 6), "epochs": 12}
    standard |= {"segments": T, "channels": (16, 16), "batch_size": 16, "eta": 0.005, "seed": 1}
    return fit_cnn(offsets, frames, targets, loss=loss, **standard | settings)


def unexplained(y: np.ndarray, targets: np.ndarray) -> float:
    return float(((y - targets) ** 2).sum() / ((targets - targets.mean(axis=0)) ** 2).sum())


def test_learns_the_factors_of_unseen_songs_in_their_scale() -> None:
    net = fitted()
    offsets, frames, targets = planted(80, seed=5)
    y = net.predict(offsets, frames)
    assert y.dtype == np.float32
    some = np.diff(offsets) > 0
    assert unexplained(y[some], targets[some]) < 0.4
    losses = [row.validation_loss for row in net.history]
    assert min(losses) < 0.4 < losses[0]
    assert net.history[0].loss < 1.5  # in units of predicting 0


def test_learns_by_the_weighted_prediction_error() -> None:
    """Listeners are drawn by x.y of the planted factors, which the loss is not shown."""
    rng = np.random.default_rng(0)
    offsets, frames, targets = planted(150, seed=0)
    X = rng.normal(size=(60, 4)).astype(np.float32)
    scores = X @ (targets - targets.mean(axis=0)).T
    likes = np.argsort(-scores, axis=0)[:12].T
    given = Feedback(X, np.arange(151) * 12, likes.ravel(), np.full(150 * 12, 5, np.float32))
    permuted = targets[rng.permutation(150)]
    net = fit_cnn(
        offsets, frames, permuted, loss="wpe", feedback=given, validation_rows=np.arange(5, 150, 6),
        segments=T, channels=(16, 16), batch_size=16, eta=0.005, epochs=12,
    )  # fmt: skip
    offsets, frames, targets = planted(80, seed=5)
    some = np.diff(offsets) > 0
    true = (targets @ X.T)[some]
    predicted = (net.predict(offsets, frames) @ X.T)[some]
    true, predicted = true - true.mean(axis=0), predicted - predicted.mean(axis=0)
    assert np.corrcoef(true.ravel(), predicted.ravel())[0, 1] > 0.8
    assert net.history[-1].validation_loss < 0.9 * net.history[0].validation_loss


def test_the_losses_of_a_network_that_predicts_nothing_are_one() -> None:
    """With eta 0 the weights stay as drawn, and give outputs near 0."""
    songs = 150
    given = feedback(songs)
    for loss in ("mse", "wpe"):
        net = fitted(loss, feedback=given, eta=0.0, epochs=1, validation_rows=NONE)
        assert net.history[0].loss == pytest.approx(1, abs=0.1)


def test_the_same_seed_gives_the_same_network_and_leaves_torchs_state_alone() -> None:
    offsets, frames, _ = planted(20, seed=3)
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first = fitted(epochs=2)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(8)
    again, other = fitted(epochs=2), fitted(epochs=2, seed=2)
    y = first.predict(offsets, frames)
    np.testing.assert_array_equal(y, again.predict(offsets, frames))
    assert first.history == again.history
    assert not np.array_equal(y, other.predict(offsets, frames))


def test_a_prediction_is_the_mean_over_windows_that_cover_the_song() -> None:
    net = fitted(epochs=1)
    x = np.random.default_rng(0).normal(size=(3 * T + 5, 24)).astype(np.float32)

    def alone(part: np.ndarray) -> np.ndarray:
        return net.predict(np.array([0, len(part)]), part)[0]

    three = [alone(x[start : start + T]) for start in (0, T, 2 * T)]
    np.testing.assert_allclose(alone(x[: 3 * T]), np.mean(three, axis=0), rtol=1e-4, atol=1e-7)
    # The last window ends with the song.
    four = [*three, alone(x[-T:])]
    np.testing.assert_allclose(alone(x), np.mean(four, axis=0), rtol=1e-4, atol=1e-7)
    assert not np.allclose(three[0], three[1], rtol=1e-3)
    # Songs do not see one another.
    offsets = np.array([0, 7, 7, 3 * T, len(x)])
    together = net.predict(offsets, x)
    for i in (0, 2, 3):
        expected = alone(x[offsets[i] : offsets[i + 1]])
        np.testing.assert_allclose(together[i], expected, rtol=1e-4, atol=1e-7)


def test_a_song_shorter_than_a_window_is_padded_with_the_mean_segment() -> None:
    net = fitted(epochs=1)
    x = np.random.default_rng(0).normal(size=(T, 24)).astype(np.float32)
    for length in (1, 5, T - 1):
        padded = x.copy()
        padded[length:] = net.scaler.mean
        np.testing.assert_allclose(
            net.predict(np.array([0, length, T]), x)[0],
            net.predict(np.array([0, T]), padded)[0],
            rtol=1e-4,
            atol=1e-6,
        )


def test_songs_without_segments_or_factors_are_left_out_and_counted() -> None:
    offsets, frames, targets = planted(60, seed=0)
    lengths = np.diff(offsets)
    assert (lengths == 0).sum() == 6
    targets[[1, 2]] = 0
    targets[3] = np.nan
    targets[0] = 99  # has no segments
    held_out = np.arange(5, 60, 6)
    net = fit_cnn(
        offsets, frames, targets, loss="mse", validation_rows=held_out, segments=T, channels=(8,),
        epochs=2,
    )  # fmt: skip
    assert net.left_out == {"no segments": 6, "no factors": 3}
    trained = (lengths > 0) & ~np.isin(np.arange(60), [1, 2, 3, *held_out])
    np.testing.assert_allclose(net.mean, targets[trained].mean(axis=0), rtol=1e-5)
    np.testing.assert_array_equal(net.predict(offsets, frames)[lengths == 0], [net.mean] * 6)
    used = np.repeat(trained, lengths)
    np.testing.assert_allclose(net.scaler.mean, frames[used].mean(axis=0), rtol=1e-4)
    np.testing.assert_array_equal(net.predict(np.array([0, 0]), frames[:0]), net.mean[None])


def test_the_best_epochs_weights_are_kept_and_patience_ends_it() -> None:
    """A learning rate that is far too large gets worse soon."""
    net = fitted(epochs=40, eta=0.05, patience=3, songs=40)
    losses = [row.validation_loss for row in net.history]
    assert len(losses) == int(np.argmin(losses)) + 1 + 3 < 40
    offsets, frames, targets = planted(40, seed=0)
    rows = np.arange(5, 40, 6)
    rows = rows[np.diff(offsets)[rows] > 0]
    y = net.predict(offsets, frames)
    again = ((y - targets)[rows] ** 2).mean() / net.scale**2
    assert again == pytest.approx(min(losses), rel=1e-4)
    assert all(
        row.validation_loss is None for row in fitted(epochs=2, validation_rows=NONE).history
    )


def test_frames_may_be_a_memory_map(tmp_path: Path) -> None:
    offsets, frames, targets = planted(40, seed=0)
    np.save(tmp_path / "frames.npy", frames)
    mapped = np.load(tmp_path / "frames.npy", mmap_mode="r")
    first, second = (
        fit_cnn(offsets, x, targets, loss="mse", validation_rows=NONE, segments=T, channels=(8,),
                epochs=1).predict(offsets, x)
        for x in (frames, mapped)
    )  # fmt: skip
    np.testing.assert_array_equal(first, second)


def test_the_smallest_window_of_the_configuration() -> None:
    net = fitted(epochs=1, segments=8, channels=(8, 8, 8))
    assert np.isfinite(net.history[0].loss)


def test_what_cannot_be_trained_says_so() -> None:
    offsets, frames, targets = planted(12, seed=0)
    with pytest.raises(DataError, match="none of 12 training songs"):
        fit_cnn(offsets, frames, targets * 0, loss="mse", validation_rows=NONE)
    with pytest.raises(ValueError, match="needs feedback"):
        fit_cnn(offsets, frames, targets, loss="wpe", validation_rows=NONE)
    with pytest.raises(ValueError, match=r"of \[9, 12\] songs"):
        fit_cnn(offsets, frames, targets, loss="wpe", validation_rows=NONE, feedback=feedback(9))
