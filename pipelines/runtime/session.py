"""Ray's start: join the cluster that the config names, or start one here."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import ray

from fusionrec.errors import ResourceError
from pipelines.config import ClusterConfig
from pipelines.runtime import joining, local, tokens
from pipelines.runtime.environment import RETRIES, set_environment
from pipelines.runtime.run_id import VARIABLE, run_id

log = logging.getLogger("fusionrec")

_TOO_SLOW = "timed out during startup"
"""Of the plain Exception that Ray raises."""

_WORKER_ENVIRONMENT = {
    # A reused worker runs each trial in a thread of its own; glibc's arena a thread would keep
    # what every one of them freed.
    "MALLOC_ARENA_MAX": "2",
    "OMP_WAIT_POLICY": "PASSIVE",
    "OPENBLAS_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "RAY_TRAIN_V2_ENABLED": "1",
    **RETRIES,
}


_HERE = {
    # Nobody takes this one machine away; a process of Ray Train's would ask after it all the time.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    # Ray's is 15, so that workers wait for whatever else runs, and workers of a training then for
    # each other. They have the niceness of the command, as one would expect.
    "RAY_worker_niceness": "0",
}
"""For a Ray that is started here, where nobody has set it."""


def start(config: ClusterConfig) -> None:
    """Join the cluster the config names, or start a local Ray; nothing if already connected.

    Raises
    ------
    ConfigError
        If the address is of a kind that cannot be joined.
    InputError
        If no cluster answers there, or not to our token.
    ResourceError
        If a local Ray does not start in time.
    """
    if ray.is_initialized():
        return
    set_environment()
    address = joining.address(config.address)
    options: dict[str, Any] = {
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        "runtime_env": {"env_vars": _worker_environment()},
    }
    if address is None:
        _start_here(config, options)
    else:
        joining.check_reachable(address)
        try:
            _init(address=address.value, **options)
        except ConnectionError as error:
            raise joining.unreachable(address, error) from None
    _quieten()


def _start_here(config: ClusterConfig, options: dict[str, Any]) -> None:
    token = tokens.draw_for_this_session()
    for name, value in _HERE.items():
        os.environ.setdefault(name, value)
    if config.object_store_mb is not None:
        options["object_store_memory"] = config.object_store_mb << 20
    with local.without_uv():
        try:
            _init(
                # Else Ray joins any cluster that it finds on this machine, another user's too.
                address="local",
                num_cpus=config.num_cpus,
                include_dashboard=config.dashboard,
                dashboard_host="127.0.0.1",
                _temp_dir=local.folder(),
                **options,
            )
        except Exception as error:
            if _TOO_SLOW not in str(error):
                raise
            raise ResourceError(
                "Ray's processes did not start here within half a minute: too much else runs on "
                "this machine, or something stops them (what they say is in the newest session_* "
                f"of {local.folder() or 'the temporary folder ray'}); run the command again"
            ) from error
    if config.dashboard and token:
        log.info("the dashboard asks for this session's token: %s", token)


def _init(**options: Any) -> None:
    with _held_back_stderr():
        ray.init(**options)


def _worker_environment() -> dict[str, str]:
    """Less what the submitted job that this is sets itself: Ray refuses to have both."""
    job = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
    given = (job.get("runtime_env") or {}).get("env_vars") or {}
    wanted = {**_WORKER_ENVIRONMENT, VARIABLE: run_id()}
    return {name: value for name, value in wanted.items() if name not in given}


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
