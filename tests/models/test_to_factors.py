"""The network's factors: its losses by hand, what it learns, and what it must not see."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fusionrec.baselines.factor_loss import FactorLoss, Feedback, scale_of
from fusionrec.baselines.factorisation import confidence
from fusionrec.errors import DataError
from fusionrec.models.settings import Settings
from fusionrec.models.to_factors import FactorTower, FactorTraining
from tests.models.planted import SONGS, TEST, TRAIN, VALIDATION, Planted, planted

SETTINGS = Settings(epochs=15, batch_size=32, eta=0.003, p=0.1, patience=5, dtype="float32")


@pytest.fixture(scope="module")
def data() -> Planted:
    return planted()


def feedback(data: Planted) -> Feedback:
    by_song = data.seen().counts.T.tocsr()
    return Feedback(
        data.factors.users,
        by_song.indptr.astype(np.int64),
        by_song.indices,
        confidence(by_song.data, 10.0, 1.0),
    )


def training(data: Planted, loss="mse", settings=SETTINGS, **changed) -> FactorTraining:
    given = {"targets": data.factors.songs, "train": TRAIN, "validation": VALIDATION, **changed}
    return FactorTraining(
        data.songs,
        given.pop("targets"),
        loss=loss,
        settings=settings,
        feedback=feedback(data) if loss == "wpe" else None,
        **given,
    )


def fitted(data: Planted, loss="mse", settings=SETTINGS, **changed) -> FactorTower:
    return training(data, loss, settings, **changed).run()


def predicted(data: Planted, model: FactorTower) -> np.ndarray:
    return model.predict(data.songs.x, data.songs.present)


@pytest.mark.parametrize("loss", ["mse", "wpe", "cosine"])
def test_cold_songs_are_ranked_by_their_content(data, loss) -> None:
    model = fitted(data, loss)
    rng = np.random.default_rng(0)
    F = predicted(data, model)
    found = data.precision(F[TEST], data.factors.users)
    shuffled = data.precision(rng.permutation(F[TEST]), data.factors.users)
    assert found > 1.5 * shuffled
    assert F.shape == data.factors.songs.shape
    # Each loss is about 1 where nothing is known.
    assert 0.5 < model.history[0].loss < 1.5
    assert min(row.validation_loss for row in model.history) < model.history[0].validation_loss


def test_losses_of_a_prediction_by_hand(data) -> None:
    rows = np.array([3, 70, 12])
    Y, X = data.factors.songs.astype(np.float64), data.factors.users.astype(np.float64)
    scale = scale_of(data.factors.songs[TRAIN])
    y = torch.randn(3, Y.shape[1], generator=torch.Generator().manual_seed(1))
    found = {
        loss: FactorLoss(loss, data.factors.songs, scale, feedback(data), TRAIN)(y, rows).numpy()
        for loss in ("mse", "wpe", "cosine")
    }
    predicted = y.double().numpy()
    np.testing.assert_allclose(
        found["mse"], np.square(predicted - Y[rows] / scale).mean(axis=1), rtol=1e-5
    )
    lengths = np.linalg.norm(predicted, axis=1) * np.linalg.norm(Y[rows], axis=1)
    np.testing.assert_allclose(
        found["cosine"], 1 - (predicted * Y[rows]).sum(axis=1) / lengths, rtol=1e-5
    )
    counts = data.seen().counts.toarray()
    c, p = np.where(counts > 0, 1 + 10 * np.log1p(counts), 1), counts > 0
    error = (c[:, rows] * np.square(p[:, rows] - X @ (predicted * scale).T)).sum(axis=0)
    of_zero = (c * p)[:, TRAIN].sum() / len(TRAIN)
    np.testing.assert_allclose(found["wpe"], error / of_zero, rtol=1e-4)


def test_it_begins_with_the_training_songs_mean(data) -> None:
    """One batch: the first epoch's loss is the variance of the factors over their mean square."""
    model = fitted(data, settings=replace(SETTINGS, epochs=1, batch_size=200))
    played = data.factors.songs[TRAIN[data.factors.songs[TRAIN].any(axis=1)]]
    expected = np.square(played - played.mean(axis=0)).mean() / np.square(played).mean()
    assert model.history[0].loss == pytest.approx(expected, rel=1e-5)


def test_other_songs_factors_change_nothing(data) -> None:
    changed = data.factors.songs.copy()
    changed[TEST] = np.random.default_rng(0).normal(size=(len(TEST), changed.shape[1]))
    first, second = fitted(data), fitted(data, targets=changed)
    np.testing.assert_array_equal(predicted(data, first), predicted(data, second))


def test_songs_without_factors_are_left_out(data) -> None:
    few = data.factors.songs.copy()
    few[TRAIN[5:]] = 0
    first, second = fitted(data, targets=few), fitted(data, train=TRAIN[:5])
    np.testing.assert_array_equal(predicted(data, first), predicted(data, second))
    few[TRAIN[1:]] = 0
    with pytest.raises(DataError, match="1 of 90 training songs have factors"):
        fitted(data, targets=few)


def test_the_weights_are_those_of_the_best_epoch(data) -> None:
    settings = replace(SETTINGS, epochs=60, eta=0.01, p=0.0, patience=3)
    model = fitted(data, settings=settings)
    losses = [row.validation_loss for row in model.history]
    assert len(losses) < 60
    assert len(losses) - 1 - int(np.argmin(losses)) == 3
    error = FactorLoss("mse", data.factors.songs, model.scale, None, TRAIN)
    y = torch.from_numpy(predicted(data, model)[VALIDATION] / np.float32(model.scale))
    found = error(y, VALIDATION).mean()
    assert float(found) == pytest.approx(min(losses), rel=1e-6)


def test_lengths_of_a_cosine_are_one_and_the_seed_counts(data) -> None:
    settings = replace(SETTINGS, epochs=2)
    one, again, other = (
        predicted(data, fitted(data, "cosine", replace(settings, seed=seed))) for seed in (0, 0, 1)
    )
    np.testing.assert_allclose(np.linalg.norm(one, axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


@pytest.mark.parametrize("operator", ["add", "multiply", "max", "min", "mean", "gated"])
def test_every_operator_fuses_for_it(data, operator) -> None:
    fusion = replace(data.songs.fusion, operator=operator, width=5)
    songs = replace(data.songs, fusion=fusion)
    model = fitted(replace(data, songs=songs), settings=replace(SETTINGS, epochs=8, p=0.0))
    F = model.predict(songs.x, songs.present)
    assert F.shape == (SONGS, data.factors.songs.shape[1])
    assert model.history[-1].loss < model.history[0].loss
