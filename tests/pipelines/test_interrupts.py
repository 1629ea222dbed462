"""One Ctrl-C ends a stage within seconds, with one line and one exit code."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.pipelines.conftest import arguments

LINE = "fusionrec: interrupted; the same command goes on from here"


def interrupted(command: list[str], log: Path, begun: Callable[[str], bool]) -> tuple[int, str]:
    """Exit code and log of a command that gets one SIGINT as soon as it has begun."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    with log.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipelines.cli", *command],
            stdout=subprocess.DEVNULL,
            stderr=stream,
            env={**environment, "PYTHONPATH": str(Path(__file__).parents[2])},
            start_new_session=True,
        )
        try:
            until = time.monotonic() + 120
            while not begun(log.read_text()):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < until, log.read_text()
                time.sleep(0.1)
            os.killpg(process.pid, signal.SIGINT)
            # Its own limit is shorter; the rest is for a busy machine.
            code = process.wait(timeout=20)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    return code, log.read_text()


@pytest.mark.slow
def test_ingest(corpus, tmp_path) -> None:
    workspace = tmp_path / "w"
    command = ["ingest", *arguments(corpus, workspace, ingest__files_per_shard=1)]
    code, told = interrupted(
        command, tmp_path / "log", lambda _: any((workspace / "ingest").glob("*/reports/*.json"))
    )
    assert (code, told.splitlines()[-1]) == (130, LINE)
    assert not list((workspace / "ingest").glob("*/manifest.json"))


@pytest.mark.slow
def test_training(corpus, finished, tmp_path) -> None:
    """Ray Train takes Ctrl-C for itself, and waits for workers that it has not got yet."""
    workspace = tmp_path / "w"
    shutil.copytree(finished, workspace)
    shutil.rmtree(workspace / "train")
    more = {"train__workers": 2, "train__epochs": 5000, "train__eta": 0.002}
    command = ["train", *arguments(corpus, workspace, **more)]
    code, told = interrupted(command, tmp_path / "log", lambda log: "Ray Train starts" in log)
    assert (code, told.splitlines()[-1]) == (130, LINE)
