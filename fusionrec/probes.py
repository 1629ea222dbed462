"""What this machine's processor can do, found out by trying it once.

That an operator exists, or that a processor names an instruction, does not mean that the one runs
on the other, nor that it computes what it should. So whatever depends on the processor runs once
on numbers whose result is known before it is used; where it fails, another way is taken, and one
line of the log says which and why.
"""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

log = logging.getLogger("fusionrec")


@dataclass(frozen=True)
class Finding:
    """What a trial showed.

    Attributes
    ----------
    works
        Whether it ran, and gave what it should.
    reason
        What was seen, in a few words.
    """

    works: bool
    reason: str


def attempt(trial: Callable[[], str]) -> Finding:
    """Run a trial, which returns what was wrong ("" if nothing was) or raises."""
    try:
        fault = trial()
    except Exception as error:
        # Whatever it is: compilers and operators raise anything on a processor they do not know.
        first = str(error).strip().partition("\n")[0]
        fault = f"{type(error).__name__}: {first}" if first else type(error).__name__
    return Finding(not fault, fault or "right on known numbers")


def report(what: str, finding: Finding, used: str, instead: str, *, usual: bool = False) -> Finding:
    """Log which way was taken, in one line, and hand the finding on.

    Parameters
    ----------
    what
        The task, as "ranking".
    used, instead
        The way that was tried, and the one that is taken where it does not work.
    usual
        Whether sound processors do without it, so that this is no cause for a warning.
    """
    if finding.works:
        line = f"{what}: {used} ({finding.reason}; {processor()})"
    else:
        line = f"{what}: {instead} ({used}: {finding.reason}; {processor()})"
    level = logging.INFO if finding.works or usual else logging.WARNING
    log.log(level, line)
    _lines[line] = level
    return finding


_lines: dict[str, int] = {}


def lines(what: str) -> dict[str, int]:
    """What this process has logged of the ways it took in a task, and the lines' levels."""
    return {line: level for line, level in _lines.items() if line.startswith(f"{what}: ")}


@cache
def processor() -> str:
    """The processor's own name, as "AMD EPYC 7B13 (x86_64)"."""
    name = ""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                key, _, value = line.partition(":")
                if key.strip() in ("model name", "CPU implementer"):
                    name = value.strip()
                    break
    except OSError:
        pass  # not Linux
    return f"{name or platform.processor() or 'processor of unknown name'} ({platform.machine()})"
