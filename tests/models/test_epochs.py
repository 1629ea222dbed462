"""What every tower's training shares: epochs, patience, checkpoints, and models that are stored."""

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from fusionrec.errors import DataError
from fusionrec.models.epochs import EpochTraining
from fusionrec.models.hgnn import GraphModel, GraphTraining
from fusionrec.models.ranking import RankingModel
from fusionrec.models.settings import Settings
from fusionrec.models.to_factors import FactorTower
from tests.models import test_hgnn, test_ranking, test_to_factors
from tests.models.planted import TEST, TRAIN, VALIDATION, Planted, planted

SETTINGS = Settings(
    epochs=6, batch_size=32, eta=0.003, p=0.2, norm_group=16, dtype="float32", patience=3, seed=5
)
Make = Callable[..., EpochTraining]


def graph_training(data: Planted, settings: Settings, **changed) -> GraphTraining:
    return GraphTraining(
        data.songs.x,
        data.plays,
        test_hgnn.graph(data, data.plays),
        train=TRAIN,
        validation=changed.get("validation", VALIDATION),
        settings=settings,
        ranking=test_hgnn.RANKING,
        shape=test_hgnn.SHAPE,
    )


MAKERS: dict[str, Make] = {
    "factors": lambda data, settings, **more: test_to_factors.training(
        data, settings=settings, **more
    ),
    "ranking": test_ranking.training,
    "hgnn": graph_training,
}


@pytest.fixture(scope="module")
def data() -> Planted:
    return planted()


@pytest.fixture(params=MAKERS)
def make(request) -> Make:
    return MAKERS[request.param]


def vectors(data: Planted, model: FactorTower | RankingModel | GraphModel) -> list[np.ndarray]:
    """What a model says of songs, and of users if it does."""
    if isinstance(model, FactorTower):
        return [model.predict(data.songs.x, data.songs.present)]
    counts, users = data.seen().counts, test_ranking.EVERYONE
    if isinstance(model, GraphModel):
        return [model.vectors, model.users(counts, users)]
    said = test_ranking.said_by(model, data)
    return [said.content, said.warm, said.users]


def timeless(training: EpochTraining) -> list[object]:
    return [replace(row, seconds=0) for row in training.curve]


@pytest.mark.parametrize("options", [{}, {"schedule": "cosine", "weight_decay": 0.01}])
def test_a_restored_training_goes_on_as_if_it_had_not_stopped(data, make, options) -> None:
    settings = replace(SETTINGS, patience=None, epochs=4, **options)
    whole, first, second = (make(data, settings) for _ in range(3))
    whole_model = whole.run()
    for _ in range(2):
        first.run_epoch()
    second.restore(first.save())
    assert second.epoch == 2
    model = second.run()
    assert timeless(whole) == timeless(second)
    assert second.best_epoch == whole.best_epoch
    for one, other in zip(vectors(data, whole_model), vectors(data, model), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_checkpoint_of_other_settings_is_refused(data, make) -> None:
    training = make(data, SETTINGS)
    training.run_epoch()
    with pytest.raises(DataError, match="other settings"):
        make(data, replace(SETTINGS, eta=0.1)).restore(training.save())


def test_a_checkpoint_of_other_factors_is_refused(data) -> None:
    """The same settings, but an output means something else."""
    training = test_to_factors.training(data, settings=SETTINGS)
    training.run_epoch()
    twice = test_to_factors.training(data, settings=SETTINGS, targets=2 * data.factors.songs)
    with pytest.raises(DataError, match="other settings"):
        twice.restore(training.save())


def test_early_stopping_keeps_the_best_epoch(data, make) -> None:
    settings = replace(SETTINGS, epochs=80, eta=0.02, p=0.0, patience=2)
    training = make(data, settings)
    while not training.finished:
        training.run_epoch()
    losses = [row.validation_loss for row in training.curve]
    assert training.epoch == len(losses) < 80
    assert training.best_epoch == int(np.argmin(losses)) + 1 == training.epoch - 2
    assert training.validation_loss() == losses[-1] != min(losses)
    stored = load(training.save(best=True))
    training.result()
    assert training.validation_loss() == pytest.approx(min(losses), rel=1e-6)
    weights = training.module.state_dict()
    assert stored.keys() == {f"model.{name}" for name in weights}
    for name, expected in weights.items():
        torch.testing.assert_close(stored[f"model.{name}"], expected, rtol=0, atol=0)


def test_without_patience_the_weights_are_the_last(data, make) -> None:
    settings = replace(SETTINGS, epochs=3, patience=None)
    training = make(data, settings)
    while not training.finished:
        training.run_epoch()
    before = {name: x.clone() for name, x in training.module.state_dict().items()}
    training.result()
    for name, x in training.module.state_dict().items():
        torch.testing.assert_close(x, before[name], rtol=0, atol=0)


def test_without_validation_songs_the_training_loss_is_the_measure(data, make) -> None:
    training = make(data, replace(SETTINGS, epochs=4), validation=TEST[:0])
    training.run()
    losses = [row.loss for row in training.curve]
    assert [row.validation_loss for row in training.curve] == [None] * len(losses)
    assert training.best_epoch == int(np.argmin(losses)) + 1


def test_epochs_are_evaluated_as_often_as_is_asked_for(data, make) -> None:
    training = make(data, replace(SETTINGS, epochs=5, evaluate_every=2, patience=None))
    rows = [training.run_epoch() for _ in range(5)]
    assert [row is not None for row in rows] == [False, True, False, True, True]
    assert [row.epoch for row in training.curve] == [2, 4, 5]
    assert [row.eta for row in training.curve] == [SETTINGS.eta] * 3


@pytest.mark.parametrize("objective", ["mse", "cosine", "ranking"])
def test_a_stored_model_says_the_same_without_what_it_learned_from(data, objective) -> None:
    settings = replace(SETTINGS, epochs=2)
    fusion = replace(data.songs.fusion, operator="gated", absent="learned", width=5)
    data = replace(data, songs=replace(data.songs, fusion=fusion))
    kind: type[FactorTower] | type[RankingModel] = FactorTower
    if objective == "ranking":
        kind = RankingModel
        model = test_ranking.training(data, settings).run()
    else:
        model = test_to_factors.training(data, objective, settings).run()
    content = save(model.tensors())
    again = kind.load(json.loads(json.dumps(model.description())), load(content))
    for one, other in zip(vectors(data, model), vectors(data, again), strict=True):
        np.testing.assert_array_equal(one, other)
