"""Replicas of the service on Ray Serve: asked, loaded with requests, and found among processes."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.pipelines.deaths import family

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


def answered(port: int, method: str, path: str, form: object = None) -> Any:
    """What is answered, which is not to be a problem."""
    status, body = ask(port, method, path, form)
    assert status == 200, body
    return json.loads(body)


def healthy(port: int) -> bool:
    with contextlib.suppress(OSError, http.client.HTTPException):
        return ask(port, "GET", "/v1/health")[0] == 200
    return False


def until(what: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.1)


def replicas(of: int) -> list[int]:
    """Processes of replicas below a process."""
    found = []
    for pid in family(of):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::ServeReplica"):
                found.append(pid)
    return found


class Load:
    """Clients that ask for a list again and again, and what they are answered, and when."""

    def __init__(self, port: int, form: object, expected: list[str]) -> None:
        self._port, self._form, self._expected = port, form, expected
        self._answers: list[tuple[float, int, bytes]] = []
        self._stop = threading.Event()

    def _one(self) -> None:
        while not self._stop.is_set():
            begun = time.monotonic()
            try:
                answer = ask(self._port, "POST", "/v1/lists", self._form)
            except (OSError, http.client.HTTPException) as error:
                answer = (0, str(error).encode())
            self._answers.append((begun, *answer))

    def more(self, count: int) -> None:
        """Wait until so many more requests are answered that began after now."""
        now = time.monotonic()
        until(lambda: sum(begun > now for begun, *_ in self._answers) >= count, 60)

    def failed(self) -> list[tuple[float, int, bytes]]:
        """Those that were not answered by a list."""
        return [each for each in self._answers if each[1] != 200]

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """While it lasts clients ask; at its end all lists have been the expected one."""
        clients = [threading.Thread(target=self._one) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        try:
            self.more(50)
            yield
        finally:
            self._stop.set()
            for client in clients:
                client.join()
        for _, status, body in self._answers:
            if status == 200:
                assert [song["song_id"] for song in json.loads(body)["songs"]] == self._expected

    def kill_one(self, of: int) -> None:
        """Kill a replica below a process: no client loses more than what was under way."""
        before = replicas(of)
        failed, killed, victim = len(self.failed()), time.monotonic(), before[0]
        os.kill(victim, signal.SIGKILL)
        self.more(200)
        until(lambda: len(replicas(of)) == len(before) and victim not in replicas(of), 120)
        lost = self.failed()[failed:]
        assert len(lost) <= CLIENTS, lost
        assert all(begun <= killed + 0.5 for begun, *_ in lost), lost
