"""Exceptions of workers: they travel as data, and are raised again in the driver as they were."""

from __future__ import annotations

import importlib
import re
import traceback
from collections.abc import Iterator

import ray

from fusionrec import errors

FOREIGN = "foreign"
"""What :func:`as_data` calls an exception that is none of ours."""


_CAME_OF = "\x1f"


def as_data(raised: Exception) -> tuple[str, str]:
    """Name of one of our errors and its message; no name and the traceback of any other.

    Behind the message of ours is the traceback of the exception that it came of, if any.
    """
    if isinstance(raised, errors.FusionrecError):
        cause = raised.__cause__
        trace = "" if cause is None else _CAME_OF + "".join(traceback.format_exception(cause))
        return type(raised).__name__, f"{raised}{trace}"
    return FOREIGN, "".join(traceback.format_exception(raised))


def revive(kind: str, message: str, description: str) -> errors.FusionrecError:
    """The error that a worker met; its traceback there is the cause, which --debug shows."""
    if kind == FOREIGN:
        error = errors.StageError(
            f"{description}: a worker failed: {message.strip().splitlines()[-1]}"
        )
        error.__cause__ = RuntimeError(f"in the worker:\n{message}")
        return error
    message, _, trace = message.partition(_CAME_OF)
    found = getattr(importlib.import_module("fusionrec.errors"), kind)(message)
    assert isinstance(found, errors.FusionrecError)
    if trace:
        found.__cause__ = RuntimeError(f"in the worker:\n{trace}")
    return found


def death(error: BaseException) -> str | None:
    """Why an actor's process died, in a few words; None if `error` tells of no such death."""
    kinds = (ray.exceptions.ActorDiedError, ray.exceptions.OutOfMemoryError)
    found = next((e for e in _chain(error) if isinstance(e, kinds)), None)
    text = " ".join(str(found or "").split())
    if found is None or "raised in its creation task" in text:
        return None
    if isinstance(found, ray.exceptions.OutOfMemoryError) or "low on memory" in text:
        return "Ray ended it because its node ran low on memory"
    code = re.search(r"with an exit code (\d+)", text)
    if code:
        return f"it ended with exit code {code[1]}; what it printed is in Ray's logs (worker-*.err)"
    return (
        "it was killed, as the system does for want of memory (dmesg tells), or crashed; what it "
        "printed is in Ray's logs (worker-*.err)"
    )


TASK = "_run_guarded"
"""What the name of each task of ours begins with; the stage's follows."""

_USAGE = re.compile(r"was ([\d.]+ ?GB) used / ([\d.]+ ?GB) limit")
_STAGE = re.compile(rf"task name={TASK} (\w+),")


def lost(what: str, error: BaseException) -> errors.StageError:
    """The error where Ray gave a worker up; `what` it did, unless Ray names the stage's task."""
    told = str(error)
    out_of_memory = isinstance(error, ray.exceptions.OutOfMemoryError)
    if not (out_of_memory or "running low on memory" in told or "out-of-memory" in told.lower()):
        return errors.StageError(f"{what}: a worker failed: {root_cause(error)}")
    usage, stage = _USAGE.search(told), _STAGE.search(told)
    amount = f" ({usage[1]} of {usage[2]} in use)" if usage else ""
    return errors.StageError(
        f"{stage[1] if stage else what}: memory was short{amount}, and Ray stopped the worker each "
        "time it was tried again; let fewer work at a time (cluster.num_cpus), end what else runs "
        "on the node, or take one with more memory"
    )


def root_cause(error: BaseException) -> str:
    """The innermost exception of a chain that Ray wrapped, on one line."""
    *_, last = _chain(error)
    lines = [line.strip() for line in str(last).splitlines() if line.strip()]
    return f"{type(last).__name__}: {lines[-1] if lines else ''}"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception and what caused it, up to the last one that says anything."""
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        cause = getattr(found, "cause", None)
        cause = cause if isinstance(cause, BaseException) else found.__cause__
        # Ray Data raises an empty exception as the cause of the one that says what happened.
        found = cause if cause is not None and str(cause).strip() else None
