"""A run killed at any moment goes on when the command is repeated."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines.runtime.workspace import Workspace
from tests.pipelines.conftest import arguments

pytestmark = pytest.mark.slow


def start(corpus: Path, workspace: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "pipelines.run", *arguments(corpus, workspace)]
    return subprocess.Popen(
        command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def kill_when(corpus: Path, workspace: Path, sign: str) -> None:
    """Start the run and SIGKILL its whole process group as soon as a file `sign` appears."""
    process = start(corpus, workspace)
    deadline = time.monotonic() + 240
    while not any(workspace.glob(sign)):
        assert process.poll() is None, f"the run ended before {sign} appeared"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    subprocess.run(["pkill", "-9", "-s", str(process.pid)], check=False)


@pytest.mark.parametrize(
    ("stage", "sign"),
    [
        ("ingest", "ingest/*/reports/songs-*.json"),
        ("embed", "embed/*/reports/lyrics-*.json"),
        ("train", "train/*/lease/*.json"),
    ],
)
def test_sigkill_in_a_stage(corpus, finished, tmp_path, stage, sign) -> None:
    workspace = tmp_path / "workspace"
    kill_when(corpus, workspace, sign)
    found = Workspace(str(workspace))
    assert found.manifest(stage) is None
    # Finished stages, and finished shards of the killed one, are not done again.
    done = {path: path.stat().st_mtime_ns for path in workspace.glob("*/*/manifest.json")}
    for report in (workspace / "embed").glob("*/reports/*.json"):
        artifact, part = report.stem.split("-")
        file = report.parents[1] / artifact / f"part-{part}.parquet"
        done[file] = file.stat().st_mtime_ns
    assert stage != "embed" or any(path.parent.name == "lyrics" for path in done)
    assert start(corpus, workspace).wait(timeout=300) == 0
    for path, written in done.items():
        assert path.stat().st_mtime_ns == written, path
    expected = Workspace(str(finished)).require("evaluate")["counts"]
    counts = found.require("evaluate")["counts"]
    for name in ("map", "auc", "users", "test_accuracy"):
        assert counts[name] == expected[name]
    assert not list(workspace.glob("*/*/lease/*.json"))
    assert not list(workspace.glob("*/*/reports"))
