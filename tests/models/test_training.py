import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.distributed as dist
from sklearn.utils.class_weight import compute_class_weight

from fusionrec.errors import DataError
from fusionrec.models.collective import Collective
from fusionrec.models.epochs import precision
from fusionrec.models.examples import Examples, InMemory, TrainingSet
from fusionrec.models.network import FusionNetwork
from fusionrec.models.settings import FusionSettings, Settings
from fusionrec.models.training import Training, class_weights, fit, predict
from tests import processes

SETTINGS = Settings(6, 64, p=0.3, norm_group=None, dtype="float32", seed=3)
BLOCKS = (7, 5)


def blobs(songs: int = 300, classes: int = 3) -> TrainingSet:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(classes, sum(BLOCKS))) * 2
    y = rng.choice(classes, size=songs, p=[0.6, 0.3, 0.1])
    x = (centres[y] + rng.normal(size=(songs, sum(BLOCKS)))).astype(np.float32)
    present = np.ones((songs, 2), bool)
    present[::7, 1] = False
    ends = (0, songs * 7 // 10, songs * 8 // 10, songs)
    parts = [Examples(x[a:b], present[a:b], y[a:b]) for a, b in pairwise(ends)]
    return TrainingSet(*parts, classes, FusionSettings(BLOCKS))


def feed(data: TrainingSet, settings: Settings, group: Collective | None = None) -> InMemory:
    return InMemory(
        data,
        batch_size=settings.batch_size,
        seed=settings.seed,
        norm_group=settings.norm_group,
        collective=group,
        dtype=precision(settings.dtype, "cpu")[1],
    )


def trained(settings: Settings = SETTINGS, data: TrainingSet | None = None):
    return fit(feed(data or blobs(), settings), settings)


def weights_of(network: FusionNetwork) -> list[torch.Tensor]:
    return list(network.state_dict().values())


def assert_equal(first: FusionNetwork, second: FusionNetwork) -> None:
    for a, b in zip(weights_of(first), weights_of(second), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_class_weights_equal_scikit_learns_balanced() -> None:
    y = np.array([0, 0, 0, 1, 2, 2])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=y)
    np.testing.assert_allclose(class_weights(np.bincount(y)), expected, rtol=1e-6)
    assert class_weights(np.bincount(y, minlength=4))[3] == 0


def test_learns_separable_classes() -> None:
    network, curve = trained()
    assert curve[-1].test_accuracy > 0.9
    assert curve[-1].validation_accuracy > 0.9
    assert curve[-1].loss < curve[0].loss
    assert [row.epoch for row in curve] == [1, 2, 3, 4, 5, 6]
    probabilities, _ = predict(network, blobs().test.x)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)


def test_the_loss_is_torchs_weighted_mean() -> None:
    """One batch, no dropout: the first epoch's loss is CrossEntropyLoss's on fresh weights."""
    data, settings = blobs(), replace(SETTINGS, epochs=1, batch_size=1000, p=0.0)
    training = Training(feed(data, settings), settings)
    songs = data.train
    loss = torch.nn.CrossEntropyLoss(torch.from_numpy(class_weights(np.bincount(songs.y))))
    training.network.train()
    with torch.no_grad():
        logits = training.network(torch.from_numpy(songs.x), torch.from_numpy(songs.present))
        expected = float(loss(logits, torch.from_numpy(songs.y)))
    assert training.run_epoch().loss == pytest.approx(expected, rel=1e-5)


def test_same_seed_same_network() -> None:
    assert_equal(trained()[0], trained()[0])


@pytest.mark.parametrize(
    "changed",
    [
        {"label_smoothing": 0.1},
        {"weight_decay": 0.1},
        {"schedule": "cosine"},
        {"class_weights": False},
        {"p": 0.6},
        {"modality_dropout": 0.5},
        {"norm_group": 20},
        {"dtype": "bfloat16"},
        {"dtype": "bfloat16", "norm_group": 20},
        {"seed": 4},
    ],
    ids=lambda c: next(iter(c)),
)
def test_every_option_changes_the_network(changed) -> None:
    first = trained()[0]
    second, curve = trained(replace(SETTINGS, **changed))
    assert curve[-1].test_accuracy > 0.7
    assert any(
        not torch.equal(a, b) for a, b in zip(weights_of(first), weights_of(second), strict=True)
    )


def test_the_cosine_schedule_falls_from_eta_to_almost_nothing() -> None:
    _, curve = trained(replace(SETTINGS, schedule="cosine"))
    etas = [row.eta / SETTINGS.eta for row in curve]
    expected = [(1 + math.cos(math.pi * epoch / 6)) / 2 for epoch in range(6)]
    np.testing.assert_allclose(etas, expected)


def test_early_stopping_keeps_the_best_epoch() -> None:
    """Noise for labels: validation accuracy soon stops rising."""
    data = blobs()
    noise = np.random.default_rng(1)
    parts = [replace(e, y=noise.integers(0, 3, len(e.y))) for e in (data.train, data.validation)]
    data = replace(data, train=parts[0], validation=parts[1])
    settings = replace(SETTINGS, epochs=200, patience=5, evaluate_every=1)
    training = Training(feed(data, settings), settings)
    while not training.finished:
        training.run_epoch()
    assert training.epoch < 200
    assert training.epoch - training.best_epoch == 5
    best = max(row.validation_accuracy for row in training.curve)
    assert training.curve[training.best_epoch - 1].validation_accuracy == best
    network = training.result()
    right = predict(network, data.validation.x, data.validation.present)[0].argmax(1)
    assert (right == data.validation.y).mean() == pytest.approx(best)


@pytest.mark.parametrize("stop", [1, 4])
@pytest.mark.parametrize("options", [{}, {"schedule": "cosine", "weight_decay": 0.01}])
def test_a_restored_training_goes_on_as_if_it_had_not_stopped(stop, options) -> None:
    settings = replace(SETTINGS, **options)
    whole = Training(feed(blobs(), settings), settings)
    while not whole.finished:
        whole.run_epoch()
    first = Training(feed(blobs(), settings), settings)
    for _ in range(stop):
        first.run_epoch()
    content = first.save()
    second = Training(feed(blobs(), settings), settings)
    second.restore(content)
    assert second.epoch == stop
    while not second.finished:
        second.run_epoch()
    timeless = [[replace(row, seconds=0) for row in t.curve] for t in (whole, second)]
    assert timeless[0] == timeless[1]
    assert second.best_epoch == whole.best_epoch
    assert_equal(whole.result(), second.result())


def test_a_checkpoint_of_other_settings_is_refused() -> None:
    training = Training(feed(blobs(), SETTINGS), SETTINGS)
    training.run_epoch()
    other = replace(SETTINGS, eta=0.01)
    with pytest.raises(DataError, match="other settings"):
        Training(feed(blobs(), other), other).restore(training.save())


def test_the_curve_has_about_a_hundred_rows_and_the_last_epoch() -> None:
    settings = replace(SETTINGS, epochs=25, evaluate_every=10)
    _, curve = trained(settings, blobs(60))
    assert [row.epoch for row in curve] == [10, 20, 25]


def test_a_remainder_of_one_song_trains() -> None:
    data = blobs(93)
    assert len(data.train.y) == 65
    _, curve = trained(replace(SETTINGS, epochs=2), data)
    assert np.isfinite(curve[-1].loss)


def test_a_part_without_songs_has_no_accuracy() -> None:
    data = blobs()
    empty = Examples(data.test.x[:0], data.test.present[:0], data.test.y[:0])
    _, curve = trained(data=replace(data, validation=empty))
    assert curve[-1].validation_accuracy is None
    assert curve[-1].test_accuracy > 0.9


def test_too_few_songs_is_a_clear_error() -> None:
    data = blobs()
    one = Examples(data.train.x[:1], data.train.present[:1], data.train.y[:1])
    with pytest.raises(DataError, match="1 labelled training songs"):
        feed(replace(data, train=one), SETTINGS)


DOUBLE = replace(SETTINGS, dtype="float64")
"""In double precision, rounding that Adam amplifies stays far below any real difference."""
GATED = FusionSettings(BLOCKS, "gated", absent="learned", width=8)


def _worker(
    rank: int, world: int, store: str, shares: bool, data: TrainingSet, settings: Settings, out
) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    group = Collective.joined(rank, world) if shares else Collective(rank, world)
    assert shares == (group.memory is not None)
    network, curve = fit(feed(data, settings, group), settings, collective=group)
    if rank == 0:
        out.put(
            ([row.loss for row in curve], curve[-1].test_accuracy, predict(network, data.test.x)[0])
        )
    dist.destroy_process_group()


@pytest.mark.parametrize(
    ("world", "shares", "fusion", "norm_group", "modality_dropout"),
    [
        (2, False, FusionSettings(BLOCKS), None, 0.0),
        (3, False, FusionSettings(BLOCKS), 16, 0.0),
        (2, True, GATED, None, 0.0),
        (2, True, GATED, 16, 0.3),
        (3, True, FusionSettings(BLOCKS), None, 0.0),
        (3, True, FusionSettings(BLOCKS), 16, 0.0),
    ],
)
def test_curve_does_not_depend_on_the_number_of_workers(
    tmp_path, world, shares, fusion, norm_group, modality_dropout
) -> None:
    """Through a process group, or memory that they share.

    The same loss curve to 1e-6 and F(s) to 1e-5 after 6 epochs, in double precision.

    210 songs in batches of 64 leave one of 18: one group, or two workers without any.
    """
    data = replace(blobs(), fusion=fusion)
    settings = replace(DOUBLE, norm_group=norm_group, modality_dropout=modality_dropout)
    network, curve = trained(settings, data)
    context = processes.context()
    out, store = context.Queue(), str(tmp_path / "store")
    workers = [
        context.Process(target=_worker, args=(rank, world, store, shares, data, settings, out))
        for rank in range(world)
    ]
    for worker in workers:
        worker.start()
    losses, accuracy, probabilities = out.get(timeout=120)
    for worker in workers:
        worker.join()
    np.testing.assert_allclose(losses, [row.loss for row in curve], atol=1e-6)
    assert accuracy == curve[-1].test_accuracy
    expected = predict(network, data.test.x)[0]
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
