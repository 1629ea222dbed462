"""Vectors of one's own through the stages: a modality, a signal and a reason by their name."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fusionrec.errors import ConfigError, DataError
from fusionrec.features.moments import PCA, CoMoments, Moments, Scaler
from fusionrec.signals import content, context
from fusionrec.signals.registry import SIGNALS, names
from fusionrec.tables import matrix
from pipelines import blend, compare, config, embed, fuse, ladder
from pipelines.cli.recommend import for_user
from pipelines.compare import own
from pipelines.compare.context import Context
from pipelines.compare.folds import Fold, fold_workspace
from pipelines.compare.methods import SPECS
from pipelines.config.features import TAKEN
from pipelines.run import run
from pipelines.runtime import gpus, stage, workspace
from pipelines.runtime.workspace import Manifest, Workspace
from tests.pipelines.inline import load, without_ray
from tests.pipelines.tables import TABLES, stand_in

OWN = {
    **TABLES,
    "embed__modalities": "[metadata, clap]",
    "recommend__model": "blend",
    "blend__tune": "false",
}


@pytest.fixture(autouse=True)
def _no_ray(undisturbed, monkeypatch) -> Iterator[None]:
    stand_in(monkeypatch, undisturbed)
    with without_ray():
        yield


@pytest.fixture(scope="module")
def place(small, undisturbed, tmp_path_factory) -> Path:
    """A workspace after a run."""
    place = tmp_path_factory.mktemp("own") / "w"
    with pytest.MonkeyPatch.context() as monkeypatch, without_ray():
        stand_in(monkeypatch, undisturbed)
        run(load(small, place, **OWN))
    return place


def manifest(place: Path, stage: str) -> Manifest:
    return Workspace(str(place)).require(stage)


def test_they_are_embedded_as_they_are_and_counted(place) -> None:
    workspace = Workspace(str(place))
    given, table = workspace.read("ingest", "vectors_clap"), workspace.read("embed", "clap")
    assert table.equals(given)
    counts = manifest(place, "embed")["counts"]["clap"]
    present = given["present"].to_numpy(zero_copy_only=False)
    assert counts == {
        "songs": len(present),
        "songs_with_vector": present.sum(),
        "dimension": 12,
    }
    assert 0 < present.sum() < len(present)
    assert "covers" not in workspace.names("embed")


def test_they_are_standardised_and_reduced_beside_the_others(small, place) -> None:
    """By each modality where PCA is its own; a song without them has its other block alone."""
    chosen = load(small, place, **OWN, fuse__missing="learned")
    key = fuse.STAGE.run(chosen, current=False)["key"]
    workspace = Workspace(str(place)).at({"fuse": key})
    counts = workspace.require("fuse")["counts"]
    table = workspace.read("embed", "clap")
    rows, present = matrix(table["vector"]), table["present"].to_numpy(zero_copy_only=False)
    train = workspace.read("split", "split")["part"].to_numpy(zero_copy_only=False) == "train"
    fitted = rows[train & present]
    scaler = Scaler.fit(Moments.of(fitted, np.ones_like(fitted, bool)))
    scaled = scaler.transform(rows, np.ones_like(rows, bool))
    pca = PCA.fit(CoMoments.of(scaled[train & present]), chosen.fuse.variance)
    fused = matrix(workspace.read("fuse", "fused")["vector"])[:, -counts["blocks"][1] :]
    np.testing.assert_allclose(np.abs(fused[present]), np.abs(pca.transform(scaled))[present],
                               atol=1e-3)  # fmt: skip
    assert not fused[~present].any()
    assert counts["songs_without"] == {"metadata": 0, "clap": (~present).sum()}


@pytest.mark.parametrize("missing", ["neutral", "drop"])
def test_songs_without_them_are_kept_or_dropped(small, place, missing) -> None:
    key = fuse.STAGE.run(load(small, place, **OWN, fuse__missing=missing), current=False)["key"]
    counts = Workspace(str(place)).at({"fuse": key}).require("fuse")["counts"]
    without = counts["songs"] - manifest(place, "embed")["counts"]["clap"]["songs_with_vector"]
    left = without if missing == "drop" else 0
    assert counts["songs"] - counts["songs_with_features"] == left


def test_they_alone_can_be_fused(small, place) -> None:
    chosen = load(small, place, **OWN, fuse__modalities="[clap]", fuse__operator="gated")
    counts = fuse.STAGE.run(chosen, current=False)["counts"]
    embedded = manifest(place, "embed")["counts"]["clap"]
    assert counts["features"] == 12
    assert counts["songs_with_features"] == embedded["songs_with_vector"]


def test_the_blend_weighs_them_and_says_so(place) -> None:
    with (place / "blend" / "weights.csv").open() as file:
        rows = {row["signal"]: row for row in csv.DictReader(file)}
    assert list(rows) == [*SIGNALS, "neighbours-clap"]
    found = rows["neighbours-clap"]
    assert (found["kind"], found["modality"]) == ("content", "clap")
    workspace = Workspace(str(place))
    user = workspace.read("recommend", "recommendations")["user_id"][4].as_py()
    songs = for_user(workspace.uri, user, 6, why=True).songs
    for song in songs:
        assert song.why is not None
        for parts in (song.why.signals, song.why.modalities, song.why.kinds):
            assert sum(parts.values()) == pytest.approx(song.score, rel=1e-4, abs=1e-4)


def test_a_blend_of_them_alone_is_explained_by_them(small, place, tmp_path) -> None:
    chosen = load(small, place, **OWN, blend__signals="[neighbours-clap]")
    run(chosen)
    workspace = Workspace(str(place))
    assert workspace.require("blend")["counts"]["weights"].keys() == {"neighbours-clap"}
    user = workspace.read("recommend", "recommendations")["user_id"][4].as_py()
    (best, *_) = for_user(workspace.uri, user, 6, why=True).songs
    assert best.why is not None
    assert best.why.modalities["clap"] == pytest.approx(best.score, abs=1e-4)
    run(load(small, place, **OWN))


COMPARE = {
    **OWN,
    "embed__modalities": "[clap, covers]",
    "compare__splits": "[artist]",
    "compare__test_folds": "[0]",
    "compare__methods": "[random, fusion, linear-features, fusion-factors, fusion-ranking, hgnn,"
    " dlrm, blend]",
    "compare__fusion": "[{k: 3, modalities: [clap]}, {k: 3, modalities: [clap, covers]}]",
    "compare__blends": "[{signals: [neighbours-clap, taste]}]",
    "compare__seeds": 1,
    "compare__resamples": 100,
    "compare__wmf": "{factors: 8}",
    "compare__towers": "{epochs: 2, dimensions: 5, pairs: 64, negatives: 20}",
}


def test_every_method_that_is_fed_with_features_takes_them(small, tmp_path) -> None:
    place = tmp_path / "w"
    compare.STAGE.run(load(small, place, **COMPARE))
    table = json.loads((place / "compare" / "comparison.json").read_text())["artist"]
    assert not table["failed"]
    found = {row["name"]: row for row in table["rows"]}
    assert {
        "fusion k=3 clap",
        "fusion k=3 clap+covers",
        "blend neighbours-clap+taste, other plays",
    } <= set(found)
    assert found["fusion k=3 clap"]["modalities"] == ["clap"]
    for name in ("linear-features", "fusion-factors", "fusion-ranking", "hgnn", "dlrm"):
        assert found[name]["average_precision"] != found["random"]["average_precision"], name
    # What a method of one's own is given.
    chosen = Fold("artist", 0).config(load(small, place, **COMPARE))
    where = fold_workspace(chosen, Workspace(str(place)))
    given = own._given(Context(chosen, where, 0))
    table = Workspace(str(place)).read("ingest", "vectors_clap")
    present = table["present"].to_numpy(zero_copy_only=False)
    assert list(given.features) == ["clap", "covers"]
    np.testing.assert_array_equal(given.features["clap"].present, present)
    np.testing.assert_array_equal(given.features["clap"].x, matrix(table["vector"]))
    assert given.fused.x.shape[1] <= 12 + 3


# --- the config --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"embed__modalities": "[metadata, clip]"},
            r"embed\.modalities names the modality 'clip': there are metadata, lyrics, audio, "
            r"clap, covers; vectors of your own are named by source\.tables\.features",
        ),
        ({"fuse__modalities": "[covers]"}, r"names covers, but embed\.modalities does not"),
        ({"fuse__modalities": "[clip]"}, r"fuse\.modalities names the modality 'clip'"),
        (
            {"compare__fusion": "[{k: 3, modalities: [clip]}]"},
            r"compare\.fusion names the modality 'clip'",
        ),
        (
            {"ladder__rungs": "[{method: random}, {fusion: {modalities: [clip]}}]"},
            r"ladder\.rungs names the modality 'clip'",
        ),
        ({"source__format": "msd"}, r"'clap': there are metadata, lyrics, audio; vectors"),
        ({"embed__modalities": "[clap, audio]"}, r"source\.format: tables has none: take vectors"),
        (
            {"source__tables": "{features: {terms: t.npy, clap: c.npy}}"},
            "has terms, which means something else beside a modality: take another name, such as",
        ),
    ],
)
def test_a_name_that_is_no_modality_is_refused(small, tmp_path, wrong, message) -> None:
    with pytest.raises(ConfigError, match=message):
        load(small, tmp_path / "w", **{**OWN, **wrong})


def test_names_of_the_signals_own_similarities_are_taken() -> None:
    """Else `neighbours-terms` were two signals, and a reason by modality told one for the other."""
    of_signals = {spec.modality for spec in SIGNALS.values()} - {"metadata", "lyrics", "audio"}
    assert {*content.KERNELS, *context.KERNELS, *of_signals} <= TAKEN | {"lyrics", "audio"}


def test_what_else_lies_beside_vectors_is_taken() -> None:
    """Else what a run notes of its work were taken for vectors, or they for it."""
    assert {*stage._STAGING, *gpus._NO_WORK, workspace._CHOICES, "word2vec"} <= TAKEN


def test_signals_are_those_of_the_embedded_vectors(small, tmp_path) -> None:
    assert set(names(True, ["clap"])) - set(names()) == {"neighbours-clap"}
    chosen = load(small, tmp_path / "w", **OWN, blend__signals="[neighbours-covers]")
    assert blend.STAGE.check is not None
    with pytest.raises(ConfigError, match=r"'neighbours-covers': there are .*'neighbours-clap'"):
        blend.STAGE.check(chosen)
    rungs = "[{method: random}, {change: covers, fusion: {k: 3, modalities: [covers]}}]"
    chosen = load(small, tmp_path / "w", **OWN, ladder__rungs=rungs)
    assert [run.modalities for run in ladder.as_comparison(chosen).compare.fusion] == []
    assert set(SPECS) >= {"linear-features", "hgnn"}


def test_vectors_of_no_song_are_named(small, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(
        "tests.pipelines.tables.clap",
        lambda songs: (np.zeros((songs.num_rows, 2), np.float32), np.zeros(songs.num_rows, bool)),
    )
    with pytest.raises(DataError, match=r"no song of the corpus has a vector of clap: its song"):
        run(load(small, tmp_path / "w", **OWN))


def test_round_trip(tmp_path) -> None:
    chosen = config.load(None, ["source.format=tables", "source.tables={features: {clap: c.npy}}",
                                "embed.modalities=clap", "fuse.modalities=clap"])  # fmt: skip
    assert chosen.embed.modalities == chosen.fuse.modalities == ("clap",)
    (tmp_path / "c.yaml").write_text(config.to_yaml(chosen))
    assert config.load(tmp_path / "c.yaml") == chosen
    assert embed.STAGE.settings(chosen)["embed"]["modalities"] == ("clap",)
