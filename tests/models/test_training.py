from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from sklearn.utils.class_weight import compute_class_weight

from fusionrec.errors import DataError
from fusionrec.models.collective import Collective
from fusionrec.models.training import Settings, TrainingSet, class_weights, fit, predict

SETTINGS = Settings(epochs=6, batch_size=64, eta=0.001, p=0.3, class_weights=True, seed=3)


def blobs(songs: int = 300, classes: int = 3) -> TrainingSet:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(classes, 12)) * 2
    y = rng.choice(classes, size=songs, p=[0.6, 0.3, 0.1])
    x = (centres[y] + rng.normal(size=(songs, 12))).astype(np.float32)
    cut = songs * 4 // 5
    return TrainingSet(x[:cut], y[:cut], x[cut:], y[cut:], classes)


def test_class_weights_equal_scikit_learns_balanced() -> None:
    y = np.array([0, 0, 0, 1, 2, 2])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=y)
    np.testing.assert_allclose(class_weights(y, 3), expected, rtol=1e-6)
    assert class_weights(y, 4)[3] == 0


def test_learns_separable_classes() -> None:
    network, curve = fit(blobs(), SETTINGS)
    assert curve[-1].test_accuracy > 0.9
    assert curve[-1].loss < curve[0].loss
    assert [row.epoch for row in curve] == [1, 2, 3, 4, 5, 6]
    probabilities, _ = predict(network, blobs().test_x)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)


def test_same_seed_same_network() -> None:
    first, _ = fit(blobs(), SETTINGS)
    second, _ = fit(blobs(), SETTINGS)
    for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_a_remainder_of_one_song_trains() -> None:
    data = blobs(82)
    assert len(data.train_y) == 65
    _, curve = fit(data, Settings(2, 64, 0.001, 0.3, True, 0))
    assert np.isfinite(curve[-1].loss)


def test_too_few_songs_is_a_clear_error() -> None:
    data = blobs()
    empty = TrainingSet(data.train_x[:1], data.train_y[:1], data.test_x, data.test_y, 3)
    with pytest.raises(DataError, match="1 labelled training songs"):
        fit(empty, SETTINGS)


DOUBLE = replace(SETTINGS, dtype="float64")
"""In double precision, rounding that Adam amplifies stays far below any real difference."""


def _worker(rank: int, world: int, store: str, out) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    data = blobs()
    network, curve = fit(data, DOUBLE, collective=Collective(rank, world))
    if rank == 0:
        out.put(([row.loss for row in curve], predict(network, data.test_x)[0]))
    dist.destroy_process_group()


@pytest.mark.parametrize("world", [2, 3])
def test_curve_does_not_depend_on_the_number_of_workers(tmp_path, world) -> None:
    """The same loss curve to 1e-6 and F(s) to 1e-5 after 6 epochs, in double precision."""
    data = blobs()
    network, curve = fit(data, DOUBLE)
    context = mp.get_context("spawn")
    out = context.Queue()
    workers = [
        context.Process(target=_worker, args=(r, world, str(tmp_path / "store"), out))
        for r in range(world)
    ]
    for worker in workers:
        worker.start()
    losses, probabilities = out.get(timeout=120)
    for worker in workers:
        worker.join()
    np.testing.assert_allclose(losses, [row.loss for row in curve], atol=1e-6)
    expected = predict(network, data.test_x)[0]
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
