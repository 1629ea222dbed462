"""What a Ray that is started here needs of this machine, so that nothing of it stays or leaves."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from ray._private import ray_constants

from fusionrec.errors import ConfigError

log = logging.getLogger("fusionrec")

_SOCKET = "/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store"
"""The longest path that Ray makes below its folder to listen at."""
_LONGEST = 107
"""Bytes of such a path, by Linux's own limit; 103 on macOS."""

_UV = "RAY_ENABLE_UV_RUN_RUNTIME_ENV"


def folder() -> str | None:
    """Where Ray is to keep its session; None for its own choice, if sockets can have paths there.

    Raises
    ------
    ConfigError
        Ray's choice is too long, and none of the usual short folders can be written.
    """
    name = next((name for name in ("RAY_TMPDIR", "TMPDIR") if name in os.environ), None)
    if name is None or _fits(f"{os.environ[name]}/ray"):
        return None
    given = os.environ[name]
    for parent in ("/tmp", "/var/tmp", os.environ.get("XDG_RUNTIME_DIR", ""), "/dev/shm"):
        chosen = Path(parent) / f"ray-{os.getuid()}"
        if parent and _fits(str(chosen)) and _is_ours(chosen):
            log.info(
                "Ray's session is in %s: %s is too long for its sockets (%s)", chosen, name, given
            )
            return str(chosen)
    raise ConfigError(
        f"{name} {given!r}: is too long for the sockets of Ray's session, and neither /tmp nor "
        f"/var/tmp can be written; set RAY_TMPDIR to a folder of at most "
        f"{_LONGEST - len(_SOCKET) - len('/ray')} bytes"
    )


def _fits(path: str) -> bool:
    return len(os.fsencode(path + _SOCKET)) <= _LONGEST


def _is_ours(path: Path) -> bool:
    """Whether it is, or has become, a folder that this user alone can write."""
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        return path.stat().st_uid == os.getuid() and os.access(path, os.W_OK | os.X_OK)
    except OSError:
        return False


@contextlib.contextmanager
def without_uv() -> Iterator[None]:
    """Keep Ray from taking `uv run` over, unless the environment asks for it.

    Ray would upload the folder, and run each worker by uv again, for packages that are here.
    """
    before = getattr(ray_constants, _UV, False)
    if not before or _UV in os.environ:
        yield
        return
    # Ray read the variable when it was imported.
    setattr(ray_constants, _UV, False)
    try:
        yield
    finally:
        setattr(ray_constants, _UV, before)
