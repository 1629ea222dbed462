"""Two configs, two runs and two places of one workspace: what is read is what was asked for."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fusionrec.errors import BusyError, DataError, SourceError, WorkspaceError
from fusionrec.models.collective import Collective
from pipelines import check, evaluate, ingest, recommend, split, train
from pipelines.cli import results
from pipelines.compare.context import Context
from pipelines.compare.folds import Fold, fold_workspace, prepare
from pipelines.compare.methods import key
from pipelines.config import Config, LyricsConfig
from pipelines.embed import lyrics
from pipelines.run import run
from pipelines.runtime import lease
from pipelines.runtime.stage import Stage
from pipelines.runtime.workspace import StageRun, Workspace
from pipelines.train.epochs import halves_for_all
from tests.pipelines.inline import load, without_ray


@pytest.fixture(autouse=True)
def _no_ray() -> Iterator[None]:
    with without_ray():
        yield


@pytest.fixture
def place(undisturbed, tmp_path) -> Path:
    """A finished workspace of its own."""
    return Path(shutil.copytree(undisturbed, tmp_path / "w"))


def finish_times(place: Path) -> dict[str, int]:
    return {str(f.relative_to(place)): f.stat().st_mtime_ns for f in place.rglob("manifest.json")}


def test_what_was_made_from_another_training_is_refused_by_name(small, place) -> None:
    other = load(small, place, label__k=3)
    train.STAGE.run(other)
    for stage, message in (
        (evaluate.STAGE, r"recommend: finished for another config \(of another result of train\)"),
        (evaluate.STAGE, "up to date with `fusionrec recommend`, or all stages with"),
    ):
        with pytest.raises(WorkspaceError, match=message):
            stage.run(other)
    manifests = run(other)
    fresh = run(load(small, place.parent / "fresh", label__k=3))
    assert manifests["evaluate"]["counts"] == fresh["evaluate"]["counts"]


def test_the_setting_that_differs_is_named(small, place) -> None:
    with pytest.raises(WorkspaceError, match=r"train\.eta: 0\.001 there, 0\.01 here"):
        recommend.STAGE.run(load(small, place, train__eta=0.01))


def test_going_back_to_an_earlier_config_computes_nothing(small, place) -> None:
    before = Workspace(str(place)).current()
    first = run(load(small, place))
    run(load(small, place, train__eta=0.01))
    assert Workspace(str(place)).current() != before
    times = finish_times(place)
    assert run(load(small, place)) == first
    assert finish_times(place) == times
    assert Workspace(str(place)).current() == before
    assert Workspace(str(place)).of("evaluate").require("train")["key"] == before["train"]


def test_the_places_that_a_run_names_are_there(place) -> None:
    manifest = Workspace(str(place)).require("evaluate")
    keys = {**manifest["lineage"], "evaluate": manifest["key"]}
    lines = results.artifact_lines(str(place), keys, "run", 10_000)[1:]
    assert len(lines) == 4
    assert all(Path(line.partition("  ")[0]).is_dir() for line in lines)


def test_two_configs_in_turns_give_what_each_gives_alone(small, place, tmp_path) -> None:
    eta = load(small, place, train__eta=0.01)
    alone = run(load(small, tmp_path / "alone", train__eta=0.01))["evaluate"]["counts"]
    first = run(load(small, place))["evaluate"]["counts"]
    train.STAGE.run(eta)
    assert run(load(small, place))["evaluate"]["counts"] == first
    assert run(eta)["evaluate"]["counts"] == alone


def test_a_workspace_copied_elsewhere_is_up_to_date_there(small, place, tmp_path) -> None:
    copy = Path(shutil.copytree(place, tmp_path / "copy"))
    times = finish_times(copy)
    run(load(small, copy))
    assert finish_times(copy) == times


def test_a_second_run_of_the_same_is_told_of_the_first(small, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(lease, "RENEWED_EVERY", 0.1)
    chosen = load(small, tmp_path / "w")
    plan = ingest.STAGE.plan(chosen, Workspace(chosen.workspace), look=True)
    first = Workspace(chosen.workspace).begin("ingest", plan.content, plan.lineage)
    assert first is not None
    with (
        lease.held(first),
        pytest.raises(BusyError, match=r"stage ingest: at work since .* by run"),
    ):
        run(chosen)
    assert run(chosen)["evaluate"]["counts"]["users"]


def test_the_check_before_a_run_lets_a_dead_runs_claim_pass(small, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(lease, "RENEWED_EVERY", 0.1)
    monkeypatch.setattr(lease, "PATIENCE", 1.0)
    chosen = load(small, tmp_path / "w")
    plan = ingest.STAGE.plan(chosen, Workspace(chosen.workspace), look=True)
    first = Workspace(chosen.workspace).begin("ingest", plan.content, plan.lineage)
    assert first is not None
    with lease.held(first), pytest.raises(BusyError, match="at work since"):
        check._lease(chosen, [plan])
    lease.Lease(first, "dead.json")._renew()
    claim = first.read_json(lease.FOLDER, "dead.json")
    first.write_json({**claim, "machine": "before its restart"}, lease.FOLDER, "dead.json")
    check._lease(chosen, [plan])


def test_who_was_taken_for_dead_in_the_midst_of_its_work_commits_nothing(small, tmp_path) -> None:
    """Its last tasks wrote into what was another run's by then."""

    def work(config: Config, workspace: Workspace, run: StageRun) -> dict[str, int]:
        for name in lease.claims(run.workspace, run.stage):
            run.workspace.remove_file(run.path(lease.FOLDER, name))  # as whoever takes over does
        return {}

    stage = Stage("label", lambda _: (), lambda _: {}, work)
    chosen = load(small, tmp_path / "w")
    with pytest.raises(BusyError, match="another took over"):
        stage.run(chosen)
    assert stage.plan(chosen, Workspace(chosen.workspace)).manifest is None


def test_who_comes_second_takes_what_the_first_finished(small, tmp_path, monkeypatch) -> None:
    """The first run ends between the second's look and its lease."""
    chosen = load(small, tmp_path / "w")
    first = []
    held = lease.held

    def late(run: StageRun):
        if not first:
            first.append("on its way")
            first[0] = ingest.STAGE.run(chosen)
        return held(run)

    monkeypatch.setattr(lease, "held", late)
    assert ingest.STAGE.run(chosen) == first[0]


def test_who_looks_first_takes_what_another_finished_meanwhile(small, tmp_path, monkeypatch):
    """The other run ends between the look and the beginning."""
    chosen = load(small, tmp_path / "w")
    plan = ingest.STAGE.plan(chosen, Workspace(chosen.workspace), look=True)
    first = ingest.STAGE.run(chosen)
    monkeypatch.setattr(Stage, "plan", lambda *_, **__: plan)
    assert plan.manifest is None
    assert ingest.STAGE.run(chosen) == first


def test_sources_that_are_as_before_again_are_what_the_quick_stages_before_bring(
    small, tmp_path
) -> None:
    corpus = Path(shutil.copytree(small, tmp_path / "corpus"))
    chosen = load(corpus, tmp_path / "w")
    first = ingest.STAGE.run(chosen)
    (plays,) = (corpus / path for path in chosen.source.plays)
    aside = plays.rename(tmp_path / "aside")
    plays.write_bytes(aside.read_bytes())
    second = ingest.STAGE.run(chosen)
    assert first["key"] != second["key"]
    aside.replace(plays)
    above = Stage("above", lambda _: (ingest.STAGE,), lambda _: {}, lambda *_: {})
    quick = replace(above, refresh_first=(ingest.STAGE,))
    assert quick.run(chosen)["lineage"] == {"ingest": first["key"]}


def test_results_can_be_read_without_their_sources(small, place, tmp_path) -> None:
    corpus = Path(shutil.copytree(small, tmp_path / "corpus"))
    chosen = load(corpus, tmp_path / "w")
    expected = run(chosen)["evaluate"]
    shutil.rmtree(corpus)
    assert evaluate.STAGE.run(chosen) == expected
    with pytest.raises(SourceError, match="does not exist"):
        ingest.STAGE.run(chosen)


def test_a_file_edited_in_place_is_read_again(small, tmp_path) -> None:
    corpus = Path(shutil.copytree(small, tmp_path / "corpus"))
    chosen = load(corpus, tmp_path / "w")
    ingest.STAGE.run(chosen)
    before = Workspace(chosen.workspace).current()["ingest"]
    track = sorted((corpus / "MillionSong").rglob("*.h5"))[5]
    content = track.read_bytes()
    folder = track.parent.stat()
    track.write_bytes(content[: len(content) // 2])
    os.utime(track.parent, ns=(folder.st_atime_ns, folder.st_mtime_ns))
    damaged = ingest.STAGE.run(chosen)
    assert damaged["key"] != before
    rejects = Workspace(chosen.workspace).read("ingest", "rejects")["source"].to_pylist()
    assert any(track.name in name for name in rejects)
    track.write_bytes(content)
    mended = ingest.STAGE.run(chosen)
    assert mended["counts"]["tracks_rejected"] == damaged["counts"]["tracks_rejected"] - 1


def test_a_new_version_of_the_code_computes_anew(small, place) -> None:
    newer = Stage(**{**vars(evaluate.STAGE), "version": evaluate.STAGE.version + 1})
    first = evaluate.STAGE.run(load(small, place))
    second = newer.run(load(small, place))
    assert first["key"] != second["key"]
    assert first["counts"] == second["counts"]


def test_a_ranking_of_the_comparison_depends_on_what_its_diversity_is_measured_by(
    small, tmp_path
) -> None:
    compared = {"compare__methods": "[random]", "compare__fusion": "[]"}
    found = []
    for dimension in (20, 30):
        chosen = load(small, tmp_path / "w", embed__metadata__dimension=dimension, **compared)
        fold = Fold("song", 0)
        workspace = Workspace(chosen.workspace)
        ingest.STAGE.run(chosen)
        run_of_all = workspace.begin("compare", {"dimension": dimension})
        assert run_of_all is not None
        prepare(chosen, fold, run_of_all)
        of_fold = fold.config(chosen)
        found.append(key("random", Context(of_fold, fold_workspace(of_fold, workspace), 0)))
    assert found[0] != found[1]


def test_the_check_before_a_run_lists_the_source_once(small, tmp_path, monkeypatch) -> None:
    looks = []
    look = ingest.STAGE.source
    assert look is not None
    monkeypatch.setitem(vars(ingest.STAGE), "source", lambda c: looks.append(c) or look(c))
    check.require(load(small, tmp_path / "w"), (ingest.STAGE,))
    assert len(looks) == 1


@pytest.mark.parametrize("stage", ["pretrain", "embed", "train"])
def test_what_auto_chose_is_in_the_identity_of_the_result(undisturbed, stage) -> None:
    manifest = Workspace(str(undisturbed)).require(stage)
    assert manifest["choices"]
    assert manifest["identity"] != manifest["key"]


def test_workers_whose_hardware_differs_take_one_precision(monkeypatch) -> None:
    class Two(Collective):
        """With another worker, which has no bfloat16."""

        def sum(self, tensor: torch.Tensor) -> torch.Tensor:
            return tensor + 1

    monkeypatch.setattr("pipelines.train.epochs.precision", lambda *_: (True, torch.float32))
    assert halves_for_all(Collective(), "cpu")
    assert not halves_for_all(Two(), "cpu")


def test_actors_whose_processors_differ_encode_in_one_precision(
    small, tmp_path, monkeypatch
) -> None:
    """Also after a resume: the first choice holds for the whole result."""
    choices = iter([("bfloat16", "of one processor"), ("float32", "of another")])
    monkeypatch.setattr(lyrics, "_precision", lambda *_: next(choices))
    monkeypatch.setattr(lyrics, "lyrics_weights", lambda *_: np.zeros(1))
    given = []

    def streamed(run: StageRun, settings: LyricsConfig, *_: object) -> None:
        given.append(settings.dtype)
        raise DataError("far enough")

    monkeypatch.setattr(lyrics, "_streamed", streamed)
    run = Workspace(str(tmp_path)).begin("embed", {})
    assert run is not None
    for _ in range(2):
        with pytest.raises(DataError, match="far enough"):
            lyrics.embed_lyrics(load(small, tmp_path), run, [])
    assert given == ["bfloat16", "bfloat16"]


def test_what_another_run_sees_changes_nothing_within_a_stages_work(small, tmp_path) -> None:
    """A comparison of an hour prepares its folds one after the other."""
    corpus = Path(shutil.copytree(small, tmp_path / "corpus"))
    chosen = load(corpus, tmp_path / "w")
    first = ingest.STAGE.run(chosen)

    def work(config: Config, workspace: Workspace, run: StageRun) -> dict[str, str]:
        os.utime(corpus / chosen.source.plays[0])
        assert ingest.STAGE.run(chosen)["key"] != first["key"]
        within = split.STAGE.run(config, run.workspace, current=False)
        return {"songs": within["lineage"]["ingest"]}

    above = Stage("above", lambda _: (ingest.STAGE,), lambda _: {}, work)
    assert above.run(chosen)["counts"] == {"songs": first["key"]}
