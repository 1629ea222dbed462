"""Training on the device: the CPU's results, and checkpoints that move between the two."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fusionrec.baselines.cnn import fit_cnn
from fusionrec.features.pretraining.loop import pretrain
from fusionrec.features.pretraining.settings import MlmSettings
from fusionrec.features.pretraining.tokenizer import build_tokenizer
from fusionrec.models.batch import BatchContext, BatchShare
from fusionrec.models.collective import Collective
from fusionrec.models.epochs import precision
from fusionrec.models.examples import Examples, InMemory, TrainingSet
from fusionrec.models.recorded import RecordedStep
from fusionrec.models.settings import FusionSettings, Settings
from fusionrec.models.training import Training, fit, predict
from tests.gpu.conftest import WORDS

pytestmark = pytest.mark.gpu

CLASSES = 4


def songs(rows: int, seed: int) -> Examples:
    """Songs whose class shows in their first features; one in ten lacks the second modality."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, CLASSES, rows)
    x = rng.standard_normal((rows, 12)).astype(np.float32)
    x[np.arange(rows), y] += 2
    present = np.ones((rows, 2), bool)
    present[:, 1] = rng.random(rows) > 0.1
    return Examples(x * np.repeat(present, [8, 4], axis=1), present, y)


@pytest.fixture(scope="module")
def data() -> TrainingSet:
    fusion = FusionSettings((8, 4))
    return TrainingSet(songs(200, 0), songs(60, 1), songs(60, 2), CLASSES, fusion)


def training(data: TrainingSet, device: str, **changed: object) -> Training:
    # Without dropout: its masks come from the device's own generator.
    options = {"epochs": 4, "batch_size": 64, "eta": 0.003, "p": 0.0, "dtype": "float64"}
    settings = Settings(**{**options, "norm_group": 16, "patience": 4, **changed})
    feed = InMemory(
        data,
        batch_size=settings.batch_size,
        seed=0,
        norm_group=settings.norm_group,
        device=device,
        dtype=precision(settings.dtype, device)[1],
    )
    return Training(feed, settings, device=device)


def weights(trained: Training) -> dict[str, np.ndarray]:
    return {name: x.cpu().numpy() for name, x in trained.network.state_dict().items()}


def assert_equal_trainings(a: Training, b: Training) -> None:
    assert [row.epoch for row in a.curve] == [row.epoch for row in b.curve]
    for one, other in zip(a.curve, b.curve, strict=True):
        assert one.loss == pytest.approx(other.loss, rel=1e-6)
        assert one.validation_accuracy == other.validation_accuracy
    theirs = weights(b)
    for name, mine in weights(a).items():
        np.testing.assert_allclose(mine, theirs[name], atol=1e-5, err_msg=name)


@pytest.mark.parametrize("norm_group", [16, None])
def test_device_and_cpu_agree_in_float64(data, device, norm_group) -> None:
    trained = [training(data, place, norm_group=norm_group) for place in (device, "cpu")]
    for one in trained:
        while not one.finished:
            one.run_epoch()
    assert_equal_trainings(*trained)


@pytest.mark.parametrize("onto_cpu", [True, False])
def test_a_checkpoint_moves_between_devices(data, device, onto_cpu) -> None:
    first, second = (device, "cpu") if onto_cpu else ("cpu", device)
    whole = training(data, "cpu")
    for _ in range(4):
        whole.run_epoch()
    begun = training(data, first)
    for _ in range(2):
        begun.run_epoch()
    moved = training(data, second)
    moved.restore(begun.save())
    assert {p.device.type for p in moved.network.parameters()} == {second}
    moments = moved.optimiser.state.values()
    assert {state["exp_avg"].device.type for state in moments} == {second}
    for _ in range(2):
        moved.run_epoch()
    assert_equal_trainings(whole, moved)
    assert moved.save(best=True)
    assert {p.device.type for p in moved.result().parameters()} == {"cpu"}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_recorded_steps_learn_what_steps_one_by_one_do(data, device, dtype) -> None:
    """With dropout: a replay draws on from where the generator is."""
    recorded, single = (training(data, device, p=0.3, dtype=dtype, epochs=6) for _ in range(2))
    single._recorded = None
    for one in (recorded, single):
        while not one.finished:
            one.run_epoch()
    if device == "cuda":
        assert recorded._recorded is not None
        assert recorded._recorded.graph is not None, "no step could be recorded"
    for one, other in zip(recorded.curve, single.curve, strict=True):
        assert one.loss == pytest.approx(other.loss, rel=1e-6 if dtype == "float64" else 0.02)


def test_a_step_that_waits_for_the_device_is_not_recorded(device, caplog) -> None:
    """And is taken all the same, each time on its own rows and with the numbers that come next."""
    seen, drawn = [], []
    total_1 = torch.zeros(1, device=device)
    generator = torch.Generator(device).manual_seed(5)

    def step(rows_B: torch.Tensor) -> None:
        number = torch.rand(1, device=device, generator=generator)
        total_1.add_(rows_B.sum())
        seen.append(rows_B.sum().item())
        drawn.append(number.item())

    recorded = RecordedStep(step, 4, generator, record=device == "cuda")
    given = [torch.arange(4, device=device) + i for i in range(6)]
    before = torch.cuda.current_stream() if device == "cuda" else None
    for rows_B in given:
        recorded(rows_B)
    if before is not None:
        assert torch.cuda.current_stream() == before
    generator.manual_seed(5)
    expected = [torch.rand(1, device=device, generator=generator).item() for _ in given]
    assert drawn == expected
    assert recorded.graph is None
    assert seen == [rows_B.sum().item() for rows_B in given]
    assert total_1.item() == sum(seen)
    assert not recorded.record
    assert ("none could be recorded" in caplog.text) == (device == "cuda")


@pytest.mark.parametrize("group", [None, 16, 50])
@pytest.mark.parametrize("world", [2, 3, 5])
def test_what_is_drawn_for_a_song_does_not_depend_on_the_workers(device, world, group) -> None:
    """As on a CPU, whose numbers are other ones."""
    drawn = []
    for collective in (Collective(), *(Collective(rank, world) for rank in range(world))):
        share = BatchShare.of(230, group, collective)
        context = BatchContext(torch.Generator(device), share)
        context.reseed(7)
        context.draw(10)
        drawn.append(share.unwoven(context.draw(20).numbers()))
    assert torch.equal(drawn[0], torch.cat(drawn[1:]))
    assert drawn[0].view(torch.int64).unique().numel() == 230 * 5
    assert drawn[0].device.type == device


def test_mixed_precision_with_dropout_learns(data, device) -> None:
    settings = Settings(epochs=30, batch_size=64, eta=0.003, p=0.3, norm_group=16)
    feed = InMemory(data, batch_size=64, seed=0, norm_group=16, device=device)
    network, curve = fit(feed, settings, device=device)
    assert curve[-1].loss < 0.7 * curve[0].loss
    F, hidden = predict(network, data.test.x, data.test.present)
    assert F.shape == (60, CLASSES)
    assert hidden.shape == (60, 512)
    assert (F.argmax(axis=1) == data.test.y).mean() > 0.6


def test_masked_word_pre_training(device) -> None:
    rng = np.random.default_rng(0)
    texts = [
        " ".join(f"w{topic * 20 + i}:{1 + i % 3}" for i in rng.permutation(20)[:8])
        for topic in rng.integers(0, 10, 120)
    ]
    settings = MlmSettings(
        hidden_size=64,
        layers=1,
        heads=2,
        positions=True,
        epochs=4,
        batch_size=32,
        learning_rate=3e-3,
        dtype="float32",
    )
    tokenizer = build_tokenizer(WORDS, model_max_length=64)
    found, expected = (
        pretrain(texts, tokenizer, settings, seed=0, device=d) for d in (device, "cpu")
    )
    np.testing.assert_allclose(found.losses, expected.losses, rtol=1e-2)
    assert found.losses[-1] < found.losses[0]
    assert next(found.model.parameters()).device.type == "cpu"


def test_convolutional_network(device) -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(5, 40, 30)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    frames = rng.standard_normal((offsets[-1], 6)).astype(np.float32)
    targets = rng.standard_normal((30, 4)).astype(np.float32)
    found, expected = (
        fit_cnn(
            *(offsets, frames, targets), loss="mse", validation_rows=np.arange(25, 30),
            segments=16, channels=(8, 8), epochs=2, device=place,
        )
        for place in (device, "cpu")
    )  # fmt: skip
    np.testing.assert_allclose(
        found.predict(offsets, frames), expected.predict(offsets, frames), atol=2e-2
    )
    assert torch.isfinite(torch.tensor([row.loss for row in found.history])).all()
