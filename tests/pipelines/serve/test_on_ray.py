"""Replicas on Ray Serve: one that dies under load takes no more with it than it was answering."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.opened import Recommender
from tests.pipelines.serve.conftest import users_plays
from tests.pipelines.serve.replicas import TOKEN, Load, ask, free_port, healthy, replicas, until

ROOT = Path(__file__).parents[3]


@contextlib.contextmanager
def served(place: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "pipelines.cli", "serve", "--workspace", str(place)]
    command += ["--engine", "ray", "--replicas", "2", "--port", str(port), "--poll", "0"]
    command += ["--set", "cluster.num_cpus=3", "--set", "cluster.object_store_mb=100"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "FUSIONREC_SERVE_TOKEN": TOKEN}
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(60)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.slow
def test_a_replica_that_dies_under_load(places) -> None:
    recommender = Recommender.open(places["genre"])
    plays = next(iter(users_plays(recommender).values()))
    (expected,) = recommender.recommend({"me": plays}, top=5).to_pylist()
    port, form = free_port(), {"plays": plays, "top": 5}
    with served(places["genre"], port) as process:
        until(lambda: healthy(port) and len(replicas(process.pid)) == 2, 150)
        assert ask(port, "POST", "/v1/lists", form, token="wrong")[0] == 401
        load = Load(port, form, expected["song_ids"])
        with load.running():
            load.kill_one(process.pid)
