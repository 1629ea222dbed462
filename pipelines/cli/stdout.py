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
    """While it lasts, only the main thread writes to standard output.

    Ray's threads print there what its nodes have to say, such as of memory that is short.
    """
    stream = sys.stdout
    sys.stdout = cast(TextIO, _MainThreadOnly(stream))
    try:
        yield
    finally:
        sys.stdout = stream


class _MainThreadOnly:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        if threading.current_thread() is threading.main_thread():
            return self._stream.write(text)
        if text.strip():
            log.debug("%s", text.rstrip())
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
