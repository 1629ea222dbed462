"""The page itself: files of the package, as they are, at `/` and `/page/`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files

from fastapi import FastAPI, Request
from starlette.responses import Response

from pipelines.serve.guard import PAGE
from pipelines.serve.problems import problem

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}

_POLICY = (
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "object-src 'none'"
)
"""Nothing from elsewhere, nothing inline, in nobody's frame."""

_NAME = re.compile(r"[a-z-]+\.[a-z]+")


@dataclass(frozen=True)
class _File:
    content: bytes
    kind: str
    tag: str


def add_page_files(app: FastAPI, opened: Callable[[], None]) -> None:
    """Have an application serve the page, and be told when somebody opens it."""
    found = {name: file for name, file in _read().items() if name != "index.html"}
    index = _read()["index.html"]

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def page(request: Request) -> Response:
        if request.method == "GET":
            opened()
        return _answer(index, request)

    @app.api_route(PAGE + "{name}", methods=["GET", "HEAD"], include_in_schema=False)
    async def file(name: str, request: Request) -> Response:
        if name not in found:
            return problem(404, f"{request.url.path}: there is no such file of the page")
        return _answer(found[name], request)


def _read() -> dict[str, _File]:
    read = {}
    for each in files("pipelines.serve").joinpath("page").iterdir():
        kind = _TYPES.get(each.name.rpartition(".")[2])
        if kind is not None and _NAME.fullmatch(each.name):
            content = each.read_bytes()
            tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
            read[each.name] = _File(content, kind, tag)
    return read


def _answer(file: _File, request: Request) -> Response:
    headers = {
        "Cache-Control": "no-cache",  # kept, and asked for by its tag
        "ETag": file.tag,
        "Content-Security-Policy": _POLICY,
    }
    known = [tag.strip() for tag in request.headers.get("if-none-match", "").split(",")]
    if any(tag.removeprefix("W/") in (file.tag, "*") for tag in known):
        return Response(status_code=304, headers=headers)
    return Response(file.content, headers=headers, media_type=file.kind)
