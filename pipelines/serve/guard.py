"""Who may ask, how much and how long: before the application, for every request."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import Mapping

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipelines.serve.metrics import Metrics
from pipelines.serve.problems import problem
from pipelines.serve.settings import Settings

log = logging.getLogger("fusionrec")

OPEN = ("/v1/health",)
"""Paths that need no token: a load balancer asks there."""

PAGE = "/page/"
"""Below it, and at `/`, is what the page is made of: it holds no data, and asks for the token."""

_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
]

_BODY = {b"content-length", b"transfer-encoding"}
"""Headers of a request with a body."""


class Guard:
    """Middleware: the host's name, the token, limits, time, and what is counted.

    A body is read whole before the application sees the request, so that one that is too long or
    too slow never reaches it.
    """

    def __init__(
        self, app: ASGIApp, settings: Settings, metrics: Metrics, paths: frozenset[str]
    ) -> None:
        self._app, self._settings, self._metrics, self._paths = app, settings, metrics, paths
        self._token = settings.token.encode() if settings.token else None
        self._hosts = {host.lower() for host in settings.hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # there are no web sockets
            await send({"type": "websocket.close", "code": 1008})
            return
        began, status = time.perf_counter(), 0

        async def answering(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                given = [*message.get("headers", ())]
                said = {name.lower() for name, _ in given}
                more = [header for header in _HEADERS if header[0] not in said]
                message = {**message, "headers": [*given, *more]}
            await send(message)

        try:
            await self._answer(scope, receive, answering)
        except Exception:
            log.exception("%s %s failed", scope["method"], scope["path"])
            if status:
                raise
            failed = problem(500, "the service failed; its log says how")
            await failed(scope, receive, answering)
        finally:
            path = scope["path"] if scope["path"] in self._paths else "other"
            method = scope["method"] if scope["method"] in ("GET", "POST") else "other"
            self._metrics.requests.labels(path, method, status or "none").inc()
            self._metrics.seconds.labels(path).observe(time.perf_counter() - began)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: Mapping[bytes, bytes] = dict(scope["headers"])
        refused = self._refused(scope, headers)
        if refused is not None:
            if headers.keys() & _BODY:  # which is not read
                refused.headers["Connection"] = "close"
            await refused(scope, receive, send)
            return
        started = False

        async def sending(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            async with asyncio.timeout(self._settings.seconds):
                body = await self._body(receive)
        except TimeoutError:
            late = problem(
                408,
                f"the request did not arrive within {self._settings.seconds:g} s",
                {"Connection": "close"},
            )
            await late(scope, receive, send)
            return
        if body is None:
            return  # whoever asked has gone
        if len(body) > self._settings.body_bytes:
            await self._too_long()(scope, receive, send)
            return
        try:
            async with asyncio.timeout(self._settings.seconds):
                await self._app(scope, _replayed(body, receive), sending)
        except TimeoutError:
            if started:
                raise
            late = problem(503, f"there was no answer within {self._settings.seconds:g} s")
            await late(scope, receive, send)

    def _refused(self, scope: Scope, headers: Mapping[bytes, bytes]) -> Response | None:
        """An answer, if the request is not to go on."""
        if self._hosts and _host(headers.get(b"host", b"")) not in self._hosts:
            return problem(
                421, "this name is not served here: `fusionrec serve --allow-host NAME` allows it"
            )
        path = scope["path"]
        free = path in OPEN or path == "/" or path.startswith(PAGE)
        if self._token is not None and not free:
            kind, _, given = headers.get(b"authorization", b"").partition(b" ")
            right = hmac.compare_digest(given.strip(), self._token)
            if kind.lower() != b"bearer" or not right:
                return problem(
                    401,
                    "a token is needed: the header `Authorization: Bearer TOKEN`",
                    {"WWW-Authenticate": "Bearer"},
                )
        if len(scope["query_string"]) + len(path) > self._settings.query_bytes:
            return problem(414, f"more than {self._settings.query_bytes} bytes of path and query")
        length = headers.get(b"content-length", b"")
        if length.isdigit() and len(length) < 19 and int(length) > self._settings.body_bytes:
            return self._too_long()
        return None

    def _too_long(self) -> Response:
        return problem(
            413, f"a body of more than {self._settings.body_bytes} bytes", {"Connection": "close"}
        )

    async def _body(self, receive: Receive) -> bytes | None:
        """All of it, or a beginning that is too long; None if the client has gone."""
        parts, size = [], 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            part = message.get("body", b"")
            parts.append(part)
            size += len(part)
            if size > self._settings.body_bytes or not message.get("more_body", False):
                return b"".join(parts)


def _host(given: bytes) -> str:
    """The name of the header `Host`, without its port."""
    name = given.decode("latin-1").lower()
    if name.startswith("["):
        return name[1 : name.find("]")]
    return name.partition(":")[0]


def _replayed(body: bytes, receive: Receive) -> Receive:
    """The body once, then whatever comes."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
