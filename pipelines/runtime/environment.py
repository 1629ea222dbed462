"""Environment variables that Ray and torch read when they are imported or started."""

from __future__ import annotations

import os

# A task that Ray's memory monitor stops is tried again without end otherwise.
RETRIES = {"RAY_task_oom_retries": "3"}

_DRIVER_ENVIRONMENT = {
    # Two-thread torch spins while it waits, and starves the workers, unless told before its import.
    "OMP_WAIT_POLICY": "PASSIVE",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    # A thread that asks after Ray's end, as after Ctrl-C, would start it anew.
    "RAY_ENABLE_AUTO_CONNECT": "0",
    **RETRIES,
    # Ray's C++ core writes advice about Ray Data's own actors straight to the terminal.
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}


def set_environment() -> None:
    """Set what Ray and torch read when they are first imported or started, where nobody has."""
    for name, value in _DRIVER_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
