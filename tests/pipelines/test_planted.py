"""The ladder where the listeners are known: its order, and its share of the best there can be."""

import json

import pytest

from fusionrec.formats.sample.corpus import write_sample
from pipelines import ladder
from pipelines.compare.folds import Fold, fold_workspace
from pipelines.runtime.workspace import Workspace
from tests.pipelines.inline import load, without_ray
from tests.pipelines.planted import optimum

RUNGS = (
    "[{fusion: {k: 8, modalities: [metadata]}},"
    " {method: linear-features},"
    " {method: blend, blend: {context: false, other_plays: false}},"
    " {method: blend, blend: {other_plays: false}}]"
)


@pytest.mark.slow
def test_each_rung_is_higher_and_the_last_has_most_of_what_can_be_known(tmp_path) -> None:
    corpus, place = tmp_path / "corpus", tmp_path / "w"
    write_sample(corpus, songs=800, users=600, seed=1)
    chosen = load(
        corpus,
        place,
        embed__modalities="[metadata, audio]",
        ingest__segments="full",
        ingest__files_per_shard=400,
        train__epochs=40,
        ladder__rungs=RUNGS,
        compare__test_folds="[0]",
        blend__tune=False,
        compare__seeds=1,
        compare__resamples=300,
    )
    with without_ray():
        ladder.STAGE.run(chosen)
    ladders = json.loads((place / "ladder" / "ladder.json").read_text())["ladders"]
    for by in ("song", "artist"):
        fold = fold_workspace(Fold(by, 0).config(chosen), Workspace(str(place)))
        best = optimum(corpus, fold).mean()
        climbed = [step["average_precision"] for step in ladders[by]]
        # By artist the first two rungs are near chance, and rounding decides which is the higher.
        assert climbed[-1] > climbed[-2] > max(climbed[:-2])
        assert by == "artist" or climbed == sorted(climbed)
        assert all(step["difference_high"] > 0 for step in ladders[by][1:])
        assert 0.6 < climbed[-1] / best < 1
