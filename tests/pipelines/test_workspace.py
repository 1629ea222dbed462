"""Results by what they depend on: what is read, kept, refused, and never visible."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fusionrec.errors import SchemaVersionError, WorkspaceError
from fusionrec.schemas import SCHEMA_VERSION
from fusionrec.tables import vectors
from pipelines.runtime import storage
from pipelines.runtime.workspace import StageRun, Workspace

CONTENT = {"settings": {"a": 1}}
OTHER = {"settings": {"a": 2}}
TABLE = pa.table({"x": [1, 2, 3]})
HERE = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return Workspace(str(tmp_path / "ws"))


def begun(workspace: Workspace, content=CONTENT) -> StageRun:
    run = workspace.begin("fuse", content)
    assert run is not None
    return run


def finish(workspace: Workspace, content=CONTENT, table: pa.Table = TABLE) -> StageRun:
    run = begun(workspace, content)
    run.write(table, "fused")
    run.commit({"rows": table.num_rows})
    return run


def test_results_of_two_configs_lie_side_by_side(workspace) -> None:
    first = finish(workspace)
    second = finish(workspace, OTHER, TABLE.slice(1))
    assert workspace.begin("fuse", CONTENT) is workspace.begin("fuse", OTHER) is None
    for run, expected in ((first, TABLE), (second, TABLE.slice(1))):
        workspace.point({"fuse": run.key})
        assert workspace.read("fuse", "fused").equals(expected)
        assert workspace.at({"fuse": first.key}).read("fuse", "fused").equals(TABLE)


def slow_to_point(monkeypatch) -> None:
    """Between its look at the pointer and its writing of it, everyone takes some time."""
    look = Workspace.current

    def slow(self: Workspace) -> dict[str, str]:
        found = look(self)
        time.sleep(0.05)
        return found

    monkeypatch.setattr(Workspace, "current", slow)


def test_of_runs_that_end_together_none_loses_its_pointer(workspace, monkeypatch) -> None:
    slow_to_point(monkeypatch)
    threads = [
        threading.Thread(target=Workspace(workspace.uri).point, args=({f"stage{i}": str(i)},))
        for i in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert workspace.current() == {f"stage{i}": str(i) for i in range(8)}


POINTS = """
import sys
from pipelines.runtime.workspace import Workspace

for number in range(50):
    Workspace(sys.argv[1]).point({sys.argv[2]: str(number), f"{sys.argv[2]}-{number}": "x"})
"""


def test_nor_do_other_processes(workspace) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", POINTS, workspace.uri, name], env=HERE)
        for name in ("a", "b", "c")
    ]
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]
    assert len(workspace.current()) == 3 * 51


def test_who_is_stopped_while_it_points_stops_nobody_else(workspace, monkeypatch) -> None:
    monkeypatch.setattr(storage, "_SECONDS_FOR_A_LOCK", 0.1)
    with workspace._alone():
        Workspace(workspace.uri).point({"fuse": "key"})
    assert workspace.current() == {"fuse": "key"}


def test_what_is_current_already_is_written_by_nobody(workspace) -> None:
    """So that a workspace that cannot be written to can be read."""
    workspace.point({"fuse": "key"})
    Path(workspace.root, ".lock").unlink()
    workspace.point({"fuse": "key"})
    assert not Path(workspace.root, ".lock").exists()


def test_parts_of_an_interrupted_run_are_those_of_its_content_only(workspace) -> None:
    run = begun(workspace)
    run.write(TABLE, "fused", 0)
    again = begun(workspace)
    assert again.workspace.parts("fuse", "fused") == ["part-00000.parquet"]
    other = begun(workspace, OTHER)
    # A task of the first run that comes late does not write into the other's result.
    run.write(TABLE, "fused", 1)
    assert other.workspace.parts("fuse", "fused") == []


def test_an_unfinished_stage_is_never_read(workspace) -> None:
    begun(workspace).write(TABLE, "fused")
    with pytest.raises(WorkspaceError, match="not finished; run `fusionrec fuse` first"):
        workspace.require("fuse")
    with pytest.raises(WorkspaceError, match="not finished; run `fusionrec fuse` first"):
        workspace.of("fuse")


def test_a_result_is_read_with_what_it_was_made_from(workspace) -> None:
    old, new = finish(workspace), finish(workspace, OTHER, TABLE.slice(2))
    below = workspace.at({"fuse": old.key}).begin("train", {"settings": {}})
    assert below is not None
    below.commit({})
    # The features are newer than what was trained on them.
    workspace.point({"fuse": new.key, "train": below.key})
    assert workspace.read("fuse", "fused").num_rows == 1
    assert workspace.of("train").read("fuse", "fused").num_rows == 3


def test_a_choice_of_the_environment_is_made_once_and_seen_by_what_follows(workspace) -> None:
    run = begun(workspace)
    assert run.choose("precision", lambda: "bfloat16") == "bfloat16"
    # Another machine goes on with it, and would choose otherwise.
    assert begun(workspace).choose("precision", lambda: "float32") == "bfloat16"
    there = run.commit({})
    elsewhere = Workspace(workspace.uri + "-2")
    other = begun(elsewhere)
    other.choose("precision", lambda: "float32")
    here = other.commit({})
    assert there["key"] == here["key"]
    assert there["identity"] != here["identity"]
    assert there["choices"] == {"precision": "bfloat16"}


def test_another_schema_version_is_refused_by_name(workspace) -> None:
    run = finish(workspace)
    manifest = run.read_json("manifest.json")
    run.write_json({**manifest, "schema_version": 99}, "manifest.json")
    with pytest.raises(SchemaVersionError, match="schema version 99"):
        workspace.begin("fuse", CONTENT)


def test_a_workspace_of_the_old_layout_is_refused_by_name(workspace, tmp_path) -> None:
    folder = tmp_path / "ws" / "fuse"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text('{"schema_version": 3, "key": "a"}')
    message = f"version 3, but .* reads version {SCHEMA_VERSION}; .* or a new workspace"
    with pytest.raises(SchemaVersionError, match=message):
        workspace.require("fuse")
    with pytest.raises(SchemaVersionError, match=message):
        workspace.begin("fuse", CONTENT)


class FullDisk:
    """A filesystem on which the last step of every write fails."""

    def __init__(self, fs) -> None:
        self.fs = fs

    def __getattr__(self, name):
        return getattr(self.fs, name)

    def move(self, *paths) -> None:
        raise OSError(28, "No space left on device")


def test_a_half_written_file_is_never_visible(workspace) -> None:
    run = begun(workspace)
    run.workspace.fs = FullDisk(run.workspace.fs)
    with pytest.raises(WorkspaceError, match=r"No space left on device.*free space there"):
        run.write(TABLE, "fused")
    assert run.workspace.parts("fuse", "fused") == []


def test_a_damaged_manifest_a_damaged_pointer_and_a_strange_filesystem_are_named(
    workspace, tmp_path
) -> None:
    run = finish(workspace)
    run.write_bytes(b"{", "manifest.json")
    with pytest.raises(WorkspaceError, match=r"manifest.json: is not JSON"):
        run.workspace.manifest("fuse")
    (tmp_path / "ws" / "current.json").write_bytes(b"{")
    with pytest.raises(WorkspaceError, match=r"current.json: is not JSON"):
        workspace.manifest("fuse")
    with pytest.raises(WorkspaceError, match="no such filesystem"):
        Workspace("nowhere://x")


def test_the_manifest_says_what_was_done(workspace) -> None:
    manifest = json.loads(finish(workspace).workspace.read_bytes("fuse", "manifest.json"))
    assert manifest["counts"] == {"rows": 3}
    assert manifest["content"] == CONTENT
    assert manifest["libraries"]["pyarrow"] == pa.__version__


def test_what_people_open_lies_in_the_stages_folder(workspace, tmp_path) -> None:
    first, second = begun(workspace), begun(workspace, OTHER)
    first.write_bytes(b"1", "table.md")
    first.write_bytes(b"1", "figure.png")
    first.write_bytes(b"1", "weights.bin")
    first.commit({})
    second.write_bytes(b"2", "table.md")
    folder = tmp_path / "ws" / "fuse"
    shown = [
        (first, {"table.md": b"1", "figure.png": b"1"}),
        (second, {"table.md": b"2"}),
    ]
    for run, expected in shown:
        run.workspace.publish("fuse", ("*.md", "*.png", "*.json"))
        assert {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()} == expected


def test_publishing_leaves_manifests_notes_and_files_being_written_alone(workspace, tmp_path):
    patterns = ("*.md", "*.json")
    folder = tmp_path / "ws" / "fuse"
    finished = finish(workspace)
    finished.write_bytes(b"1", "table.json")
    finished.workspace.publish("fuse", patterns)
    assert sorted(p.name for p in folder.iterdir() if p.is_file()) == ["table.json"]
    # A manifest beside the results would be one of the old layout, which is refused.
    assert workspace.begin("fuse", OTHER) is not None
    (folder / "notes.txt").write_text("mine")
    (folder / ".tmp-0-table.md").write_text("another run's")
    finished.workspace.publish("fuse", patterns)
    there = sorted(p.name for p in folder.iterdir() if p.is_file())
    assert there == [".tmp-0-table.md", "notes.txt", "table.json"]


def test_folders_that_are_no_results_are_not_taken_for_some(workspace, tmp_path) -> None:
    """A corpus may lie in the folder that is the workspace."""
    run = begun(workspace)
    run.write(TABLE, "fused")
    (tmp_path / "ws" / "fuse" / "drafts").mkdir()
    (tmp_path / "ws" / "MillionSong" / "data").mkdir(parents=True)
    assert workspace.results("fuse") == [run.key]
    assert workspace.results("MillionSong") == []


def test_vectors_have_no_dictionary(tmp_path) -> None:
    """It takes three times as long as writing them, and more room."""
    rows = np.random.default_rng(0).standard_normal((300, 64)).astype(np.float32)
    table = pa.table({"song_id": [f"S{i % 9}" for i in range(300)], "vector": vectors(rows)})
    workspace = Workspace(str(tmp_path))
    workspace.write_table(table, "embed", "lyrics", "part-00000.parquet")
    place = workspace.path("embed", "lyrics", "part-00000.parquet")
    group = pq.read_metadata(place).row_group(0)
    assert group.column(0).has_dictionary_page
    assert not group.column(1).has_dictionary_page
    assert pq.read_table(place, partitioning=None).equals(table)


@pytest.mark.parametrize("group", [1, 3, 100])
def test_a_users_rows_are_those_of_a_filter(tmp_path, group) -> None:
    """Of users with no row, one and many, also across groups, and of an empty part."""
    users = np.repeat([2, 3, 5, 9], [1, 7, 2, 4]).astype(np.int32)
    texts = [[str(n)] * (n % 3) for n in range(len(users))]
    # A column of lists before it: places of fields are no places of columns.
    table = pa.table({"texts": texts, "user": users, "x": np.arange(len(users), dtype=np.float32)})
    workspace = Workspace(str(tmp_path))
    for part, rows in (("some", table), ("none", table.slice(0, 0))):
        workspace.write_table(rows, "lists", "lists", part, group=group)
        for user in range(11):
            whole = workspace.read_part("lists", "lists", part, filters=[("user", "=", user)])
            assert workspace.read_user("lists", "lists", part, user).equals(whole)
            found = workspace.read_user("lists", "lists", part, user, ["x", "texts"])
            assert found.equals(whole.select(["x", "texts"]))


def test_of_the_groups_only_those_that_may_have_a_user_are_read(tmp_path) -> None:
    workspace = Workspace(str(tmp_path))
    users = np.arange(1000, dtype=np.int32)
    table = pa.table({"user": users, "x": users})
    workspace.write_table(table, "lists", "lists", "part", group=100)
    path = Path(workspace.path("lists", "lists", "part"))
    where = pq.read_metadata(path).row_group(3).column(1)
    content = bytearray(path.read_bytes())
    content[where.data_page_offset : where.data_page_offset + where.total_compressed_size] = bytes(
        where.total_compressed_size
    )
    path.write_bytes(content)  # the fourth group is ruined
    assert workspace.read_user("lists", "lists", "part", 299, ["x"])["x"].to_pylist() == [299]
    with pytest.raises((OSError, pa.ArrowException)):
        workspace.read_user("lists", "lists", "part", 300, ["x"])
