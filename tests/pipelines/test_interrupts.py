"""One Ctrl-C ends a stage within seconds, with one line and one exit code."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.pipelines.conftest import arguments
from tests.pipelines.inline import SMALL

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
            until = time.monotonic() + 300
            while not begun(log.read_text()):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < until, log.read_text()
                time.sleep(0.1)
            os.killpg(process.pid, signal.SIGINT)
            code = process.wait(timeout=10)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    return code, log.read_text()


def ended(
    corpus: Path, workspace: Path, stage: str, sign: str, **settings: object
) -> tuple[int, str]:
    """Exit code and line of a stage that is interrupted once a line or a file is there.

    The last line if ours is not there: on a machine with other work, Ray at times adds one to it.
    """
    command = [stage, *arguments(corpus, workspace, **settings)]

    def begun(told: str) -> bool:
        return sign in told or any(workspace.glob(sign))

    code, told = interrupted(command, workspace.parent / "log", begun)
    lines = told.splitlines()
    return code, LINE if LINE in lines else lines[-1]


@pytest.mark.slow
def test_ingest(corpus, tmp_path) -> None:
    workspace = tmp_path / "w"
    sign = "ingest/*/reports/*.json"
    found = ended(corpus, workspace, "ingest", sign, ingest__files_per_shard=1)
    assert found == (130, LINE)
    assert not list((workspace / "ingest").glob("*/manifest.json"))


ROWS = "[{k: 6, eta: 0.001, p: 0.5}, {k: 3, eta: 0.005, p: 0.1}]"
LONG = {"train__epochs": 50_000, "train__eta": 0.002}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "sign", "settings"),
    [
        # Ray Train takes Ctrl-C for itself, and waits for workers that it has not got yet.
        ("train", "Ray Train starts", {"train__workers": 2, **LONG}),
        ("train", "train/*/progress/now.json", {"train__workers": 1, **LONG}),
        ("embed", "embed: started", {}),
        ("embed", "embed/*/metadata/*.parquet", {}),  # before the encoder's actors are there
        # Ray Tune takes Ctrl-C for itself, too, and ends a trial when it reports.
        ("tune", "tune/*/ray/search/*/result.json", {"tune__scheduler": "none", **LONG}),
        ("compare", "compare: fold 0", {"compare__methods": "[random, fusion]"}),
        (
            "compare",
            "methods/*/manifest.json",
            {
                "compare__methods": "[random, popularity, fusion]",
                "compare__seeds": 5,
                "compare__splits": "[song]",
                "compare__test_folds": "[0]",  # all folds are prepared before the first method
                **LONG,
            },
        ),
        ("report", "report/*/reports/*.json", {"report__elbow_to": 60}),
        (
            "report",
            "train: started",
            {"report__elbow_to": 3, "report__runs": ROWS, "train__workers": 2, **LONG},
        ),
    ],
)
def test_what_follows(
    corpus, finished, small, undisturbed, tmp_path, stage, sign, settings
) -> None:
    # A report of few songs is soon over; of the others, what they need first is.
    songs, before = (corpus, finished) if stage == "report" else (small, undisturbed)
    chosen = settings if stage == "report" else {**SMALL, **settings}
    workspace = tmp_path / "w"
    shutil.copytree(before, workspace)
    shutil.rmtree(workspace / stage, ignore_errors=True)
    assert ended(songs, workspace, stage, sign, **chosen) == (130, LINE)
    assert not list((workspace / stage).glob("*/manifest.json"))


BUSY = """
import hashlib
import sys

from pipelines.runtime import interrupts

interrupts._SECONDS = 0.5
with interrupts.ending_the_command(lambda line: print(line, file=sys.stderr)):
    print("begun", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
"""


@contextlib.contextmanager
def interrupted_program(program: str) -> Iterator[subprocess.Popen[str]]:
    """A program that has said that it has begun, and then got a SIGINT."""
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        yield process
    finally:
        process.kill()


def test_code_that_does_not_come_back_to_python_is_ended() -> None:
    with interrupted_program(BUSY) as process:
        _, told = process.communicate(timeout=10)
    assert (process.returncode, told) == (130, LINE.removeprefix("fusionrec: ") + "\n")


UNREAD = """
import sys

from pipelines.runtime import interrupts

interrupts._SECONDS = 0.5
with interrupts.ending_the_command(lambda line: print(line, file=sys.stderr)):
    print("begun", flush=True)
    print("x" * 10_000_000)
"""


def test_a_reader_that_takes_no_more_does_not_hold_the_process() -> None:
    """As `fusionrec recommend --json ... | less`."""
    with interrupted_program(UNREAD) as process:
        assert process.wait(timeout=10) == 130
