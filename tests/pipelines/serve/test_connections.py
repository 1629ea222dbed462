"""Connections as uvicorn has them: slow ones are closed, and others are answered meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from fusionrec.errors import ConfigError
from pipelines.serve.alone import _bind
from pipelines.serve.connections import protocol
from pipelines.serve.guard import Guard
from pipelines.serve.metrics import Metrics
from pipelines.serve.settings import Settings

TOKEN = "a secret of the tests"
ASK = b"GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n"


async def answering(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}
    )
    await send({"type": "http.response.body", "body": b"ok"})


@contextlib.contextmanager
def served(seconds: float) -> Iterator[tuple[str, int]]:
    """An application behind the guard, under uvicorn in a thread."""
    guard = Guard(answering, Settings("w", token=TOKEN, seconds=seconds), Metrics(), frozenset())
    bound = _bind("127.0.0.1", 0)
    config = uvicorn.Config(
        guard, http=protocol(seconds), lifespan="off", log_config=None, timeout_keep_alive=60
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([bound])))
    thread.start()
    while not server.started:
        thread.join(0.01)
    try:
        yield bound.getsockname()
    finally:
        server.should_exit = True
        thread.join()


def answer(connection: socket.socket) -> bytes:
    """One answer, which may come in several pieces."""
    found = b""
    while not found.endswith(b"ok"):
        part = connection.recv(4096)
        assert part
        found += part
    return found


def rest(connection: socket.socket) -> bytes:
    """All that is sent until the other side closes."""
    connection.settimeout(30)
    found = b""
    while part := connection.recv(4096):
        found += part
    return found


@pytest.mark.parametrize(
    "begun", [b"", b"GET /v1/health HT", b"GET /v1/health HTTP/1.1\r\nHost: x\r\n"]
)
def test_headers_that_do_not_come_are_not_waited_for(begun) -> None:
    with served(0.3) as address, socket.create_connection(address) as slow:
        slow.sendall(begun)
        with socket.create_connection(address) as other:
            other.sendall(ASK)
            assert answer(other).startswith(b"HTTP/1.1 200")
        assert rest(slow) == b""


def test_a_second_request_has_the_same_time() -> None:
    with served(0.3) as address, socket.create_connection(address) as one:
        one.sendall(ASK)
        assert answer(one).startswith(b"HTTP/1.1 200")
        one.sendall(ASK)
        assert answer(one).startswith(b"HTTP/1.1 200")
        one.sendall(ASK[:9])
        assert rest(one) == b""


@pytest.mark.parametrize(("path", "status"), [(b"/v1/health", b"408"), (b"/v1/lists", b"401")])
def test_who_has_an_answer_before_the_body_is_not_listened_to(path, status) -> None:
    with served(0.3) as address, socket.create_connection(address) as one:
        one.sendall(b"POST " + path + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{")
        assert rest(one).startswith(b"HTTP/1.1 " + status)


def test_a_port_in_use_is_told() -> None:
    with contextlib.closing(_bind("127.0.0.1", 0)) as used:
        used.listen()
        with pytest.raises(ConfigError, match="cannot be listened at"):
            _bind(*used.getsockname())
