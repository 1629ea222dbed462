"""Files that changed or went, and those that come or change while an update runs."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from fusionrec.errors import SourceError
from pipelines import config, update
from pipelines.config import Config
from pipelines.runtime.workspace import Workspace
from pipelines.update import lists as lists_of_update
from tests.pipelines.update.places import listed


def test_a_file_that_changed_or_went_is_refused(fresh) -> None:
    fresh.late.write(fresh.tables, "2", late=True)
    file = fresh.tables / "songs-1.csv"
    content = file.read_bytes()
    file.write_bytes(content + b"\n")
    with pytest.raises(SourceError, match=r"songs-1\.csv: has changed since it was read"):
        update.STAGE.run(fresh.config())
    file.rename(fresh.folder / "songs-1.csv")
    with pytest.raises(SourceError, match=r"songs-1\.csv: was read, and is gone"):
        update.STAGE.run(fresh.config())


def with_paths(chosen: Config, **more: list[str]) -> Config:
    """More paths of tables."""
    tables = chosen.source.tables.model_dump(mode="json")
    for name, paths in more.items():
        tables[name]["paths"] = [*tables[name]["paths"], *paths]
    return config.replaced(chosen, {"source.tables": tables})


def test_a_file_is_new_as_one_of_its_table(fresh) -> None:
    """The same file in another table is another input; also one that the run read."""
    shutil.copy(fresh.tables / "plays-1.csv", fresh.folder / "x.csv")
    path = str(fresh.folder / "x.csv")
    both = (with_paths(fresh.config(), **{name: [path]}) for name in ("songs", "plays"))
    keys = {update.STAGE.plan(each, fresh.workspace, look=True).key for each in both}
    assert len(keys) == 2
    again = with_paths(fresh.config(), songs=["plays-1.csv"])
    (row,) = update.STAGE.plan(again, fresh.workspace, look=True).content["source"]
    assert row[0] == f"source.tables.songs: {fresh.tables}/plays-1.csv"
    assert update.anything_new(again)
    tables = fresh.config().source.tables.model_dump(mode="json")
    tables["lyrics"]["paths"] = ["sound-*.parquet"]
    with pytest.raises(SourceError, match=r"lyrics-1\.csv: was read as source\.tables\.lyrics,"):
        update.STAGE.run(config.replaced(fresh.config(), {"source.tables": tables}))


def test_what_comes_while_it_runs_is_of_the_next_one(fresh, places, monkeypatch) -> None:
    fresh.late.write(fresh.tables, "2", late=True)
    before = lists_of_update._update

    def comes(*arguments: Any) -> Any:
        shutil.copy(fresh.tables / "plays-2.csv", fresh.tables / "plays-3.csv")
        return before(*arguments)

    monkeypatch.setattr(lists_of_update, "_update", comes)
    update.STAGE.run(fresh.config())
    assert listed(fresh.workspace) == listed(places["genre"].workspace)
    first = fresh.workspace.require("update")["key"]
    assert update.STAGE.plan(fresh.config(), fresh.workspace, look=True).key != first


def test_a_file_between_the_listing_and_the_reading_is_not_read(fresh, places, monkeypatch) -> None:
    fresh.late.write(fresh.tables, "2", late=True)
    begin = Workspace.begin

    def comes(self: Workspace, stage: str, *arguments: Any) -> Any:
        if stage == "update":
            shutil.copy(fresh.tables / "plays-2.csv", fresh.tables / "plays-3.csv")
        return begin(self, stage, *arguments)

    monkeypatch.setattr(Workspace, "begin", comes)
    update.STAGE.run(fresh.config())
    assert listed(fresh.workspace) == listed(places["genre"].workspace)


@pytest.mark.parametrize("gone", [True, False])
def test_a_new_file_that_changes_while_it_is_read_is_refused(fresh, monkeypatch, gone) -> None:
    fresh.late.write(fresh.tables, "2", late=True)
    before, file = lists_of_update._update, fresh.tables / "plays-2.csv"

    def changes(*arguments: Any) -> Any:
        file.unlink(missing_ok=True)
        if not gone:
            file.write_text("uid,track,listens,ts\n")
        return before(*arguments)

    monkeypatch.setattr(lists_of_update, "_update", changes)
    told = r"source files changed while they were being read \(source\.tables\.plays: .*plays-2"
    with pytest.raises(SourceError, match=told):
        update.STAGE.run(fresh.config())
    assert fresh.workspace.manifest("update") is None
