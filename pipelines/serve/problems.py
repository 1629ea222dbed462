"""What goes wrong, as RFC 9457 has it: `application/problem+json`."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from fusionrec.errors import ConfigError, DataError, FusionrecError, NotFoundError, WorkspaceError
from pipelines.serve.engine import BusyError
from pipelines.serve.shown import MakingError

log = logging.getLogger("fusionrec")

PROBLEM_JSON = "application/problem+json"

_MOST_ERRORS = 10
"""Fields that one answer names."""

_STATUS: Sequence[tuple[type[FusionrecError], int]] = (
    (BusyError, 503),
    (MakingError, 503),
    (NotFoundError, 404),
    (DataError, 422),
    (ConfigError, 422),
)

BEING_MADE = "urn:fusionrec:being-made"
"""The `type` of a problem that ends by itself: whoever asks again will be answered."""

_UNREADABLE = "the workspace's files cannot be read just now: come again"
"""Of a disk, or of a result that was removed; where they lie is for the log alone."""


def problem(
    status: int,
    detail: str,
    headers: Mapping[str, str] | None = None,
    errors: Sequence[Mapping[str, Any]] = (),
    kind: str = "about:blank",
) -> Response:
    """One answer: what is wrong, of which kind, and of a bad request which fields."""
    title = HTTPStatus(status).phrase
    content: dict[str, Any] = {
        "type": kind,
        "title": title,
        "status": status,
        "detail": detail,
    }
    if errors:
        content["errors"] = list(errors)
    more = {"Retry-After": "1"} if status == 503 else {}
    return Response(
        json.dumps(content), status, headers={**more, **(headers or {})}, media_type=PROBLEM_JSON
    )


def answer_problems(app: FastAPI) -> None:
    """Have an application answer errors so."""

    @app.exception_handler(FusionrecError)
    async def ours(request: Request, error: FusionrecError) -> Response:
        for kind, status in _STATUS:
            if isinstance(error, kind):
                making = isinstance(error, MakingError)
                return problem(status, str(error), kind=BEING_MADE if making else "about:blank")
        return unreadable(request, error)

    @app.exception_handler(OSError)
    async def unread(request: Request, error: OSError) -> Response:
        return unreadable(request, error)

    def unreadable(request: Request, error: Exception) -> Response:
        log.error("%s: %s", request.url.path, error)
        if isinstance(error, OSError | WorkspaceError):
            return problem(503, _UNREADABLE)
        return problem(500, "the service failed; its log says how")

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        # Without what was given: it may be long, or another's.
        errors = [
            {"field": ".".join(map(str, each["loc"])), "what": each["msg"]}
            for each in error.errors()[:_MOST_ERRORS]
        ]
        first = errors[0]
        return problem(422, f"{first['field']}: {first['what']}", errors=errors)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        detail = str(error.detail)
        if error.status_code == 404:
            detail = f"{request.url.path}: there is no such resource; see /v1/openapi.json"
        return problem(error.status_code, detail, error.headers)
