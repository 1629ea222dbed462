"""The one place that calls ray.init, sets threads and memory, and maps work over shards."""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import socket
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from functools import partial
from itertools import islice
from typing import Any, TypeVar

# Two-thread torch spins while it waits and starves other processes unless told before import.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_DEDUP_LOGS", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Ray's C++ core writes advice about Ray Data's own actors straight to the terminal.
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")

import ray

from fusionrec import errors
from pipelines.config import ClusterConfig
from pipelines.runtime import metrics
from pipelines.runtime.progress import progress
from pipelines.runtime.run_id import VARIABLE, run_id
from pipelines.runtime.workspace import StageRun

log = logging.getLogger("fusionrec")

T = TypeVar("T")

Shard = dict[str, Any]
Report = dict[str, Any]

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
        with _silent_stderr():
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
def _silent_stderr() -> Iterator[None]:
    """Keep what Ray's C++ core says about its own log level off the terminal."""
    sys.stderr.flush()
    saved, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)


def _quieten() -> None:
    import ray.data  # configures its own logging when imported, so that comes first

    for name in ("ray.data", "ray.train", "ray.tune"):
        logging.getLogger(name).setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False


_custom: ContextVar[Mapping[str, float] | None] = ContextVar("custom resources", default=None)


@contextlib.contextmanager
def at_work(config: ClusterConfig, run: StageRun) -> Iterator[None]:
    """A stage's work: it asks for the stage's resources, and tells how far it is.

    Ray is started if it is not; raises as :func:`start` does.
    """
    told = _run.set(run)
    try:
        start(config)
        with placed(config, run.stage):
            yield
    finally:
        _run.reset(told)


@contextlib.contextmanager
def shown_progress(
    description: str, total: int, *, written: bool = True
) -> Iterator[Callable[[int], None]]:
    """Yield a function that advances by its argument.

    It shows on the terminal or in the log, in the metrics, and, if `written`, in the stage's
    folder, where `fusionrec status` finds it.
    """
    run = _run.get()
    with progress(description, total) as advance:
        if run is None:
            yield advance
            return
        tags = {"stage": run.stage, "step": description}
        done, told = 0, time.monotonic()

        def tell() -> None:
            if not written:
                return
            line = {"what": description, "step": done, "total": total, "time": time.time()}
            try:
                run.write_json(line, "progress.json")
            except errors.WorkspaceError as error:
                # What matters is written by the stage itself, which then fails by name.
                log.debug("%s: its progress is not told: %s", run.stage, error)

        def advance_and_tell(step: int) -> None:
            nonlocal done, told
            advance(step)
            done += step
            metrics.count("fusionrec_step_done", max(step, 0), **tags)
            if time.monotonic() - told >= _SECONDS_BETWEEN_WORDS:
                told = time.monotonic()
                tell()

        metrics.count("fusionrec_step_size", total, **tags)
        tell()
        yield advance_and_tell
        tell()


_run: ContextVar[StageRun | None] = ContextVar("stage run", default=None)
_SECONDS_BETWEEN_WORDS = 2.0


@contextlib.contextmanager
def placed(config: ClusterConfig, stage: str) -> Iterator[None]:
    """All work that starts within asks for the stage's custom resources, too."""
    wanted = config.resources.get(stage, {})
    for name in wanted:
        if not max(_resource(name), _autoscaled(name)):
            log.warning(
                "%s: waits until a node with the resource %s joins (cluster.resources.%s)",
                *(stage, name, stage),
            )
    token = _custom.set(wanted)
    try:
        yield
    finally:
        _custom.reset(token)


def custom_resources() -> dict[str, float]:
    """The custom resources of the stage that is at work, for what starts workers by itself."""
    return dict(_custom.get() or {})


def _resource(name: str) -> float:
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return resources.get(name, 0.0)


def _autoscaled(name: str) -> float:
    """As much of a resource as the cluster's autoscaler may bring; 0 without one."""
    most = ray._private.state.state.get_max_resources_from_cluster_config()
    return float((most or {}).get(name, 0))


def cpus() -> int:
    """CPUs of the whole cluster, with those that its autoscaler may add."""
    return max(1, int(max(_resource("CPU"), _autoscaled("CPU"))))


def gpus() -> float:
    """GPUs of the whole cluster, with those that its autoscaler may add."""
    return max(_resource("GPU"), _autoscaled("GPU"))


def node_cpus() -> int:
    """CPUs of the largest node: no task may ask for more."""
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    return max(1, *(int(node["Resources"].get("CPU", 0)) for node in nodes if node["Alive"]))


_RETRIES = 10
"""How often a task may lose its worker or node before the stage fails."""


class _Guarded:
    """Calls a shard function; exceptions travel as data, which Ray Data would bury in advice."""

    def __init__(self, function: Callable[[Shard], Report]) -> None:
        self.function = function

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        row = json.loads(item["item"])
        try:
            report, error = json.dumps(self.function(row["shard"]), default=_plain), ""
        except Exception as raised:
            error, report = _as_data(raised)
        return {"number": row["number"], "report": report, "error": error}


class _GuardedActor(_Guarded):
    """The same for an actor, whose shard function is made once from arguments."""

    def __init__(self, factory: Callable[..., Callable[[Shard], Report]], *arguments: Any) -> None:
        try:
            super().__init__(factory(*arguments))
        except Exception as error:
            super().__init__(partial(_raise, error))


def _raise(error: Exception, shard: Shard) -> Report:
    raise error


def _as_data(raised: Exception) -> tuple[str, str]:
    """Name of one of our errors and its message; no name and the traceback of any other."""
    if isinstance(raised, errors.FusionrecError):
        return type(raised).__name__, str(raised)
    return _FOREIGN, "".join(traceback.format_exception(raised))


_FOREIGN = "foreign"


def map_shards(
    function: Callable[..., Any],
    shards: Sequence[Shard],
    *,
    description: str,
    actor_arguments: tuple[Any, ...] | None = None,
    num_gpus: float = 0.0,
) -> list[Report]:
    """Run `function` on every shard with Ray Data; the driver sees small reports only.

    A shard says where its input lies, and the function writes its own output, so the
    driver holds one report (a few hundred bytes) a shard, in the order of the shards.

    Parameters
    ----------
    function
        Takes a shard, returns a JSON-able report. With `actor_arguments`, a factory of
        such a function, called once an actor.
    num_gpus
        GPUs of one actor.

    Raises
    ------
    FusionrecError
        Whatever error of ours a worker met, as it was raised there.
    StageError
        If a worker failed otherwise.
    """
    if not shards:
        return []
    rows = [{"shard": shard, "number": number} for number, shard in enumerate(shards)]
    dataset = ray.data.from_items(
        [{"item": json.dumps(row, default=_plain)} for row in rows],
        override_num_blocks=min(len(rows), 10_000),
    )
    options: dict[str, Any] = {"num_gpus": num_gpus or None, "resources": custom_resources()}
    if actor_arguments is None:
        with warnings.catch_warnings():
            # Ray Data calls it deprecated, and names nothing else that bounds the retries.
            warnings.simplefilter("ignore", DeprecationWarning)
            mapped = dataset.map(
                _Guarded(function), max_retries=_RETRIES, resources=custom_resources()
            )
    else:
        pool = max(1, min(len(shards), cpus())) if not num_gpus else None
        places = int(gpus() / num_gpus) if num_gpus else 0
        if num_gpus and not places:
            raise errors.ConfigError(
                f"{description}: asks for {num_gpus} GPUs an actor, but the cluster has none; "
                "set embed.lyrics.num_gpus=0 to run on CPUs"
            )
        size = min(len(shards), pool or places)
        mapped = dataset.map(
            _GuardedActor,  # type: ignore[arg-type]  # a class, where an actor pool is asked for
            fn_constructor_args=(function, *actor_arguments),
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=size),
            **options,
        )
    reports: dict[int, Report] = {}
    try:
        with shown_progress(description, len(shards)) as advance:
            for row in mapped.iter_rows():
                if row["error"]:
                    raise _revive(row["error"], row["report"], description)
                reports[int(row["number"])] = json.loads(row["report"])
                advance(1)
    except ray.exceptions.RayError as error:
        raise errors.StageError(f"{description}: a worker failed: {root_cause(error)}") from error
    return [reports[number] for number in range(len(shards))]


def map_tasks(
    function: Callable[[Shard], Report], shards: Sequence[Shard], *, description: str
) -> list[Report]:
    """Run `function` on every shard as tasks of one CPU; the driver sees small reports only.

    As :func:`map_shards`, for work of which a shard takes less than a second: tasks follow each
    other in the same processes within a millisecond, where Ray Data takes a quarter of a second
    for each call. A shard whose worker or node dies is done again.

    Raises as :func:`map_shards` does.
    """
    task = partial(_report_of, function)
    ahead = 2 * cpus()
    waiting = iter(enumerate(shards))
    running: dict[Any, int] = {}
    reports: dict[int, Report] = {}
    with shown_progress(description, len(shards)) as advance:
        while len(reports) < len(shards):
            for number, shard in islice(waiting, ahead - len(running)):
                running[submit(task, shard)] = number
            done, _ = ray.wait(list(running), num_returns=1)
            for reference in done:
                reports[running.pop(reference)] = json.loads(gather([reference])[0])
                advance(1)
    return [reports[number] for number in range(len(shards))]


def _report_of(function: Callable[[Shard], Report], shard: Shard) -> str:
    return json.dumps(function(shard), default=_plain)


def run_task(
    function: Callable[..., T], *arguments: Any, num_cpus: float = 1, num_gpus: float = 0
) -> T:
    """Run one function in a worker, so that its data never reach the driver."""
    reference = submit(function, *arguments, num_cpus=num_cpus, num_gpus=num_gpus)
    result: T = gather([reference])[0]
    return result


def wait(references: Sequence[Any]) -> None:
    """Wait for what :func:`submit` started, whose results stay in the object store.

    Raises as :func:`map_shards` does.
    """
    for outcome in gather([submit(_outcome, [reference]) for reference in references]):
        if outcome is not None:
            kind, message = outcome
            raise _revive(kind, message, "task")


def _outcome(references: list[Any]) -> tuple[str, str] | None:
    try:
        kind, message = ray.get(references[0])
    except ray.exceptions.RayError as error:
        return _FOREIGN, root_cause(error)
    return (kind, message) if kind else None


def submit(
    function: Callable[..., Any], *arguments: Any, num_cpus: float = 1, num_gpus: float = 0
) -> Any:
    """Start one function in a worker; pass the result to :func:`gather`."""
    task = _guarded_task.options(
        num_cpus=num_cpus,
        num_gpus=num_gpus,
        resources=custom_resources(),
        max_retries=_RETRIES,
    )
    return task.remote(function, *arguments)


def gather(references: Sequence[Any]) -> list[Any]:
    """Wait for what :func:`submit` started; raises as :func:`map_shards` does."""
    try:
        results = ray.get(list(references))
    except ray.exceptions.RayError as error:
        raise errors.StageError(f"a worker failed: {root_cause(error)}") from error
    for kind, value in results:
        if kind:
            raise _revive(kind, value, "task")
    return [value for _, value in results]


def _run_guarded(function: Callable[..., Any], *arguments: Any) -> tuple[str, Any]:
    try:
        return "", function(*arguments)
    except Exception as error:
        return _as_data(error)


# Made once: each remote function that is made is sent to every worker anew, and has a queue of its
# own, so that no task would follow another in a worker that is ready.
_guarded_task = ray.remote(_run_guarded)


def _revive(kind: str, message: str, description: str) -> errors.FusionrecError:
    """The error that a worker met; its traceback there is the cause, which --debug shows."""
    if kind == _FOREIGN:
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


def _plain(value: Any) -> Any:
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{type(value).__name__} is not JSON")
