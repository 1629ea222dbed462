"""The pretrain stage: its model without positions, its key, its workers, its progress."""

import contextlib
import shutil
import time

import pytest
import torch
from transformers import AutoTokenizer, RobertaModel

from fusionrec.errors import DataError
from fusionrec.features.lyrics.encoder import load_encoder
from fusionrec.models.collective import Collective
from pipelines import config, pretrain
from pipelines.runtime import distributed, progress
from pipelines.runtime.workspace import StageRun, Workspace
from tests.pipelines.conftest import overrides


@pytest.fixture
def copy(finished, tmp_path):
    """A copy of the finished workspace, without its pre-trained encoder."""
    place = tmp_path / "copy"
    shutil.copytree(finished, place)
    shutil.rmtree(place / "pretrain")
    return place


def test_what_only_moves_the_work_is_not_in_the_key(corpus, tmp_path) -> None:
    plain = config.load(None, overrides(corpus, tmp_path))
    moved = config.load(
        None, overrides(corpus, tmp_path, pretrain__workers=3, pretrain__num_gpus=1)
    )
    other = config.load(None, overrides(corpus, tmp_path, pretrain__positions=False))
    settings = pretrain.STAGE.settings
    assert settings(plain) == settings(moved)
    assert (settings(plain) == settings(other)) == (not plain.pretrain.positions)


def test_the_manifest_says_how_well_the_encoder_predicts(finished) -> None:
    counts = Workspace(str(finished)).require("pretrain")["counts"]
    words = Workspace(str(finished)).read("ingest", "vocabulary").num_rows
    assert 1 < counts["unigram_perplexity"] < words
    assert 1 < counts["heldout_perplexity"] < 2 * words
    assert counts["bags"] > 100
    assert counts["steps"] == 2 * -(-(counts["bags"] - round(counts["bags"] * 0.05)) // 64)
    assert counts["parameters"] > 10_000


@pytest.mark.parametrize("positions", [True, False])
def test_the_encoder_takes_as_many_words_as_the_config_says(
    corpus, copy, ray_session, positions
) -> None:
    chosen = config.load(None, overrides(corpus, copy, pretrain__positions=positions))
    pretrain.STAGE.run(chosen)
    folder = copy / "pretrain" / "model"
    tokens = 2 * 20 + 2 if positions else 20 + 2
    assert load_encoder(str(folder)).max_tokens == tokens
    table = RobertaModel.from_pretrained(folder).embeddings.position_embeddings.weight
    assert bool((table == 0).all()) == (not positions)
    word = Workspace(str(copy)).read("ingest", "vocabulary")["word"][0].as_py()
    ids = AutoTokenizer.from_pretrained(folder)(f"{word}:2")["input_ids"]
    assert len(ids) == (4 if positions else 3)


@pytest.mark.slow
def test_two_ray_train_workers_train_what_one_task_does(
    finished, corpus, copy, ray_session
) -> None:
    """Weights to 0.02 and perplexity to 1 %: in bfloat16 rounding is larger than Adam forgives.

    tests/features/pretraining/test_loop.py shows that nothing but rounding differs.
    """
    pretrain.STAGE.run(config.load(None, overrides(corpus, copy, pretrain__workers=2)))
    one, two = (Workspace(str(place)).require("pretrain") for place in (finished, copy))
    assert one["key"] == two["key"]
    for count in ("bags", "steps", "parameters"):
        assert one["counts"][count] == two["counts"][count]
    for name in ("heldout_perplexity", "unigram_perplexity"):
        assert one["counts"][name] == pytest.approx(two["counts"][name], rel=0.01)
    models = [
        RobertaModel.from_pretrained(place / "pretrain" / "model", add_pooling_layer=False)
        for place in (finished, copy)
    ]
    for (name, a), b in zip(
        models[0].state_dict().items(), models[1].state_dict().values(), strict=True
    ):
        torch.testing.assert_close(a, b, atol=0.02, rtol=0, msg=lambda m, name=name: f"{name} {m}")


def _bad_data(job, collective: Collective, device: str) -> dict:
    raise DataError(f"{job['bad']} is bad")


def stage_run(place) -> StageRun:
    return StageRun(Workspace(str(place)), "stage", "key", {}, time.time())


def test_bad_data_is_raised_on_the_driver_and_a_repeated_run_forgets_it(
    ray_session, tmp_path
) -> None:
    run = stage_run(tmp_path)
    with pytest.raises(DataError, match="it is bad"):
        distributed.run(_bad_data, {"bad": "it"}, run, workers=0, num_gpus=0, patience=60)
    good = distributed.run(_good_data, {"good": "it"}, run, workers=0, num_gpus=0, patience=60)
    assert good == {"job": "it"}


def _good_data(job, collective: Collective, device: str) -> dict:
    return {"job": job["good"]}


def test_progress_travels_to_the_driver(tmp_path, monkeypatch) -> None:
    shown: list[object] = []

    @contextlib.contextmanager
    def show(description: str, total: int):
        shown.append((description, total))
        yield shown.append

    monkeypatch.setattr(progress, "_shown", show)
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LOOKS", 0.01)
    run = stage_run(tmp_path)
    run.write_json({"step": 9, "total": 10}, "progress.json")  # left by an interrupted run
    report = progress.Reporter(run, seconds=0.0)
    with progress.watched(run, "working"):
        for step in (3, 10, 4):
            report(step, 10)
            while sum(n for n in shown[1:] if isinstance(n, int)) != step:
                time.sleep(0.01)
    assert shown[0] == ("working", 10)
    assert [n for n in shown[1:] if n] == [3, 7, -6]
