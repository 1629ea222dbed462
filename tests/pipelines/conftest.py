"""One small corpus and one finished workspace for all tests of the pipeline."""

from pathlib import Path

import pytest

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
    "evaluate.resamples": 500,
}


def overrides(corpus: Path, workspace: Path, **more: object) -> list[str]:
    """The test settings as ``section.key=value``; in `more`, ``__`` stands for the dot."""
    settings = {**SETTINGS, "source.root": corpus, "workspace": workspace}
    settings |= {name.replace("__", "."): value for name, value in more.items()}
    return [f"{name}={value}" for name, value in settings.items()]


def arguments(*args: object, **kwargs: object) -> list[str]:
    """The same as command-line arguments."""
    return [part for override in overrides(*args, **kwargs) for part in ("--set", override)]


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
