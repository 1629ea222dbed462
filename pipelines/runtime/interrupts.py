"""Ctrl-C: once, it ends the command within seconds, with one line and one exit code.

Python raises KeyboardInterrupt where the command is. What stands in its way is taken out of it:
Ray Train and Ray Tune, which replace the handler where they run in the main thread, clean-up that
waits for workers, which is cut off, and a main thread that is in a library's code and does not come
back to Python, which a thread of ours notices.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TypeVar

T = TypeVar("T")

EXIT_CODE = 130
"""128 and the number of SIGINT, as shells have it."""
_SECONDS = 4.0
"""What may be spent on cleaning up."""
_SECONDS_BETWEEN_LOOKS = 0.2


class _State:
    """Of this process, as its signal handlers are."""

    message = "interrupted; the same command goes on from here"
    happened = False
    told = False
    ours = False
    handled = float("-inf")
    beside: threading.Thread | None = None


_state = _State()


def happened() -> bool:
    """Whether the command was interrupted: then it ends, and what it raises comes of that."""
    return _state.happened


@contextlib.contextmanager
def ending_the_command(tell: Callable[[str], None]) -> Iterator[None]:
    """While it lasts, SIGINT ends the process, at the latest after some seconds.

    Whatever the interruption makes the command raise, the process ends with our line and code.

    Parameters
    ----------
    tell
        Shows the user a line.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        _state.handled = time.monotonic()
        if _state.ours:
            raise KeyboardInterrupt
        if _state.happened:  # a second time: at once
            _end(tell)
        _state.happened = True
        timer = threading.Timer(_SECONDS, _end, [tell])
        timer.daemon = True
        timer.start()
        raise KeyboardInterrupt

    _state.happened = _state.told = False
    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        with _noticed_at_once(tell):
            yield
    except BaseException:
        if not _state.happened:
            raise
        _leave(tell)
    finally:
        # Until the process is gone, a second one still ends it at once.
        if not _state.happened:
            signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _noticed_at_once(tell: Callable[[str], None]) -> Iterator[None]:
    """While it lasts, SIGINT ends the process, too, if its handler has no turn.

    Python calls the handler in the main thread, between two of its own instructions; the number of
    the signal is in a pipe at once.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)

    def watch() -> None:
        while numbers := os.read(reading, 64):
            if signal.SIGINT in numbers:
                received, ours = time.monotonic(), _state.ours
                time.sleep(_SECONDS)
                # Python may have called the handler before this thread had its turn.
                if not ours and _state.handled < received - 1:
                    _end(tell)
        os.close(reading)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        # Not while the process ends of an interruption: a second one is still to be noticed.
        if not _state.happened:
            signal.set_wakeup_fd(before)
            os.close(writing)


def _tell(tell: Callable[[str], None]) -> None:
    if not _state.told:
        _state.told = True
        tell(_state.message)


def _leave(tell: Callable[[str], None]) -> None:
    """End the process, cleaned up, while the timer still runs.

    Once Python itself ends, no thread of ours runs any more, and Ray may take its time. What still
    runs beside the main thread would start Ray anew where it is shut down.
    """
    _tell_at_last(tell)
    logging.disable()  # whatever Ray's threads have to say of its end
    if _state.beside is None or not _state.beside.is_alive():
        atexit._run_exitfuncs()
    _end(tell)


def _end(tell: Callable[[str], None]) -> None:
    """End the process now; Ray's own reaper takes away what it started."""
    _tell_at_last(tell)
    os._exit(EXIT_CODE)


def _tell_at_last(tell: Callable[[str], None]) -> None:
    """Tell, as far as anyone listens: a reader may be gone, or take no more."""

    def say() -> None:
        with contextlib.suppress(Exception):
            _tell(tell)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()

    saying = threading.Thread(target=say, daemon=True)
    saying.start()
    saying.join(1.0)


def hear() -> None:
    """In a worker: let SIGINT interrupt, as Ray does where it cancels a task.

    What a shell starts in the background ignores it, and so do its workers.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if in_main_thread and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextlib.contextmanager
def not_by_the_user() -> Iterator[None]:
    """While it lasts, an interruption is raised and nothing else: whoever sends it catches it."""
    _state.ours = True
    try:
        yield
    finally:
        _state.ours = False


@contextlib.contextmanager
def telling(message: str) -> Iterator[None]:
    """While it lasts, an interruption is told by another line."""
    before, _state.message = _state.message, message
    try:
        yield
    finally:
        if not _state.happened:
            _state.message = before


def outside_the_main_thread(function: Callable[[], T]) -> T:
    """Call a function that would take SIGINT for itself in the main thread; wait for it here."""
    results: list[T] = []
    raised: list[BaseException] = []

    def call() -> None:
        try:
            results.append(function())
        except BaseException as error:
            raised.append(error)

    thread = _state.beside = threading.Thread(target=call, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(_SECONDS_BETWEEN_LOOKS)
    if raised:
        raise raised[0]
    return results[0]
