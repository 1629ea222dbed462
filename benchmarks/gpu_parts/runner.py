"""Running the parts one after the other, each in a process of its own and within its time.

A part may fail, crash or hang: the others still run, and the result says which did what.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import IO, Any, Literal

Status = Literal["done", "skipped", "failed", "out of time", "interrupted"]

_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

GRACE_S = 2.0
"""Between asking a part to end and killing it."""


@dataclass(frozen=True)
class Part:
    """One process.

    Attributes
    ----------
    command
        What to run; "{pace}" in it is replaced by the share of its time that it gets.
    seconds
        The most it may take, in a run of ten minutes or more.
    """

    name: str
    command: tuple[str, ...]
    seconds: float


@dataclass
class Outcome:
    """What came of a part; `why` is of anything but "done".

    `figures` maps a name to its value, unit and note, `skipped` and `failed` to the reason.
    """

    status: Status
    why: str | None = None
    seconds: float = 0.0
    limit_s: float = 0.0
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


class Interrupted(BaseException):
    """A signal asked the whole run to end."""


def _interrupt(number: int, _: object) -> None:
    # Once is enough: what is left to do is to end the part and to say what was found.
    for asked in _ENDING:
        signal.signal(asked, signal.SIG_IGN)
    raise Interrupted(signal.Signals(number).name)


def run(
    parts: Iterable[Part],
    minutes: float,
    *,
    say: Callable[[str], None],
    outcomes: dict[str, Outcome],
) -> None:
    """Run the parts within `minutes` in all.

    SIGTERM, SIGINT and SIGHUP end the part that runs, and those that follow are not begun.

    Parameters
    ----------
    parts
        Each is asked for when the one before it has ended.
    say
        Gets a readable line for each figure, as soon as it is there.
    outcomes
        Filled as parts end, those that were never begun included.
    """
    ends = time.monotonic() + 60 * minutes
    # One that is ignored, as by nohup, stays so.
    heard = [asked for asked in _ENDING if signal.getsignal(asked) is not signal.SIG_IGN]
    before = {asked: signal.signal(asked, _interrupt) for asked in heard}
    why: str | None = None
    for part in parts:
        left = ends - time.monotonic()
        limit = min(part.seconds * min(1.0, minutes / 10), left)
        if why is not None:
            outcomes[part.name] = Outcome("interrupted", why)
        elif left <= 0:
            outcomes[part.name] = Outcome("out of time", f"the {minutes:g} minutes were over")
            say(f"{part.name}: not begun, the {minutes:g} minutes are over")
        else:
            outcomes[part.name] = outcome = Outcome("done", limit_s=round(limit, 1))
            try:
                _run_part(part, outcome, limit, say)
            except Interrupted as error:
                why = f"{error} ended the run"
                outcome.status, outcome.why = "interrupted", why
            _say_end(part.name, outcome, say)
    if why is None:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say_end(name: str, outcome: Outcome, say: Callable[[str], None]) -> None:
    why = f": {outcome.why}" if outcome.why else ""
    say(f"{name}: {outcome.status}{why} ({outcome.seconds:.0f} s)")


def _run_part(part: Part, outcome: Outcome, limit: float, say: Callable[[str], None]) -> None:
    say(f"{part.name}: begins, {limit:.0f} s at most")
    started = time.monotonic()
    pace = f"{min(1.0, limit / part.seconds):.3f}"
    command = [word.replace("{pace}", pace) for word in part.command]
    with tempfile.TemporaryFile("w+", errors="replace") as noise:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=noise, text=True, start_new_session=True
        )
        late = False
        try:
            late = not _follow(process, started + limit, part.name, outcome, say)
        finally:
            _end(process)
            outcome.seconds = round(time.monotonic() - started, 1)
        _judge(outcome, process.returncode, late, noise)


def _follow(
    process: subprocess.Popen[str],
    ends: float,
    name: str,
    outcome: Outcome,
    say: Callable[[str], None],
) -> bool:
    """Pass on what a part tells until it ends; False where it is still running at `ends`."""
    assert process.stdout is not None
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(process.stdout, lines), daemon=True).start()
    while True:
        # A child of the part may outlive it, and hold its output open.
        over = process.poll() is not None
        left = ends - time.monotonic()
        try:
            line = lines.get(timeout=0.2 if over else max(0.001, min(0.2, left)))
        except queue.Empty:
            if over:
                return True
            if left <= 0:
                return False
            continue
        if line is None:
            try:
                process.wait(max(0.001, left))
            except subprocess.TimeoutExpired:
                return False
            return True
        _take(line, name, outcome, say)


def _read(stream: IO[str], lines: queue.SimpleQueue[str | None]) -> None:
    for line in stream:
        lines.put(line)
    lines.put(None)


def _take(line: str, name: str, outcome: Outcome, say: Callable[[str], None]) -> None:
    """Keep one line of a part, and say it readably."""
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    if not isinstance(event, dict):
        say(f"{name}: {line.rstrip()}")
        return
    if "figure" in event:
        what = event.pop("figure")
        outcome.figures[what] = event
        say(f"{name}: {what}: {readable(event)}")
    for kind in ("skipped", "failed"):
        if kind in event:
            getattr(outcome, kind)[event[kind]] = event["why"]
            say(f"{name}: {event[kind]} {kind}: {event['why']}")


def readable(figure: dict[str, Any]) -> str:
    """A figure for people: three digits or more."""
    value = figure["value"]
    if isinstance(value, float):
        value = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    elif isinstance(value, int) and not isinstance(value, bool):
        value = f"{value:,}"
    note = f" ({figure['note']})" if "note" in figure else ""
    return f"{value} {figure.get('unit', '')}".rstrip() + note


def _end(process: subprocess.Popen[str]) -> None:
    """End a part and every process it has begun."""
    for number, patience in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, None)):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        if process.poll() is not None:
            continue
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def _judge(outcome: Outcome, code: int, late: bool, noise: IO[str]) -> None:
    if late:
        outcome.status = "out of time"
        outcome.why = f"took longer than {outcome.limit_s:g} s"
    elif outcome.failed:
        outcome.status = "failed"
        outcome.why = "; ".join(f"{name}: {why}" for name, why in outcome.failed.items())
    elif code:
        outcome.status, outcome.why = "failed", _last_words(code, noise)
    elif outcome.skipped and not outcome.figures:
        outcome.status, outcome.why = "skipped", "; ".join(outcome.skipped.values())
    if outcome.status in ("failed", "out of time"):
        noise.seek(0)
        sys.stderr.write("".join(f"  | {line}" for line in noise.readlines()[-25:]))


def _last_words(code: int, noise: IO[str]) -> str:
    noise.seek(0)
    said = [line.strip() for line in noise if line.strip()]
    how = f"ended by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
    return f"{how}: {said[-1]}" if said else how
