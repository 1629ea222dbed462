"""Requests that are wrong in every way: none makes the service fail, and each is told why."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from starlette.testclient import TestClient

from pipelines.serve.app import create_app
from pipelines.serve.settings import LOOPBACK, Settings
from tests.pipelines.serve.conftest import client_of

OPERATIONS = create_app(Settings("nowhere")).openapi()["paths"]
ASKS = {"parameters", "requestBody"}
MODES = [*schemathesis.GenerationMode]


@pytest.fixture(scope="module")
def client(places) -> Iterator[TestClient]:
    with client_of(Settings(str(places["genre"]), hosts=LOOPBACK, poll_seconds=0)) as client:
        yield client


# --- by the description --------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
@pytest.mark.parametrize(
    ("path", "method"), [(path, method) for path in OPERATIONS for method in OPERATIONS[path]]
)
def test_answers_are_as_they_are_described(client, path, method, mode) -> None:
    """What the description allows and what it does not, as schemathesis draws it.

    Its checks: no 500, only statuses and types that are described, answers that are as their
    schema says, and no request accepted that is not as its schema says.
    """
    schema = schemathesis.openapi.from_dict(client.get("/v1/openapi.json").json())
    operation = schema[path][method]
    if (
        mode is schemathesis.GenerationMode.NEGATIVE
        and len(OPERATIONS[path][method].keys() & ASKS) == 0
    ):
        return  # it takes nothing that could be wrong

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=15,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[*HealthCheck],
    )
    def check(case: schemathesis.Case) -> None:
        sent = case.as_transport_kwargs(base_url="http://127.0.0.1")
        sent.pop("cookies", None)
        content = sent.pop("data", None)
        if content is not None:
            sent["content"] = content if isinstance(content, str | bytes) else json.dumps(content)
        try:
            found = client.request(**sent)
        except (httpx.InvalidURL, UnicodeEncodeError, TypeError, ValueError):
            return  # what the client itself cannot send
        case.validate_response(found)

    check()


# --- by chance -----------------------------------------------------------------------------

PATHS = [*OPERATIONS, "/v1/openapi.json", "/", "/v1", "/v1/../etc/passwd", "/v1/lists/x", "//"]
TEXTS = [
    "",
    "x",
    "../../etc/passwd",
    "'; DROP TABLE users; --",
    "\x00",
    "é" * 40,
    "\ud800",
    "9" * 17_000,
    "-1",
    "NaN",
    "1e999",
    "true",
    "null",
    "😀",
    "a" * 600,
    "__import__('os')",
    "gASVBQAAAAAAAABLAS4=",
    "%00%ff",
]
VALUES: list[Any] = [None, True, False, 0, -1, 2**63, 10**400, 1.5, -0.0, [], {}, [[]], *TEXTS]
NAMES = ["plays", "top", "user_id", "song_id", "candidates", "exclude_heard", "q", "artist", "x"]
KINDS = [
    "application/json",
    "text/plain",
    "multipart/form-data; boundary=x",
    "a/b;charset=\xff",
    "",
]


class Drawn:
    """Requests that are mostly wrong, drawn by a seed."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def one_of(self, given: list[Any]) -> Any:
        return given[int(self._rng.integers(len(given)))]

    def value(self, depth: int = 0) -> Any:
        kind = int(self._rng.integers(4)) if depth < 4 else 0
        few = range(int(self._rng.integers(4)))
        if kind == 1:
            return [self.value(depth + 1) for _ in few]
        if kind == 2:
            return {str(self.one_of([*NAMES, *TEXTS])): self.value(depth + 1) for _ in few}
        return self.one_of(VALUES)

    def body(self) -> bytes:
        kind = int(self._rng.integers(5))
        if kind == 0:
            return self._rng.bytes(int(self._rng.integers(200)))
        names = NAMES[:6] if kind > 2 else NAMES
        form = {name: self.value() for name in names if self._rng.random() < 0.6}
        if self._rng.random() < 0.3:
            form["plays"] = {str(self.one_of(TEXTS)): self.one_of(VALUES) for _ in range(3)}
        text = bytearray(json.dumps(form).encode())
        if kind == 1:
            return b"[" * int(self._rng.integers(1, 5000)) + bytes(text)
        if kind == 2:
            for place in self._rng.integers(0, len(text), 3).tolist():
                text[place] = int(self._rng.integers(256))
        return bytes(text)

    def request(self) -> dict[str, Any]:
        pairs = [
            (self.one_of(NAMES), str(self.one_of(TEXTS)).encode(errors="replace"))
            for _ in range(int(self._rng.integers(4)))
        ]
        query = b"&".join(name.encode() + b"=" + value for name, value in pairs)
        headers = [(b"host", b"127.0.0.1")]
        if self._rng.random() < 0.8:
            headers.append((b"content-type", self.one_of(KINDS).encode("latin-1")))
        if self._rng.random() < 0.1:
            headers.append((b"content-length", self.one_of([b"-1", b"9" * 30, b"x", b"3"])))
        return {
            "method": self.one_of(["GET", "POST", "POST", "POST", "PUT", "HEAD", "PATCH", "QUERY"]),
            "path": self.one_of(PATHS),
            "query_string": query,
            "headers": headers,
            "body": self.body(),
        }


async def sent(app: Any, request: dict[str, Any]) -> tuple[int, dict[bytes, bytes], bytes]:
    """A request straight into the application: no client puts anything right."""
    body, messages = request["body"], []
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "http",
        "root_path": "",
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        **{name: request[name] for name in ("method", "path", "query_string", "headers")},
        "raw_path": request["path"].encode(),
    }
    parts = iter([body[: len(body) // 2], body[len(body) // 2 :]])
    left = 2

    async def receive() -> dict[str, Any]:
        nonlocal left
        left -= 1
        return {"type": "http.request", "body": next(parts), "more_body": left > 0}

    async def send(message: dict[str, Any]) -> None:
        messages.append(message)

    await app(scope, receive, send)
    start, *answer = messages
    content = b"".join(message.get("body", b"") for message in answer)
    return start["status"], dict(start["headers"]), content


async def checked(place: str, number: int) -> Counter[int]:
    app = create_app(Settings(place, hosts=LOOPBACK, poll_seconds=0))
    drawn, statuses = Drawn(number), Counter[int]()
    async with app.router.lifespan_context(app):
        for _ in range(number):
            request = drawn.request()
            status, headers, content = await sent(app, request)
            assert status < 500, (status, request)
            statuses[status] += 1
            if status >= 400 and request["method"] != "HEAD":
                assert headers[b"content-type"] == b"application/problem+json", request
                problem = json.loads(content)
                assert problem["status"] == status
                assert problem["detail"]
        # It is as sound as before.
        sound = {
            "method": "POST",
            "path": "/v1/lists",
            "query_string": b"",
            "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
            "body": b'{"plays": {}, "top": 2}',
        }
        status, _, content = await sent(app, sound)
        assert status == 200
        assert len(json.loads(content)["songs"]) == 2
    return statuses


def test_no_malformed_request_makes_it_fail(places) -> None:
    statuses = asyncio.run(checked(str(places["genre"]), 600))
    assert {404, 405, 422} <= set(statuses)


@pytest.mark.slow
def test_no_malformed_request_of_ten_thousand_makes_it_fail(places) -> None:
    statuses = asyncio.run(checked(str(places["blend"]), 10_000))
    assert {200, 400, 404, 405, 414, 422} <= set(statuses)
