"""Progress: a bar on a terminal, log lines elsewhere."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from pipelines.runtime import logs

log = logging.getLogger("fusionrec")
_SECONDS_BETWEEN_LINES = 5.0


@contextlib.contextmanager
def progress(description: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yield a function that advances by its argument.

    On a terminal a bar is drawn; otherwise a line is logged every few seconds.
    """
    console = Console(stderr=True)
    if console.is_terminal and log.isEnabledFor(logging.INFO) and not logs.is_json():
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as bar:
            task = bar.add_task(f"  {description}", total=total)
            yield lambda step: bar.advance(task, step)
        return
    done, shown = 0, time.monotonic()

    def advance(step: int) -> None:
        nonlocal done, shown
        done += step
        if time.monotonic() - shown >= _SECONDS_BETWEEN_LINES:
            shown = time.monotonic()
            log.info("%s: %d of %d", description, done, total)

    yield advance
