"""Regressions from content to factors."""

import numpy as np
import pytest
import torch

from fusionrec.baselines.regression import fit_linear, fit_mlp
from fusionrec.errors import DataError


@pytest.fixture
def songs() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    x = generator.normal(3.0, [1.0, 10.0, 0.1, 2.0], (300, 4))
    y = x @ generator.normal(size=(4, 3)) + generator.normal(size=(300, 3))
    return x, y


def test_linear_is_the_closed_form(songs) -> None:
    x, y = songs
    model = fit_linear(x, y, penalties=[50.0])
    z = (x - x.mean(0)) / np.sqrt(x.var(0).mean())
    A = np.linalg.solve(z.T @ z + 50.0 * np.eye(4), z.T @ (y - y.mean(0)))
    np.testing.assert_allclose(model.predict(x), z @ A + y.mean(0), rtol=1e-4)


def test_validation_songs_choose_the_penalty() -> None:
    generator = np.random.default_rng(0)
    noise = generator.normal(size=(40, 30)), generator.normal(size=(40, 2))
    other = generator.normal(size=(200, 30)), generator.normal(size=(200, 2))
    chosen = fit_linear(*noise, validation=other)
    errors = {
        penalty: np.square(fit_linear(*noise, penalties=[penalty]).predict(other[0]) - other[1])
        for penalty in (0.1, 10.0, chosen.penalty)
    }
    assert chosen.penalty >= 1000
    assert errors[chosen.penalty].mean() < min(errors[0.1].mean(), errors[10.0].mean())


def test_a_perceptron_learns_what_is_not_linear() -> None:
    generator = np.random.default_rng(0)
    x = generator.uniform(-2, 2, (600, 2))
    y = np.stack([np.abs(x[:, 0]), x[:, 0] * x[:, 1]], axis=1) * 0.01  # factors are small
    fitted, held, test = slice(0, 400), slice(400, 500), slice(500, 600)
    validation = x[held], y[held]

    def error(predicted: np.ndarray) -> float:
        return float(np.square(predicted - y[test]).mean() / y[test].var())

    mlp = fit_mlp(x[fitted], y[fitted], validation=validation, hidden=64, eta=0.01, seed=3)
    linear = fit_linear(x[fitted], y[fitted], validation=validation)
    assert error(mlp.predict(x[test])) < 0.1
    assert error(linear.predict(x[test])) > 0.7


def test_the_seed_decides_and_the_global_generator_stays(songs) -> None:
    x, y = songs
    before = torch.random.get_rng_state()
    first, again, other = (
        fit_mlp(x, y, hidden=8, epochs=2, seed=seed).predict(x) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert torch.equal(before, torch.random.get_rng_state())


def test_training_stops_and_keeps_the_best_epoch() -> None:
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(50, 20)), generator.normal(size=(50, 1))
    held = generator.normal(size=(50, 20)), generator.normal(size=(50, 1))
    stopped = fit_mlp(x, y, validation=held, hidden=100, epochs=200, patience=5)
    long = fit_mlp(x, y, hidden=100, epochs=200)
    error = [np.square(m.predict(held[0]) - held[1]).mean() for m in (stopped, long)]
    assert stopped.epochs < 100
    assert error[0] < error[1]


def test_principal_components_keep_their_sizes() -> None:
    generator = np.random.default_rng(0)
    signal, noise = generator.normal(0, 5, (60, 1)), generator.normal(0, 0.3, (60, 40))
    y = signal + generator.normal(size=(60, 1))
    other = generator.normal(0, 5, (500, 1)), generator.normal(0, 0.3, (500, 40))
    model = fit_linear(np.hstack([signal, noise]), y, penalties=[10.0])
    error = np.square(model.predict(np.hstack(other)) - other[0]).mean()
    assert error < 0.2  # with unit variances, the noise would cost about 1


def test_constant_inputs_and_no_inputs(songs) -> None:
    x, y = songs
    constant = np.hstack([x, np.full((300, 1), 7.3)])
    assert np.isfinite(fit_linear(constant, y).predict(constant)).all()
    same = np.full((300, 2), 7.3)
    np.testing.assert_allclose(fit_linear(same, y).predict(same)[0], y.mean(axis=0), rtol=1e-4)
    assert np.isfinite(fit_mlp(constant, y, hidden=4, epochs=1).predict(constant)).all()
    for empty in (x[:0], x[:, :0]):
        with pytest.raises(DataError, match="too few"):
            fit_linear(empty, y[: len(empty)])
