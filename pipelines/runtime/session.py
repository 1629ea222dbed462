"""Ray's start: join the cluster that the config names, or start one here."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import ray

from fusionrec import errors
from pipelines.config import ClusterConfig
from pipelines.runtime.environment import set_environment
from pipelines.runtime.run_id import VARIABLE, run_id

_WORKER_ENVIRONMENT = {
    # A reused worker runs each trial in a thread of its own; glibc's arena a thread would keep
    # what every one of them freed.
    "MALLOC_ARENA_MAX": "2",
    "OMP_WAIT_POLICY": "PASSIVE",
    "OPENBLAS_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "RAY_TRAIN_V2_ENABLED": "1",
}


def start(config: ClusterConfig) -> None:
    """Join the cluster the config names, or start a local Ray; nothing if already connected.

    Raises
    ------
    InputError
        If no cluster answers at `cluster.address`.
    """
    if ray.is_initialized():
        return
    set_environment()
    address = config.address or os.environ.get("RAY_ADDRESS")
    options: dict[str, Any] = {
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        "runtime_env": {"env_vars": _worker_environment()},
    }
    if address:
        _check_reachable(address)
        options["address"] = address
    else:
        options |= {
            # Else Ray joins any cluster that it finds on this machine, another user's too.
            "address": "local",
            "num_cpus": config.num_cpus,
            "include_dashboard": config.dashboard,
            "dashboard_host": "127.0.0.1",
        }
        if config.object_store_mb is not None:
            options["object_store_memory"] = config.object_store_mb << 20
    try:
        with _held_back_stderr():
            ray.init(**options)
    except ConnectionError as error:
        raise _unreachable(address, error) from None
    _quieten()


def _worker_environment() -> dict[str, str]:
    """Less what the submitted job that this is sets itself: Ray refuses to have both."""
    job = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
    given = (job.get("runtime_env") or {}).get("env_vars") or {}
    wanted = {**_WORKER_ENVIRONMENT, VARIABLE: run_id()}
    return {name: value for name, value in wanted.items() if name not in given}


def _check_reachable(address: str) -> None:
    """Fail at once where nothing listens: ray.init itself tries for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():
        return  # "auto" and the like
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise _unreachable(address, error) from None


def _unreachable(address: str | None, error: Exception) -> errors.InputError:
    return errors.InputError(
        f"cluster.address {address!r}: no Ray cluster answers there ({error}); "
        "start one with `ray start --head`, or leave the key out for a local run"
    )


@contextlib.contextmanager
def _held_back_stderr() -> Iterator[None]:
    """Hold back what Ray's C++ core writes to the terminal while it starts, unless that fails.

    It tells of its own log level, past Python's standard error.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        saved = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(saved, 2)
            held.seek(0)
            os.write(2, held.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def _quieten() -> None:
    import ray.data  # configures its own logging when imported, so that comes first

    for name in ("ray.data", "ray.train", "ray.tune"):
        logging.getLogger(name).setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
