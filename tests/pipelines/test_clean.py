"""What `fusionrec clean` keeps: what is current, what that was made from, and what is at work."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from pipelines.cli import main as cli
from pipelines.runtime import cleaning, lease
from pipelines.runtime.workspace import Manifest, Workspace


def finish(workspace: Workspace, stage: str, content: dict, uses: list[Manifest] = ()) -> Manifest:
    run = workspace.begin(stage, content)
    assert run is not None
    run.write(pa.table({"x": [1.0] * 1000}), "artifact")
    for other in uses:
        run.use(other)
    return run.commit({})


@pytest.fixture(autouse=True)
def _quick_leases(monkeypatch) -> None:
    monkeypatch.setattr(lease, "RENEWED_EVERY", 0.1)
    monkeypatch.setattr(lease, "PATIENCE", 1.0)


@pytest.fixture
def place(tmp_path) -> dict[str, str]:
    """Current: a report, made from features and with trainings that are not current themselves."""
    workspace = Workspace(str(tmp_path))
    old, new = (finish(workspace, "fuse", {"settings": n}) for n in (1, 2))
    reading = workspace.at({"fuse": new["key"]})
    row, forgotten = (finish(reading, "train", {"settings": n}) for n in (1, 2))
    report = finish(reading, "report", {}, uses=[row])
    workspace.point({"report": report["key"]})
    begun = workspace.begin("embed", {})
    assert begun is not None
    begun.write(pa.table({"x": [1]}), "lyrics")
    named = {"old": old, "new": new, "row": row, "forgotten": forgotten, "report": report}
    return {name: manifest["key"] for name, manifest in named.items()} | {"begun": begun.key}


def clean(tmp_path: Path, capsys, *options: str) -> set[str]:
    with pytest.raises(SystemExit, match="0"):
        cli.main(["clean", "-w", str(tmp_path), "--json", *options])
    return {row["key"] for row in json.loads(capsys.readouterr().out)["removed"]}


def there(tmp_path: Path, place: dict[str, str]) -> set[str]:
    return {name for name, key in place.items() if list(tmp_path.glob(f"*/{key}"))}


def test_only_what_nothing_current_needs_is_removed(tmp_path, place, capsys) -> None:
    assert clean(tmp_path, capsys, "--dry-run") == {place["old"], place["forgotten"]}
    assert there(tmp_path, place) == set(place)
    assert clean(tmp_path, capsys) == {place["old"], place["forgotten"]}
    assert there(tmp_path, place) == {"new", "row", "report", "begun"}
    assert clean(tmp_path, capsys) == set()
    assert clean(tmp_path, capsys, "--unfinished") == {place["begun"]}


def test_what_a_run_is_at_work_on_stays(tmp_path, place, capsys) -> None:
    run = Workspace(str(tmp_path)).begin("embed", {})
    assert run is not None
    with lease.held(run):
        assert place["begun"] not in clean(tmp_path, capsys, "--unfinished")
    assert clean(tmp_path, capsys, "--unfinished") == {place["begun"]}


def test_what_an_interrupted_run_needs_to_go_on_stays_with_it(tmp_path, place, capsys) -> None:
    """A comparison that was killed has folds and rankings that are of no current result."""
    run = Workspace(str(tmp_path)).begin("embed", {})
    assert run is not None
    run.use(Workspace(str(tmp_path)).at({"train": place["forgotten"]}).require("train"))
    run.keep([("fuse", place["old"])], "inputs")
    assert clean(tmp_path, capsys) == set()
    with lease.held(run):
        assert clean(tmp_path, capsys, "--unfinished") == set()
    gone = {place["old"], place["forgotten"], place["begun"]}
    assert clean(tmp_path, capsys, "--unfinished") == gone


def test_a_folder_that_is_no_result_stays(tmp_path, place, capsys) -> None:
    mine = tmp_path / "corpus" / "MillionSong" / "data"
    mine.mkdir(parents=True)
    (mine / "song.h5").write_bytes(b"mine")
    clean(tmp_path, capsys, "--unfinished")
    assert (mine / "song.h5").exists()


def test_the_table_says_how_much(tmp_path, place, capsys) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main(["clean", "-w", str(tmp_path), "--dry-run"])
    shown = capsys.readouterr().out
    assert "2 results" in shown
    assert "would be removed" in shown
    assert "unfinished: kept" in shown


def test_what_a_run_has_finished_or_needs_since_it_was_listed_stays(tmp_path, place) -> None:
    workspace = Workspace(str(tmp_path))
    listed = {row.key: row for row in cleaning.unneeded(workspace, unfinished=False)}
    begun = workspace.begin("embed", {})
    assert begun is not None
    begun.commit({})
    workspace.point({"fuse": place["old"]})
    for name in ("begun", "old"):
        assert not cleaning.remove(workspace, listed[place[name]], unfinished=False)
    assert there(tmp_path, place) == set(place)
    assert cleaning.remove(workspace, listed[place["forgotten"]], unfinished=False)
