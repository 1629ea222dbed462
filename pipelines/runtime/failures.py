"""Exceptions of workers: they travel as data, and are raised again in the driver as they were."""

from __future__ import annotations

import importlib
import traceback

from fusionrec import errors

FOREIGN = "foreign"
"""What :func:`as_data` calls an exception that is none of ours."""


def as_data(raised: Exception) -> tuple[str, str]:
    """Name of one of our errors and its message; no name and the traceback of any other."""
    if isinstance(raised, errors.FusionrecError):
        return type(raised).__name__, str(raised)
    return FOREIGN, "".join(traceback.format_exception(raised))


def revive(kind: str, message: str, description: str) -> errors.FusionrecError:
    """The error that a worker met; its traceback there is the cause, which --debug shows."""
    if kind == FOREIGN:
        error = errors.StageError(
            f"{description}: a worker failed: {message.strip().splitlines()[-1]}"
        )
        error.__cause__ = RuntimeError(f"in the worker:\n{message}")
        return error
    found = getattr(importlib.import_module("fusionrec.errors"), kind)(message)
    assert isinstance(found, errors.FusionrecError)
    return found


def root_cause(error: BaseException) -> str:
    """The innermost exception of a chain that Ray wrapped, on one line."""
    seen = {id(error)}
    while True:
        cause = getattr(error, "cause", None)
        cause = cause if isinstance(cause, BaseException) else error.__cause__
        if cause is None or id(cause) in seen:
            break
        seen.add(id(cause))
        error = cause
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1] if lines else ''}"
