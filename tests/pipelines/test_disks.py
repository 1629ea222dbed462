"""Disks that fill up: nothing half written is left."""

import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from fusionrec.errors import WorkspaceError
from pipelines.runtime.workspace import Workspace
from tests.pipelines.conftest import arguments


def in_mount(options: str, corpus: Path, target: Path) -> subprocess.CompletedProcess:
    """`fusionrec ingest` into a small file system of its own, in a mount namespace of its own."""
    target.mkdir()
    ingesting = [sys.executable, "-m", "pipelines.cli", "ingest"]
    ingesting += arguments(corpus, target / "workspace")
    script = (
        f'mount -t tmpfs -o {options} tmpfs "$0" || exit 77; shift 0; "$@"; code=$?; '
        'find "$0" -name manifest.json -o -name ".tmp-*"; exit $code'
    )
    return subprocess.run(
        ["unshare", "--mount", "--map-root-user", "sh", "-c", script, str(target), *ingesting],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"), [("size=64k", "No space left"), ("ro", "Read-only file system")]
)
def test_a_disk_that_takes_nothing_more(corpus, tmp_path, options, message) -> None:
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not there")
    done = in_mount(options, corpus, tmp_path / "disk")
    if done.returncode in (1, 77) and "fusionrec:" not in done.stderr:
        pytest.skip(f"no mount namespaces here: {done.stderr.strip()}")
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.strip() == ""  # no manifest, no half file


class _Full:
    """A stream on a full disk."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return False

    def write(self, content: bytes) -> None:
        raise OSError(28, "No space left on device")


def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch) -> None:
    workspace = Workspace(str(tmp_path), {"stage": "key"})
    workspace.write_bytes(b"old", "stage", "file")

    class FullDisk:
        def __getattr__(self, name):
            return getattr(Workspace(str(tmp_path)).fs, name)

        def open_output_stream(self, path):
            Path(path).touch()
            return _Full()

    monkeypatch.setattr(workspace, "fs", FullDisk())
    with pytest.raises(WorkspaceError, match=r"stage/key/file: cannot be written .*No space left"):
        workspace.write_bytes(b"new", "stage", "file")
    assert [p.name for p in (tmp_path / "stage" / "key").iterdir()] == ["file"]
    assert (tmp_path / "stage" / "key" / "file").read_bytes() == b"old"


def test_a_part_is_whole_or_absent(tmp_path) -> None:
    run = Workspace(str(tmp_path)).begin("stage", {})
    assert run is not None
    schema = pa.schema([("a", pa.int32())])

    def write() -> None:
        with run.writing(schema, "rows", 0) as writer:
            writer.write_table(pa.table({"a": pa.array([1], pa.int32())}))
            raise RuntimeError("killed in the middle")

    with pytest.raises(RuntimeError):
        write()
    assert run.workspace.parts("stage", "rows") == []
    assert not list((tmp_path / "stage" / run.key / "rows").iterdir())
