"""Nodes that are lost in the midst of a stage: its results are those of an undisturbed one."""

from pathlib import Path

import numpy as np
import pytest

from pipelines.runtime.workspace import Workspace
from tests.pipelines.conftest import (
    BEFORE_TRAIN,
    LONG_TRAINING,
    copied,
    overrides,
    probabilities,
)
from tests.pipelines.deaths import lose_nodes
from tests.pipelines.test_tune import SMALL

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

SEARCH = {**SMALL, "train__epochs": 60, "tune__scheduler": "none"}


@pytest.fixture(scope="module")
def places(corpus, finished, tmp_path_factory) -> dict[str, Path]:
    """A workspace of each stage that lost a node while it worked, all on one cluster."""
    folder = tmp_path_factory.mktemp("lost")
    found = {
        "ingest": folder / "ingest",
        "embed": copied(finished, folder / "embed", "ingest", "split", "pretrain"),
        "train": copied(finished, folder / "train", *BEFORE_TRAIN),
        "tune": copied(finished, folder / "tune", *BEFORE_TRAIN),
    }
    settings = {
        "ingest": overrides(corpus, found["ingest"], ingest__files_per_shard=4),
        "embed": overrides(corpus, found["embed"]),
        "train": overrides(corpus, found["train"], **LONG_TRAINING, train__workers=1),
        "tune": overrides(corpus, found["tune"], **SEARCH),
    }
    lose_nodes(settings)
    return found


@pytest.mark.parametrize(
    ("stage", "artifact"),
    [("ingest", "songs"), ("ingest", "users"), ("embed", "metadata"), ("embed", "lyrics")],
)
def test_the_artifacts_are_those_of_an_undisturbed_stage(places, finished, stage, artifact) -> None:
    found, expected = (
        Workspace(str(place)).read(stage, artifact) for place in (places[stage], finished)
    )
    assert found.equals(expected)


def test_a_training_goes_on_on_another_node(places, long_training) -> None:
    """The node of the only worker is removed; another one takes its place."""
    counts = Workspace(str(places["train"])).require("train")["counts"]
    assert counts["resumed_after_epoch"] > 0
    np.testing.assert_allclose(probabilities(places["train"]), long_training, atol=1e-6)


def test_trials_of_a_search_are_tried_again(places) -> None:
    """Elsewhere, and what they share is made again if it lay there."""
    rows = Workspace(str(places["tune"])).read_json("tune", "trials.json")
    assert len(rows) == 4
    assert all(row["error"] is None and row["epoch"] == 60 for row in rows)
