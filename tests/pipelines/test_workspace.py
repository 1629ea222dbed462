import json

import pyarrow as pa
import pytest

from fusionrec.errors import SchemaVersionError, WorkspaceError
from pipelines.runtime.workspace import Workspace

KEY = {"settings": {"a": 1}}
TABLE = pa.table({"x": [1, 2, 3]})


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return Workspace(str(tmp_path / "ws"))


def finish(workspace: Workspace, key=KEY, stage: str = "fuse") -> None:
    run = workspace.begin(stage, key)
    assert run is not None
    run.write(TABLE, "fused")
    run.commit({"rows": 3})


def test_a_finished_stage_is_skipped_and_a_changed_key_redoes_it(workspace) -> None:
    finish(workspace)
    assert workspace.begin("fuse", KEY) is None
    assert workspace.read("fuse", "fused").equals(TABLE)
    run = workspace.begin("fuse", {"settings": {"a": 2}})
    assert run is not None
    assert workspace.manifest("fuse") is None
    assert workspace.parts("fuse", "fused") == []


def test_parts_of_an_interrupted_run_are_kept_for_the_same_key_only(workspace) -> None:
    run = workspace.begin("fuse", KEY)
    run.write(TABLE, "fused", 0)
    again = workspace.begin("fuse", KEY)
    assert workspace.parts("fuse", "fused") == ["part-00000.parquet"]
    assert again.key == run.key
    workspace.begin("fuse", {"settings": {"a": 2}})
    assert workspace.parts("fuse", "fused") == []


def test_an_unfinished_stage_is_never_read(workspace) -> None:
    run = workspace.begin("fuse", KEY)
    run.write(TABLE, "fused")
    with pytest.raises(WorkspaceError, match="not finished; run `fusionrec fuse` first"):
        workspace.require("fuse")


def test_an_unknown_schema_version_is_refused_by_name(workspace) -> None:
    finish(workspace)
    manifest = workspace.read_json("fuse", "manifest.json")
    workspace.write_json({**manifest, "schema_version": 99}, "fuse", "manifest.json")
    with pytest.raises(SchemaVersionError, match="schema version 99"):
        workspace.begin("fuse", KEY)


class FullDisk:
    """A filesystem on which the last step of every write fails."""

    def __init__(self, fs) -> None:
        self.fs = fs

    def __getattr__(self, name):
        return getattr(self.fs, name)

    def move(self, *paths) -> None:
        raise OSError(28, "No space left on device")


def test_a_half_written_file_is_never_visible(workspace) -> None:
    run = workspace.begin("fuse", KEY)
    workspace.fs = FullDisk(workspace.fs)
    with pytest.raises(WorkspaceError, match=r"No space left on device.*free space there"):
        run.write(TABLE, "fused")
    assert workspace.parts("fuse", "fused") == []


def test_a_damaged_manifest_and_a_strange_filesystem_are_named(workspace) -> None:
    workspace.write_bytes(b"{", "fuse", "manifest.json")
    with pytest.raises(WorkspaceError, match="is not JSON"):
        workspace.manifest("fuse")
    with pytest.raises(WorkspaceError, match="no such filesystem"):
        Workspace("nowhere://x")


def test_the_manifest_says_what_was_done(workspace) -> None:
    finish(workspace)
    manifest = json.loads(workspace.read_bytes("fuse", "manifest.json"))
    assert manifest["counts"] == {"rows": 3}
    assert manifest["config"] == KEY
    assert manifest["libraries"]["pyarrow"] == pa.__version__
