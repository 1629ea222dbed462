"""`fusionrec check`: what is missing is found before anything is read, all of it at once."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusionrec.errors import (
    BusyError,
    EncoderError,
    FusionrecError,
    InputError,
    SourceError,
    WorkspaceError,
)
from pipelines import check
from pipelines.cli import main as cli
from pipelines.run import stages
from pipelines.runtime import lease
from pipelines.runtime.workspace import Workspace
from tests.pipelines.conftest import arguments
from tests.pipelines.inline import SMALL, load, without_ray


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


def test_a_full_disk_is_told_before_it_is_full(small, tmp_path, monkeypatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert "only 1 MB are free" in found(small, tmp_path / "w")["workspace"].text


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
