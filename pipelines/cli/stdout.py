"""Standard output belongs to results: what Ray prints there goes to the log."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import Iterator
from typing import Any, TextIO, cast

log = logging.getLogger("fusionrec")


@contextlib.contextmanager
def stdout_for_results() -> Iterator[None]:
    """While it lasts, only the main thread writes to standard output, and nothing of Ray in it.

    Ray prints there what its nodes have to say, such as of memory that is short: from threads of
    its own, and where it is called.
    """
    stream = sys.stdout
    sys.stdout = cast(TextIO, _WithoutRay(stream))
    try:
        yield
    finally:
        sys.stdout = stream


class _WithoutRay:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        caller = str(sys._getframe(1).f_globals.get("__name__"))
        of_ray = caller == "ray" or caller.startswith("ray.")
        if threading.current_thread() is threading.main_thread() and not of_ray:
            return self._stream.write(text)
        if text.strip():
            log.debug("%s", text.rstrip())
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
