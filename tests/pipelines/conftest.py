"""One small corpus and one finished workspace for all tests of the pipeline."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipelines.runtime.workspace import StageRun, Workspace

SETTINGS = {
    "cluster.num_cpus": 2,
    "ingest.files_per_shard": 50,
    "ingest.bytes_per_shard": 65536,
    "ingest.max_reject_share": 0.1,
    "label.k": 6,
    "embed.lyrics.encoder": "pretrain",
    "embed.lyrics.words": 20,
    "pretrain.hidden_size": 32,
    "pretrain.heads": 2,
    "pretrain.layers": 1,
    "pretrain.epochs": 2,
    "pretrain.workers": 0,
    "train.workers": 0,
    "train.epochs": 20,
    "train.batch_size": 32,
    "recommend.users_per_shard": 60,
    "recommend.model": "genre",
    "evaluate.resamples": 500,
}

BEFORE_TRAIN = ("ingest", "split", "label", "pretrain", "embed", "fuse")

LONG_TRAINING = {"train__epochs": 150, "train__checkpoint_every": 5, "train__evaluate_every": 5}
"""Long enough to be disturbed."""


def overrides(corpus: Path, workspace: Path, **more: object) -> list[str]:
    """The test settings as ``section.key=value``; in `more`, ``__`` stands for the dot."""
    settings = {**SETTINGS, "source.root": corpus, "workspace": workspace}
    settings |= {name.replace("__", "."): value for name, value in more.items()}
    return [f"{name}={value}" for name, value in settings.items()]


def arguments(*args: object, **kwargs: object) -> list[str]:
    """The same as command-line arguments."""
    return [part for override in overrides(*args, **kwargs) for part in ("--set", override)]


def result(workspace: Path, stage: str) -> Path:
    """The folder of a stage's current result."""
    return Path(Workspace(str(workspace)).path(stage))


def told_by(script: str, tmp_path: Path, *arguments: str) -> str:
    """Standard output of a script in a process of its own, given a workspace and arguments."""
    file = tmp_path / "script.py"
    file.write_text(script)
    done = subprocess.run(
        [sys.executable, file, str(tmp_path / "w"), *arguments],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def copied(finished: Path, target: Path, *stages: str) -> Path:
    """A workspace with some of the finished stages."""
    current = Workspace(str(finished)).current()
    for stage in stages:
        shutil.copytree(finished / stage, target / stage)
    shutil.copytree(finished / "seen", target / "seen")
    chosen = {stage: current[stage] for stage in stages}
    Workspace(str(target)).point(chosen)
    return target


def without(finished: Path, target: Path, *stages: str) -> Path:
    """A workspace with all but some of the finished stages."""
    current = Workspace(str(finished)).current()
    return copied(finished, target, *(stage for stage in current if stage not in stages))


def probabilities(workspace: Path) -> np.ndarray:
    """F(s) of the songs, of shape (n_songs, n_classes)."""
    table = Workspace(str(workspace)).read("train", "song_vectors", ["probabilities"])
    return np.array(table["probabilities"].to_pylist())


def ingest_run(workspace: Path) -> StageRun:
    """The stage of an empty workspace, begun."""
    run = Workspace(str(workspace)).begin("ingest", {})
    assert run is not None
    return run


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Path:
    """A sample corpus of 800 songs and 400 users."""
    from fusionrec.formats.sample.corpus import write_sample

    place = tmp_path_factory.mktemp("corpus") / "sample"
    write_sample(place, songs=800, users=400, seed=1)
    return place


@pytest.fixture(scope="session")
def finished(corpus, ray_session, tmp_path_factory) -> Path:
    """A workspace in which every stage is finished."""
    from pipelines import config
    from pipelines.run import run

    place = tmp_path_factory.mktemp("finished") / "workspace"
    run(config.load(None, overrides(corpus, place)))
    return place


@pytest.fixture(scope="session")
def long_training(finished, corpus, tmp_path_factory) -> np.ndarray:
    """F(s) of the long training that nothing disturbs."""
    from pipelines import config, train

    place = copied(finished, tmp_path_factory.mktemp("long") / "w", *BEFORE_TRAIN)
    train.STAGE.run(config.load(None, overrides(corpus, place, **LONG_TRAINING)))
    return probabilities(place)


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> Path:
    """A sample corpus of 150 songs and 60 users, for tests without Ray."""
    from fusionrec.formats.sample.corpus import write_sample

    folder = tmp_path_factory.mktemp("small") / "corpus"
    write_sample(folder, songs=150, users=60, seed=3)
    return folder


@pytest.fixture(scope="session")
def undisturbed(small, tmp_path_factory) -> Path:
    """The finished workspace of that corpus."""
    from pipelines.run import run
    from tests.pipelines.inline import load, without_ray

    place = tmp_path_factory.mktemp("undisturbed") / "w"
    with without_ray():
        run(load(small, place))
    return place


@pytest.fixture(scope="session")
def beside(small, undisturbed, tmp_path_factory) -> Path:
    """The same with a report, a search and a comparison."""
    from tests.pipelines.beside import finish

    place = tmp_path_factory.mktemp("beside") / "w"
    shutil.copytree(undisturbed, place)
    finish(small, place)
    return place


@pytest.fixture(scope="session")
def sound(tmp_path_factory) -> Path:
    """A sample corpus of 60 songs and 20 users."""
    from fusionrec.formats.sample.corpus import write_sample

    place = tmp_path_factory.mktemp("sound") / "corpus"
    write_sample(place, songs=60, users=20, seed=2)
    return place


@pytest.fixture
def own_corpus(sound, tmp_path) -> Path:
    """The same, for a test to change."""
    return Path(shutil.copytree(sound, tmp_path / "corpus"))
