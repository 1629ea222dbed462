"""All methods on the same folds: the tables, what was hidden, and what a repetition does."""

import csv
import json
import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from fusionrec.errors import ConfigError
from pipelines import compare
from pipelines import config as config_module
from pipelines.cli import main as cli
from pipelines.compare.folds import Fold, fold_workspace, read_evaluation, read_factors
from pipelines.compare.jobs import Outcome
from pipelines.compare.stage import check
from pipelines.config import Config
from pipelines.config.compare import METHODS
from pipelines.runtime.workspace import Workspace
from tests.pipelines.conftest import arguments, overrides
from tests.pipelines.inline import without_ray
from tests.pipelines.planted import optimum

RUNS = "[{k: 4, modalities: [metadata]}, {k: 6, modalities: [metadata, audio]}]"
COMPARE = {
    "ingest__segments": "full",
    "embed__modalities": "[metadata, audio]",
    # Of what learns by epochs, nothing is asserted that a few do not show.
    "train__epochs": 5,
    "compare__test_folds": "[0]",
    "compare__fusion": RUNS,
    "compare__blends": "[{signals: [neighbours-terms, popularity], context: false}]",
    "compare__seeds": 2,
    "compare__resamples": 200,
    "compare__wmf": "{factors: 12}",
    "compare__audio_words": "{codewords: 60, frames: 30}",
    "compare__methods": list(METHODS),
    "compare__neural": "{hidden: 20, epochs: 2, cnn_epochs: 1, segments: 32}",
    "compare__towers": "{epochs: 1, dimensions: 8, negatives: 20}",
    "blend__tune": False,
    "blend__landmarks": 100,
    "compare__mlr": "{queries: 60, iterations: 3}",
}


def load(corpus: Path, place: Path, **more: object) -> Config:
    return config_module.load(None, overrides(corpus, place, **{**COMPARE, **more}))


def of_fold(corpus: Path, place: Path, by: str, number: int) -> Workspace:
    return fold_workspace(Fold(by, number).config(load(corpus, place)), Workspace(str(place)))


@pytest.fixture(autouse=True)
def _no_ray(request) -> Iterator[None]:
    with nullcontext() if "ray_session" in request.fixturenames else without_ray():
        yield


@pytest.fixture(scope="module")
def place(corpus, tmp_path_factory) -> Path:
    """A workspace with a finished comparison."""
    place = tmp_path_factory.mktemp("compare") / "workspace"
    with without_ray():
        compare.STAGE.run(load(corpus, place))
    return place


@pytest.fixture(scope="module")
def tables(place) -> dict:
    return json.loads((place / "compare" / "comparison.json").read_text())


def rows(tables: dict, by: str) -> dict:
    return {row["name"]: row for row in tables[by]["rows"]}


def test_every_method_is_measured_under_both_splits(tables) -> None:
    for by in ("song", "artist"):
        found = rows(tables, by)
        assert {row["method"] for row in found.values()} == set(METHODS)
        assert not tables[by]["failed"]
        for row in found.values():
            assert 0 <= row["low"] <= row["average_precision"] <= row["high"] <= 1
            assert row["users_low"] <= row["average_precision"] <= row["users_high"]
        seeded = {name for name, row in found.items() if row["seeds"] == 2}
        networks = {"fusion k=4 metadata", "fusion k=6 metadata+audio"}
        blend = "blend neighbours-terms+popularity, other plays"
        networks |= {"fusion-factors", "fusion-ranking", "hgnn", "dlrm"}
        assert seeded == {"random", "mlp", "cnn-mse", "cnn-wpe", blend} | networks


def test_levels_are_what_they_must_be(corpus, place, tables) -> None:
    song, artist = rows(tables, "song"), rows(tables, "artist")
    for found in (song, artist):
        # The random order is at its closed form, and what knows more is above it.
        assert found["random"]["lift"] == pytest.approx(1, abs=0.15)
        assert found["random"]["auc"] == pytest.approx(0.5, abs=0.02)
        random = found["random"]
        assert random["low"] <= random["random_level"] <= random["high"]
        for name in ("wmf", "popularity-oracle", "linear-features"):
            assert found[name]["lift"] > 1.2
            assert found[name]["low"] > found["random"]["average_precision"]
        assert found["wmf"]["average_precision"] > found["linear"]["average_precision"]
    # No artist of a test song is in the training part.
    folds = of_fold(corpus, place, "artist", 0).read("split", "split")["fold"].to_numpy()
    candidates = int((folds == 0).sum())
    assert artist["popularity"]["without_input"] == candidates
    assert song["popularity"]["without_input"] < candidates
    ceilings = tables["song"]["ceilings"]
    assert song["random"]["average_precision"] < ceilings["4"] < ceilings["6"]


def test_the_planted_optimum_bounds_every_method(corpus, place, tables) -> None:
    """No ranking of the chances by which the listeners chose can be beaten, but by luck."""
    for by in ("song", "artist"):
        found = optimum(corpus, of_fold(corpus, place, by, 0))
        best = np.mean(found)
        error = np.std(found) / np.sqrt(len(found))
        honest = [row for row in tables[by]["rows"] if not row["reference"]]
        assert best > 2 * honest[0]["random_level"]
        for row in honest:
            assert row["average_precision"] < best + 2 * error, row["name"]


def test_a_row_is_the_mean_of_plain_rankings_over_the_folds(corpus, place) -> None:
    chosen = {"compare__splits": "[artist]", "compare__test_folds": "[0, 1]"}
    config = load(corpus, place, **chosen, compare__methods="[random, wmf]")
    compare.STAGE.run(config)
    found = []
    for number in (0, 1):
        fold = of_fold(corpus, place, "artist", number)
        X, Y = read_factors(fold, "all")
        part = fold.read("split", "split", ["part"])["part"].to_numpy(zero_copy_only=False)
        test = np.flatnonzero(part == "test")
        plays = fold.read("ingest", "plays")
        played = np.zeros((len(X), len(part)), bool)
        played[plays["user"], plays["song"]] = True
        for user in np.flatnonzero(played[:, test].any(1) & played[:, part != "test"].any(1)):
            order = test[np.argsort(-(Y[test] @ X[user]), kind="stable")]
            hits = played[user, order][: config.recommend.top]
            precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
            found.append((precision * hits).sum() / min(played[user, test].sum(), len(hits)))
    table = json.loads((place / "compare" / "comparison.json").read_text())["artist"]
    assert table["folds"]["users"] == len(found)
    assert table["rows"][1]["average_precision"] == pytest.approx(np.mean(found), rel=1e-5)


def test_nothing_of_the_test_songs_is_seen(corpus, place) -> None:
    fold = of_fold(corpus, place, "song", 0)
    evaluation = read_evaluation(fold)
    test = evaluation.part == "test"
    assert not test[evaluation.profiles.songs].any()
    assert test[evaluation.candidates].all()
    assert not read_factors(fold, "train")[1][test].any()
    assert read_factors(fold, "all")[1][test].any()


def finish_times(workspace: Workspace) -> dict[tuple[str, str], int]:
    """When each finished result was written."""
    files = Path(workspace.root).glob("*/*/manifest.json")
    return {(f.parts[-3], f.parts[-2]): f.stat().st_mtime_ns for f in files}


def test_a_new_method_computes_only_itself(corpus, place, tables) -> None:
    compare.STAGE.run(load(corpus, place))
    workspace = Workspace(str(place))
    times = finish_times(workspace)
    before = (place / "compare" / "comparison.md").read_bytes()
    run = "[{k: 4, modalities: [metadata]}, {k: 5, modalities: [audio]}]"
    more = load(corpus, place, compare__fusion=run, compare__splits="[song]")
    compare.STAGE.run(more)
    again = finish_times(workspace)
    assert {result: again[result] for result in times} == times
    new = sorted(stage for stage, _ in set(again) - set(times))
    # The features, the classes, their perfect ranking, two seeds of the network, and the tables.
    assert new == ["compare", "fuse", "label", "methods", "methods", "methods"]
    # The same comparison again, from what is there, gives the same tables.
    compare.STAGE.run(load(corpus, place))
    assert (place / "compare" / "comparison.md").read_bytes() == before


def test_published_figures_stand_apart(corpus, place) -> None:
    compare.STAGE.run(load(corpus, place))  # whatever another test has made the current one
    with (place / "compare" / "comparison.csv").open() as file:
        found = list(csv.DictReader(file))
    by_method = {row["method"]: row for row in found}
    assert by_method["cnn-mse"]["published"] == "0.05016"
    assert by_method["cnn-mse"]["published_by"].startswith("van den Oord")
    assert by_method["linear-features"]["published"] == ""
    text = (place / "compare" / "comparison.md").read_text()
    for line in text.splitlines():
        if "0.05016" in line:
            assert line.split("|")[-2].strip() == "0.05016 (van den Oord et al. 2013)"
    assert "## Leakage" in text
    assert r"\begin{tabular}" in (place / "compare" / "comparison.tex").read_text()


def test_a_method_that_cannot_be_computed_is_listed(corpus, place, capsys) -> None:
    chosen = {**COMPARE, "compare__fusion": "[{k: 900, modalities: [metadata]}]"}
    chosen |= {"compare__methods": "[random, fusion]", "compare__splits": "[song]"}
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--quiet", "compare", *arguments(corpus, place, **chosen), "--json"])
    printed = json.loads(capsys.readouterr().out)
    assert (printed["rankings"], printed["failed"]) == (2, 1)
    assert list(rows(printed["splits"], "song")) == ["random"]
    (reason,) = printed["splits"]["song"]["failed"].values()
    assert "900" in reason
    assert reason in (place / "compare" / "comparison.md").read_text()


BY_EPOCHS = {"mlp", "cnn-mse", "cnn-wpe", "fusion", "fusion-factors", "fusion-ranking"}
BY_EPOCHS |= {"hgnn", "dlrm"}
"""Methods whose sums may be in another order in a process with other threads."""


def test_tasks_of_ray_rank_the_same(small, ray_session, tmp_path) -> None:
    place = tmp_path / "w"
    asked = {"compare__splits": "[artist]", "compare__seeds": 1}
    chosen = load(small, place, **asked)
    found = []
    for how in (without_ray, nullcontext):
        for stage in ("methods", "compare"):
            shutil.rmtree(place / stage, ignore_errors=True)
        with how():
            compare.STAGE.run(chosen)
        table = json.loads((place / "compare" / "comparison.json").read_text())["artist"]
        assert not table["failed"]
        found.append(table["rows"])
    for here, there in zip(*found, strict=True):
        assert here["name"] == there["name"]
        assert there["seeds"] == here["seeds"]
        assert there["without_input"] == here["without_input"]
        if here["method"] not in BY_EPOCHS:
            for name in ("average_precision", "ndcg", "auc", "low", "high"):
                assert there[name] == pytest.approx(here[name], rel=1e-3), (here["name"], name)
    assert {row["method"] for row in found[1]} == set(METHODS)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"ingest__segments": "stats"}, "set ingest.segments: full"),
        ({"compare__fusion": "[{k: 4, modalities: [lyrics]}]"}, "no lyrics"),
        ({"compare__test_folds": "[5]"}, "test_folds has 5"),
        ({"compare__against": "nothing"}, "compare.against is 'nothing'"),
    ],
)
def test_settings_that_do_not_fit(corpus, place, wrong, message) -> None:
    with pytest.raises(ConfigError, match=message):
        check(load(corpus, place, **wrong))


def test_what_a_ranking_took_has_no_statistics_and_no_writing_in_it() -> None:
    counts = {
        "without_input": 0,
        "measures": {},
        "lists": {},
        "dimensions": 3,
        "seconds": {"learning": 4.0, "ranking": 0.5, "all": 9.0},
    }
    outcome = Outcome.of(None, {"key": "k", "counts": counts})  # type: ignore[arg-type, typeddict-item]
    assert (outcome.seconds, outcome.ranking) == (4.5, 0.5)
