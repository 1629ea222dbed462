"""Connections that ask nothing, or too slowly, are closed: uvicorn itself waits without end."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


def protocol(seconds: float) -> type[asyncio.Protocol]:
    """HTTP whose connections are closed if the headers of a request have not come within a time.

    It begins with the connection, and with each later request's first byte. Between requests
    uvicorn has a limit of its own, and from the headers on :class:`pipelines.serve.guard.Guard`.
    """

    class Limited(HttpToolsProtocol):
        _late: asyncio.TimerHandle | None = None

        def _begin(self) -> None:
            if self._late is None:
                self._late = self.loop.call_later(seconds, self.transport.close)

        def _end(self) -> None:
            if self._late is not None:
                self._late.cancel()
                self._late = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._begin()

        def connection_lost(self, exc: Exception | None) -> None:
            self._end()
            super().connection_lost(exc)

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._begin()

        def on_headers_complete(self) -> None:
            self._end()
            super().on_headers_complete()

    return Limited
