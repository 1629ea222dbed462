"""Progress of a step: a bar on a terminal or log lines, metrics, and a small file in the workspace.

Work in one worker of many tells the driver by :class:`Reporter`; :func:`watched` shows it there.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypedDict

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from fusionrec.errors import WorkspaceError
from pipelines.runtime import logs, metrics
from pipelines.runtime.workspace import StageRun

log = logging.getLogger("fusionrec")

_FILE = ("progress", "now.json")
_SECONDS_BETWEEN_LINES = 5.0
_SECONDS_BETWEEN_FILES = 2.0
_SECONDS_BETWEEN_LOOKS = 1.0

Advance = Callable[[int], None]
"""Takes the steps done since the last call."""


class ProgressFile(TypedDict):
    """So many of the steps of `what` are done; written at this Unix time."""

    what: str
    step: int
    total: int
    time: float


@contextlib.contextmanager
def progress(
    description: str, total: int, run: StageRun | None = None, *, written: bool = True
) -> Iterator[Advance]:
    """Yield a function that advances by its argument.

    On a terminal a bar is drawn; otherwise a line is logged every few seconds. Of a stage's run
    it is counted in the metrics, and, if `written`, kept in the stage's folder, where
    `fusionrec status` finds it.
    """
    with _shown(description, total) as show:
        if run is None:
            yield show
            return
        tags = {"stage": run.stage, "step": description}
        tell = Reporter(run, _SECONDS_BETWEEN_FILES, description) if written else None
        done = 0

        def advance(step: int) -> None:
            nonlocal done
            show(step)
            done += step
            if step:  # a look that found nothing new is no progress
                run.pulse.beat(f"{description}: {done} of {total}")
            metrics.count("fusionrec_step_done", max(step, 0), **tags)
            if tell:
                tell(done, total)

        metrics.count("fusionrec_step_size", total, **tags)
        if tell:
            tell(0, total)
        run.pulse.beat(f"{description}: 0 of {total}")
        yield advance
        run.pulse.beat("")
        if tell:
            tell.write(done, total)


@contextlib.contextmanager
def _shown(description: str, total: int) -> Iterator[Advance]:
    console = Console(stderr=True)
    if console.is_terminal and log.isEnabledFor(logging.INFO) and not logs.is_json():
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as bar:
            task = bar.add_task(f"  {description}", total=total)
            yield lambda step: bar.advance(task, step)
        return
    done, logged, shown = 0, 0, time.monotonic()

    def advance(step: int) -> None:
        nonlocal done, logged, shown
        done += step
        if time.monotonic() - shown >= _SECONDS_BETWEEN_LINES:
            logged, shown = done, time.monotonic()
            log.info("%s: %d of %d", description, done, total)

    yield advance
    # Work that was seen to begin is seen to end; what took no time has had no line at all.
    if logged and logged != done:
        log.info("%s: %d of %d", description, done, total)


class Reporter:
    """Keeps in a small file of the stage's folder how far the work is.

    Parameters
    ----------
    run
        The stage.
    seconds
        The file is written at most this often.
    what
        The step's description; the stage's name, if there is none.
    """

    def __init__(
        self, run: StageRun, seconds: float = _SECONDS_BETWEEN_FILES, what: str = ""
    ) -> None:
        self.run = run
        self.seconds = seconds
        self.what = what or run.stage
        self.written = float("-inf")

    def __call__(self, step: int, total: int) -> None:
        """Say that `step` of `total` steps are done."""
        if step == total or time.monotonic() - self.written >= self.seconds:
            self.write(step, total)

    def write(self, step: int, total: int) -> None:
        """Write the file now."""
        self.written = time.monotonic()
        line: ProgressFile = {
            "what": self.what,
            "step": step,
            "total": total,
            "time": time.time(),
        }
        try:
            self.run.write_json(line, *_FILE)
        except WorkspaceError as error:
            # What matters is written by the stage itself, which then fails by name.
            log.debug("%s: its progress is not told: %s", self.run.stage, error)


@contextlib.contextmanager
def watched(run: StageRun, description: str) -> Iterator[None]:
    """Show, while the block runs, what a :class:`Reporter` in a worker of the stage tells."""
    # What an interrupted run left behind says nothing about this one.
    run.write_json({"step": 0, "total": 0}, *_FILE)
    finished = threading.Event()
    watcher = threading.Thread(target=_watch, args=(run, description, finished), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        finished.set()
        watcher.join()


def _watch(run: StageRun, description: str, finished: threading.Event) -> None:
    # What matters is written and read by the stage itself, which then fails by name.
    with contextlib.suppress(OSError, WorkspaceError):
        _show_what_is_told(run, description, finished)


def _show_what_is_told(run: StageRun, description: str, finished: threading.Event) -> None:
    found = {"step": 0, "total": 0}
    over = False
    while not found["total"]:
        if over:
            return
        over = finished.wait(_SECONDS_BETWEEN_LOOKS)
        found = run.read_json(*_FILE)
    with progress(description, found["total"], run, written=False) as advance:
        advance(shown := found["step"])
        while not over:
            over = finished.wait(_SECONDS_BETWEEN_LOOKS)  # and then a last look
            step = run.read_json(*_FILE)["step"]
            # Less than before where Ray Train started the work anew.
            advance(step - shown)
            shown = step
