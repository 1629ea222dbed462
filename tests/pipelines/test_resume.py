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

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def start(corpus: Path, workspace: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "pipelines.run", *arguments(corpus, workspace)]
    return subprocess.Popen(
        command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def kill_when(corpus: Path, workspace: Path, sign: str) -> None:
    """Start the run and SIGKILL its whole process group as soon as a file `sign` appears."""
    process = start(corpus, workspace)
    deadline = time.monotonic() + 300
    while not any(workspace.glob(sign)):
        assert process.poll() is None, f"the run ended before {sign} appeared"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    subprocess.run(["pkill", "-9", "-s", str(process.pid)], check=False)


def what_is_done(workspace: Path) -> dict[Path, int]:
    """When the files of finished stages, and of finished shards of embed, were written."""
    done = {path: path.stat().st_mtime_ns for path in workspace.glob("*/*/manifest.json")}
    for report in (workspace / "embed").glob("*/reports/*.json"):
        artifact, part = report.stem.split("-")
        file = report.parents[1] / artifact / f"part-{part}.parquet"
        done[file] = file.stat().st_mtime_ns
    return done


def test_sigkill_in_one_stage_after_another(corpus, finished, tmp_path) -> None:
    workspace = tmp_path / "workspace"
    found, done = Workspace(str(workspace)), {}
    for stage, sign in (
        ("ingest", "ingest/*/reports/songs-*.json"),
        ("embed", "embed/*/reports/lyrics-*.json"),
        ("train", "train/*/lease/*.json"),
    ):
        kill_when(corpus, workspace, sign)
        assert found.manifest(stage) is None
        done |= what_is_done(workspace)
        assert stage != "embed" or any(path.parent.name == "lyrics" for path in done)
    assert start(corpus, workspace).wait(timeout=300) == 0
    # Nothing of them was done again.
    for path, written in done.items():
        assert path.stat().st_mtime_ns == written, path
    expected = Workspace(str(finished)).require("evaluate")["counts"]
    counts = found.require("evaluate")["counts"]
    for name in ("map", "auc", "users", "test_accuracy"):
        assert counts[name] == expected[name]
    assert not list(workspace.glob("*/*/lease/*.json"))
    assert not list(workspace.glob("*/*/reports"))
