"""The fusion network on taste as methods of the comparison: what redoes them, and what they see."""

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from fusionrec.models.settings import DlrmSettings
from pipelines import compare
from pipelines.compare import dlrm, hgnn, towers
from pipelines.compare.context import Context
from pipelines.compare.folds import Fold, fold_workspace
from pipelines.config import Config
from pipelines.runtime.workspace import Workspace
from tests.pipelines.inline import load, without_ray

SETTINGS = {
    "ingest__segments": "stats",
    "embed__modalities": "[metadata, audio]",
    "fuse__modalities": "[metadata, audio]",
    "compare__splits": "[artist]",
    "compare__test_folds": "[0]",
    "compare__methods": "[random, fusion-factors, fusion-ranking]",
    "compare__fusion": "[{k: 3, modalities: [metadata]}]",
    "compare__seeds": 1,
    "compare__resamples": 100,
    "compare__wmf": "{factors: 8}",
}
TOWERS = "{epochs: 2, dimensions: 5, pairs: 64, negatives: 20}"


def chosen(corpus: Path, place: Path, **more: object) -> Config:
    return load(corpus, place, **{"compare__towers": TOWERS, **SETTINGS, **more})


@pytest.fixture(scope="module")
def place(small, tmp_path_factory) -> Path:
    """A workspace with a finished comparison."""
    place = tmp_path_factory.mktemp("towers") / "workspace"
    with without_ray():
        compare.STAGE.run(chosen(small, place))
    return place


def rankings(place: Path) -> set[str]:
    return {path.parent.name for path in place.glob("methods/*/manifest.json")}


def test_they_are_rows_of_the_comparison(place) -> None:
    table = json.loads((place / "compare" / "comparison.json").read_text())["artist"]
    assert not table["failed"]
    found = {row["name"]: row for row in table["rows"]}
    assert found["fusion-factors"]["dimensions"] == 8
    assert found["fusion-ranking"]["dimensions"] == 5 + 1
    for name in ("fusion-factors", "fusion-ranking"):
        assert found[name]["seeds"] == 1
        assert found[name]["average_precision"] != found["random"]["average_precision"]


@pytest.mark.parametrize(
    ("change", "redone"),
    [
        ({"compare__towers": TOWERS.replace("{", "{loss: wpe, ")}, 1),
        ({"compare__towers": TOWERS.replace("{", "{cold: 0.9, ")}, 1),
        ({"train__epochs": 3}, 1),
        ({"train__patience": 1}, 2),
        ({"train__p": 0.1}, 2),
        ({"train__class_weights": "false"}, 0),
    ],
    ids=["loss", "cold", "epochs", "patience", "p", "class weights"],
)
def test_a_setting_redoes_the_methods_that_have_it(small, place, change, redone) -> None:
    before = rankings(place)
    with without_ray():
        compare.STAGE.run(chosen(small, place, **change))
    assert len(rankings(place) - before) == redone


@pytest.mark.parametrize(
    ("change", "redone"),
    [
        ({"compare__dlrm": "{unknown: 0.9}"}, True),
        ({"compare__towers": "{cold: 0.9}"}, True),
        ({"compare__wmf": "{factors: 9}"}, True),
        ({"train__p": 0.1}, True),
        ({"compare__towers": "{loss: wpe}"}, False),
        ({"train__norm_group": "null"}, False),
        ({"train__epochs": 3}, False),
    ],
)
def test_dlrm_depends_on_the_settings_that_it_has(tmp_path, change, redone) -> None:
    before, after = (dlrm.settings_key(load(tmp_path, tmp_path, **more)) for more in ({}, change))
    assert (before != after) is redone


def test_an_artists_release_is_not_another_artists_of_that_title(small, place) -> None:
    """And what no training song has is unknown: under a split by artist, all of test songs."""
    with without_ray():
        config = Fold("artist", 0).config(chosen(small, place))
        context = Context(config, fold_workspace(config, Workspace(str(place))), seed=0)
    part = context.evaluation.part
    train = np.flatnonzero(part == "train")
    found = dlrm.fields(context, train, DlrmSettings())
    columns = [context.column(name).to_pylist() for name in ("artist_id", "release")]
    pairs = list(zip(*columns, strict=True))
    for name, values in (("artist", columns[0]), ("release", pairs)):
        rows = found[name].categories.rows
        assert len(rows) == len(part)
        assert (rows[part == "test"] == 0).all()
        assert (rows[train] > 0).all()
        by_row = {row: values[song] for song, row in enumerate(rows) if row}
        assert all(values[song] == by_row[rows[song]] for song in train)
        assert len(by_row) == len({values[song] for song in train})
    for name in ("mbtags", "terms"):
        assert (found[name].categories.rows > 0).mean() > 0.5


def vectors(corpus: Path, place: Path) -> list[np.ndarray]:
    """F of each method, and V of every user of the fold by id."""
    fold = Fold("artist", 0)
    with without_ray():
        compare.STAGE.run(chosen(corpus, place))
        config = fold.config(chosen(corpus, place))
        context = Context(config, fold_workspace(config, Workspace(str(place))), seed=0)
        methods = (towers.to_factors, towers.ranking, hgnn.scores, dlrm.scores)
        found = [method(context) for method in methods]
        names = context.workspace.read("ingest", "users")["user_id"]
        users = names.take(context.evaluation.users).to_pylist()
    return [(scores.F, dict(zip(users, scores.V, strict=True))) for scores in found]


def test_plays_of_test_songs_are_not_seen(small, place, tmp_path) -> None:
    """Whatever test song a user played, it was another: no vector moves."""
    with without_ray():
        config = Fold("artist", 0).config(chosen(small, place))
        context = Context(config, fold_workspace(config, Workspace(str(place))), seed=0)
        test = set(context.song_ids.take(context.evaluation.candidates).to_pylist())
    other = tmp_path / "corpus"
    shutil.copytree(small, other)
    (file,) = other.glob("tasteprofile/train_triplets.txt")
    rows = [line.split("\t") for line in file.read_text().splitlines()]
    places = [i for i, row in enumerate(rows) if row[1] in test]
    # The users stay in their order, and so in their codes.
    shuffled = [rows[i][1:] for i in random.Random(0).sample(places, len(places))]
    for i, played in zip(places, shuffled, strict=True):
        rows[i][1:] = played
    file.write_text("".join("\t".join(row) + "\n" for row in rows))
    before, after = vectors(small, place), vectors(other, tmp_path / "workspace")
    for (F, V), (F_after, V_after) in zip(before, after, strict=True):
        np.testing.assert_array_equal(F, F_after)
        common = set(V) & set(V_after)
        assert len(common) > 10
        for user in common:
            np.testing.assert_array_equal(V[user], V_after[user])
