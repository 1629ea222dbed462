"""Replicas on Ray Serve: one that dies under load takes no more with it than it was answering."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.opened import Recommender
from tests.pipelines.serve.conftest import users_plays

ROOT = Path(__file__).parents[3]
TOKEN = "a secret of the tests"
CLIENTS = 4


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def ask(
    port: int, method: str, path: str, form: object = None, token: str = TOKEN
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    body = None if form is None else json.dumps(form)
    with contextlib.closing(connection):
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()


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


def replicas(of: int) -> list[int]:
    """Processes of replicas below a process."""
    parents, found = {}, []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            stat = (folder / "stat").read_text()
            parents[int(folder.name)] = int(stat.rpartition(")")[2].split()[1])
    for pid in parents:
        above = pid
        while above in parents and above != of:
            above = parents[above]
        with contextlib.suppress(OSError):
            name = Path(f"/proc/{pid}/cmdline").read_bytes()
            if above == of and name.startswith(b"ray::ServeReplica"):
                found.append(pid)
    return found


def until(what, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.1)


@pytest.mark.slow
def test_a_replica_that_dies_under_load(places) -> None:
    recommender = Recommender.open(places["genre"])
    plays = next(iter(users_plays(recommender).values()))
    (expected,) = recommender.recommend({"me": plays}, top=5).to_pylist()
    port, form = free_port(), {"plays": plays, "top": 5}

    def healthy() -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            return ask(port, "GET", "/v1/health")[0] == 200
        return False

    with served(places["genre"], port) as process:
        until(lambda: healthy() and len(replicas(process.pid)) == 2, 150)
        assert ask(port, "POST", "/v1/lists", form, token="wrong")[0] == 401
        answers: list[tuple[float, int, bytes]] = []
        stop = threading.Event()

        def one() -> None:
            while not stop.is_set():
                begun = time.monotonic()
                try:
                    answers.append((begun, *ask(port, "POST", "/v1/lists", form)))
                except (OSError, http.client.HTTPException) as error:
                    answers.append((begun, 0, str(error).encode()))

        clients = [threading.Thread(target=one) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        until(lambda: len(answers) > 50, 60)
        killed, victim = time.monotonic(), replicas(process.pid)[0]
        os.kill(victim, signal.SIGKILL)
        until(lambda: sum(begun > killed for begun, *_ in answers) > 200, 60)
        until(lambda: len(replicas(process.pid)) == 2 and victim not in replicas(process.pid), 120)
        stop.set()
        for client in clients:
            client.join()
    failed = [each for each in answers if each[1] != 200]
    assert len(failed) <= CLIENTS, failed  # of each client no more than the one under way
    assert all(begun <= killed + 0.5 for begun, *_ in failed), failed
    for _, status, body in answers:
        if status == 200:
            assert [song["song_id"] for song in json.loads(body)["songs"]] == expected["song_ids"]
