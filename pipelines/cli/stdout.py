"""Standard output belongs to results: what Ray prints there goes to the log."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any, TextIO, cast

log = logging.getLogger("fusionrec")


@contextlib.contextmanager
def stdout_for_results() -> Iterator[None]:
    """While it lasts, only the main thread writes to standard output, and nothing of Ray in it.

    Ray prints there what its nodes have to say, such as of memory that is short: from threads of
    its own, and where it is called. Where Ray still runs at the end, what it prints is kept out on:
    it is told of more until the process ends, and then waits for that and prints the rest.
    """
    stream = sys.stdout
    if not isinstance(stream, _WithoutRay):
        sys.stdout = cast(TextIO, _WithoutRay(stream))
    try:
        yield
    finally:
        if not _ray_runs():
            sys.stdout = stream


def _ray_runs() -> bool:
    """Whether this process is connected to Ray; if nothing imported it, it is not."""
    ray = sys.modules.get("ray")
    return ray is not None and ray.is_initialized()


_PRINT = "ray.experimental.tqdm_ray"
"""Where Ray has the function that it puts in place of `print`, for everybody."""


def _by_ray() -> bool:
    """Whether whoever writes, the caller's caller, is a function of Ray."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_globals.get("__name__") == _PRINT:
        frame = frame.f_back
    caller = "" if frame is None else str(frame.f_globals.get("__name__"))
    return caller.partition(".")[0] == "ray"


class _WithoutRay:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        if threading.current_thread() is threading.main_thread() and not _by_ray():
            return self._stream.write(text)
        if text.strip():
            log.debug("%s", text.rstrip())
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
