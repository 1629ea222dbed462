"""Training as a stage: checkpoints, what can be watched, streaming, classes of another k."""

import csv
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fusionrec.models import checkpoint
from pipelines import config as config_module
from pipelines import train
from pipelines.runtime.workspace import Workspace
from pipelines.train.epochs import LAST
from tests.pipelines.conftest import (
    BEFORE_TRAIN,
    LONG_TRAINING,
    arguments,
    copied,
    overrides,
    probabilities,
    result,
)
from tests.pipelines.deaths import killing
from tests.pipelines.inline import without_ray


@pytest.fixture
def untrained(finished, tmp_path) -> Path:
    """A workspace in which training comes next."""
    return copied(finished, tmp_path / "workspace", *BEFORE_TRAIN)


def trained(corpus: Path, workspace: Path, **settings: object) -> dict:
    return train.STAGE.run(config_module.load(None, overrides(corpus, workspace, **settings)))[
        "counts"
    ]


def test_the_curve_is_in_csv_tensorboard_and_checkpoints(finished) -> None:
    folder = result(finished, "train")
    with (folder / "epochs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == list(range(1, 21))
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    drawn = {event.step: event.value for event in events.Scalars("train/loss")}
    assert drawn == pytest.approx({int(row["epoch"]): float(row["loss"]) for row in rows})
    counts = Workspace(str(finished)).require("train")["counts"]
    assert counts["workers"] == 0
    assert any("compiled normalisation (right on" in line for line in counts["processor"])
    assert counts["test_accuracy"] == float(rows[-1]["test_accuracy"])
    for name, epoch in (("last", 20), ("best", counts["best_epoch"])):
        content = (folder / "checkpoints" / f"{name}.safetensors").read_bytes()
        tensors, state = checkpoint.unpack(content)
        assert state["epoch"] == epoch
        assert state["settings"]["seed"] == 0
        assert "model.output.weight" in tensors


def test_an_interrupted_training_goes_on_from_its_checkpoint(
    finished, corpus, untrained, ray_session
) -> None:
    """As a killed driver leaves it: an unfinished stage with a checkpoint of epoch 10."""
    ten = {"train__epochs": 20, "train__checkpoint_every": 10}
    workspace = Workspace(str(untrained))
    plan = train.STAGE.plan(settings(corpus, untrained, **ten), workspace)
    run = workspace.begin("train", plan.content, plan.lineage)
    assert run is not None
    half = _checkpoint_after(finished, corpus, untrained, 10)
    run.write_bytes(half, *LAST)
    counts = trained(corpus, untrained, **ten)
    assert counts["resumed_after_epoch"] == 10
    np.testing.assert_array_equal(probabilities(untrained), probabilities(finished))
    with (untrained / "train" / "epochs.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 20


def settings(corpus: Path, workspace: Path, **more: object) -> config_module.Config:
    return config_module.load(None, overrides(corpus, workspace, **more))


def _checkpoint_after(finished: Path, corpus: Path, workspace: Path, epochs: int) -> bytes:
    from fusionrec.models.examples import InMemory
    from fusionrec.models.training import Training
    from pipelines.train.examples import load_training_set

    config = settings(corpus, workspace)
    # As the stage on a CPU chooses, and says in its checkpoints.
    chosen = replace(train.settings_of(config), dtype="float32")
    data = load_training_set(config, Workspace(str(finished)))
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    training = Training(InMemory(data, batch_size=chosen.batch_size, seed=chosen.seed), chosen)
    for _ in range(epochs):
        training.run_epoch()
    torch.set_num_threads(threads)
    return training.save()


def test_a_streamed_corpus_learns_as_well(
    finished, corpus, untrained, ray_session, tmp_path
) -> None:
    """In half of the other tests' epochs and larger steps: each epoch is a run of Ray Data."""
    few = {"train__epochs": 10, "train__eta": 0.003}
    counts = trained(corpus, untrained, **few, train__in_memory_mb=0, train__evaluate_every=10)
    assert counts["streamed"]
    with without_ray():
        place = copied(finished, tmp_path / "in_memory", *BEFORE_TRAIN)
        expected = trained(corpus, place, **few)
    assert not expected["streamed"]
    for name in ("train_songs", "validation_songs", "test_songs", "majority_share"):
        assert counts[name] == expected[name]
    # Another order of the songs, nothing else; on so few songs that alone moves accuracy by .16
    # (seen over processors and versions), and not learning at all leaves the majority's share.
    assert counts["test_accuracy"] > expected["test_accuracy"] - 0.2
    assert counts["test_accuracy"] > counts["majority_share"] + 0.2
    assert not list((untrained / "train").glob("*/examples_*"))


def test_train_makes_the_classes_its_config_asks_for(corpus, untrained, ray_session) -> None:
    counts = trained(corpus, untrained, label__k=3, train__epochs=2)
    assert counts["classes"] == 3
    assert probabilities(untrained).shape[1] == 3
    assert Workspace(str(untrained)).require("label")["counts"]["classes"] == 3


# --- killed ------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_killed_worker_is_replaced(corpus, untrained, long_training, ray_session) -> None:
    """Ray Train starts a new worker, which goes on from the checkpoint."""
    sign = untrained / "train" / "*" / "checkpoints" / "last.safetensors"
    with killing("RayTrainWorker", sign, times=1) as killed:
        counts = trained(corpus, untrained, **LONG_TRAINING, train__workers=1)
    assert killed
    assert 0 < counts["resumed_after_epoch"] < 150
    np.testing.assert_allclose(probabilities(untrained), long_training, atol=1e-6)


@pytest.mark.slow
def test_a_killed_driver_is_repeated(corpus, untrained, long_training) -> None:
    command = [
        sys.executable,
        "-m",
        "pipelines.train",
        *arguments(corpus, untrained, **LONG_TRAINING),
    ]
    process = subprocess.Popen(
        command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    sign = "*/checkpoints/last.safetensors"
    deadline = time.monotonic() + 120
    while not list((untrained / "train").glob(sign)):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    subprocess.run(["pkill", "-9", "-s", str(process.pid)], check=False)
    assert Workspace(str(untrained)).manifest("train") is None
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert Workspace(str(untrained)).require("train")["counts"]["resumed_after_epoch"] > 0
    np.testing.assert_allclose(probabilities(untrained), long_training, atol=1e-6)


@pytest.mark.slow
def test_two_workers_train_on_a_stream(corpus, untrained, ray_session) -> None:
    counts = trained(corpus, untrained, train__in_memory_mb=0, train__workers=2)
    assert counts["streamed"]
    assert counts["workers"] == 2
    assert counts["test_accuracy"] > counts["majority_share"]
