"""`fusionrec check`: what is missing is found before anything is read, all of it at once."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusionrec.errors import (
    BusyError,
    ConfigError,
    EncoderError,
    FusionrecError,
    InputError,
    SourceError,
    WorkspaceError,
)
from pipelines import check, compare, tune
from pipelines.cli import main as cli
from pipelines.run import stages
from pipelines.runtime import lease, resources
from pipelines.runtime.workspace import Workspace
from tests.pipelines.conftest import arguments
from tests.pipelines.inline import SMALL, load, without_ray

REFUSE = resources.refuse


@pytest.fixture(autouse=True)
def _no_ray() -> Iterator[None]:
    with without_ray():
        yield


def found(small: Path, place: Path, **settings: object) -> dict[str, check.Found]:
    chosen = load(small, place, **settings)
    return {each.what: each for each in check.check(chosen, stages(chosen))}


def test_all_that_is_looked_at_is_listed(small, tmp_path) -> None:
    rows = found(small, tmp_path / "w")
    assert {each.error for each in rows.values()} == {None}
    assert rows["sources"].text == "5 files and folders are there"
    assert rows["stages"].text.startswith("to be computed: ingest, split, label, pretrain")
    assert "GB free" in rows["workspace"].text
    assert rows["lyrics encoder"].text == "is pre-trained on the corpus's own lyrics"
    assert not list((tmp_path / "w").iterdir())


def test_a_finished_workspace_has_nothing_to_be_computed(small, undisturbed) -> None:
    assert found(small, undisturbed)["stages"].text == "every stage is up to date"


@pytest.mark.parametrize(
    ("settings", "what", "kind", "message"),
    [
        ({"source__plays": "[nowhere.txt]"}, "sources", SourceError, "does not exist; set"),
        (
            {"embed__lyrics__encoder": "/nowhere/at/all"},
            "lyrics encoder",
            EncoderError,
            "embed.lyrics.encoder",
        ),
    ],
)
def test_what_is_missing_stops_a_run_before_its_first_byte(
    small, tmp_path, settings, what, kind, message
) -> None:
    chosen = load(small, tmp_path / "w", **settings)
    with pytest.raises(kind, match=message):
        check.require(chosen, stages(chosen))
    rows = found(small, tmp_path / "w", **settings)
    assert message in rows[what].text
    assert rows["workspace"].error is None  # the rest is looked at all the same
    assert not (tmp_path / "w" / "ingest").exists()


def test_a_workspace_that_cannot_be_written(small, tmp_path) -> None:
    (tmp_path / "file").write_text("no folder")
    rows = found(small, tmp_path / "file" / "w")
    assert isinstance(rows["workspace"].error, WorkspaceError)


def test_a_temporary_folder_that_cannot_be_written(small, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/dev/null/nowhere")
    row = found(small, tmp_path / "w")["temporary files"]
    assert isinstance(row.error, InputError)
    assert row.text.endswith("set TMPDIR")


def test_a_full_disk_is_told_before_it_is_full(small, tmp_path, monkeypatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert "only 1 MB are free" in found(small, tmp_path / "w")["workspace"].text


@pytest.mark.parametrize("command", ["run", "train", "tune", "compare", "ladder"])
def test_long_commands_look_before_they_begin(
    small, tmp_path, monkeypatch, capsys, command
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    settings = {**SMALL, "ingest__segments": "full"}  # as the comparison's methods need them
    with pytest.raises(SystemExit, match="2"):
        cli.main([command, *arguments(small, tmp_path / "w", **settings)])
    assert "only 1 MB are free" in capsys.readouterr().err
    assert not list((tmp_path / "w").iterdir())


@pytest.mark.parametrize("command", ["run", "compare", "ladder"])
def test_what_embeds_loads_its_encoder_before_it_begins(small, tmp_path, capsys, command) -> None:
    """All its files are there, and hold nothing of use."""
    folder = tmp_path / "encoder"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (folder / name).write_text("{}")
    settings = {"ingest__segments": "full", "embed__lyrics__encoder": folder}
    with pytest.raises(SystemExit, match="2"):
        cli.main([command, *arguments(small, tmp_path / "w", **{**SMALL, **settings})])
    assert f"embed.lyrics.encoder = {folder}: " in capsys.readouterr().err
    assert not (tmp_path / "w" / "ingest").exists()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("train.workers", 4, r"train: asks for 4 CPU \(train.workers\), but the cluster has 2"),
        ("train.num_gpus", 1, r"train: asks for 1 GPU \(train.num_gpus\), but .* has 0"),
        ("pretrain.num_gpus", 1, r"pretrain: asks for 1 GPU \(pretrain.num_gpus\)"),
        ("embed.lyrics.num_gpus", 1, r"embed: asks for 1 GPU \(embed.lyrics.num_gpus\)"),
        ("recommend.num_gpus", 1, r"recommend: asks for 1 GPU \(recommend.num_gpus\)"),
        ("tune.num_gpus", 1, r"tune: asks for 1 GPU \(tune.num_gpus\)"),
    ],
)
def test_what_a_stage_will_never_get_is_refused_before_the_first_byte(
    small, tmp_path, monkeypatch, key, value, message
) -> None:
    monkeypatch.setattr(resources, "refuse", REFUSE)
    monkeypatch.setattr(resources, "_autoscaled", lambda name: 0.0)
    for look in ("_resource", "_largest"):
        monkeypatch.setattr(resources, look, lambda name: {"CPU": 2.0}.get(name, 0.0))
    chosen = load(small, tmp_path / "w", **{key.replace(".", "__"): value})
    with pytest.raises(ConfigError, match=message):
        check.require(chosen, (*stages(chosen), tune.STAGE))
    assert not (tmp_path / "w" / "ingest").exists()


def test_another_run_at_work_is_told(small, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(lease, "RENEWED_EVERY", 0.1)
    chosen = load(small, tmp_path / "w")
    workspace = Workspace(chosen.workspace)
    plan = stages(chosen)[0].plan(chosen, workspace, look=True)
    run = workspace.begin("ingest", plan.content, plan.lineage)
    assert run is not None
    with lease.held(run), pytest.raises(BusyError, match=f"process {os.getpid()} on"):
        check.require(chosen, stages(chosen))


def test_the_command_ends_with_the_first_failures_code(small, tmp_path, capsys) -> None:
    good = arguments(small, tmp_path / "w", **SMALL)
    with pytest.raises(SystemExit, match="0"):
        cli.main(["check", *good, "--json"])
    assert json.loads(capsys.readouterr().out)["ok"]
    with pytest.raises(SystemExit, match="2"):
        cli.main(["check", *good, "--set", "source.songs=nowhere"])
    printed = capsys.readouterr().out
    assert "FAILS sources" in printed
    assert "ok    temporary files" in printed
    assert FusionrecError.exit_code != 2


def test_where_no_cluster_answers_nobody_is_asked_what_it_has(small, tmp_path, monkeypatch):
    def refuse(config: object) -> None:
        raise InputError("no cluster answers at there:6379")

    monkeypatch.setattr(check.session, "start", refuse)
    rows = found(small, tmp_path / "w")
    assert rows["cluster"].text == "no cluster answers at there:6379"
    for what in ("resources", "lyrics encoder"):
        assert rows[what].text == "not looked at: there is no Ray"
        assert isinstance(rows[what].error, InputError)


BY_TIME = {"split__by": "time", "recommend__protocol": "oord"}


@pytest.mark.parametrize("name", ["spotify-mpd", "lastfm-360k"])
def test_a_layout_whose_plays_have_no_times_is_refused_before_it_is_read(name, tmp_path) -> None:
    for file in ("mpd.slice.0-999.json", "usersha1-artmbid-artname-plays.tsv"):
        (tmp_path / file).touch()
    settings = {**BY_TIME, "source__format": name}
    rows = found(tmp_path, tmp_path / "w", **settings)
    assert f"split.by names time, but source.format: {name} does not say" in rows["config"].text
    own = found(tmp_path, tmp_path / "w", **settings, source__tables__plays="mine.csv")
    assert own["config"].error is None


def test_tables_without_times_are_refused_before_they_are_read(tmp_path) -> None:
    (tmp_path / "p.csv").write_text("user_id,song_id,when\nu,s,2020-01-01\n")
    tables = {**BY_TIME, "source__format": "tables"}
    rows = found(tmp_path, tmp_path / "w", **tables, source__tables__plays="p.csv")
    assert "split.by: time needs to know when plays were" in rows["sources"].text
    named = "{paths: p.csv, columns: {timestamp: when}}"
    timed = found(tmp_path, tmp_path / "w", **tables, source__tables__plays=named)
    assert timed["sources"].error is None


def test_a_comparison_of_tables_cannot_name_methods_that_learn_from_segments(tmp_path) -> None:
    chosen = load(tmp_path, tmp_path / "w", source__format="tables")
    with pytest.raises(ConfigError, match=r"cnn-mse.*source.format: tables has none: leave them"):
        compare.STAGE.check(chosen)
