"""`fusionrec serve --engine ray`: the application on Ray Serve while the command runs."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import ray
from ray import serve as ray_serve
from ray.serve import Application
from ray.serve.exceptions import RayServeException

from fusionrec.errors import ConfigError, ResourceError
from pipelines.config import ClusterConfig
from pipelines.runtime import interrupts, resources, session
from pipelines.serve.ray_app import NAME, application
from pipelines.serve.settings import Settings, in_url
from pipelines.serve.snapshot import served_keys

log = logging.getLogger("fusionrec")

_SECONDS_BETWEEN_LINES = 30.0


def serve(
    settings: Settings,
    cluster: ClusterConfig,
    host: str,
    port: int,
    replicas: int,
    most_replicas: int | None,
) -> None:
    """Serve until the process is told to end, on the cluster that the config names or a local Ray.

    SIGINT and SIGTERM take the service away, after what is under way was answered; a second one
    ends the process at once. What else Serve has on a cluster that was joined stays.

    Raises
    ------
    WorkspaceError
        There is nothing to serve.
    ConfigError
        The cluster has such a service already.
    ResourceError
        Ray does not start, or the replicas do not.
    """
    served_keys(settings.workspace, settings.model)  # before anything is started
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    log.info("starting %s on Ray", "a replica" if replicas == 1 else f"{replicas} replicas")
    session.start(cluster)
    _check_room(replicas)
    alone = not _applications()
    if not alone:
        log.warning("Serve runs on this cluster already: its own host and port are listened at")
    ray_serve.start(
        proxy_location="HeadOnly",
        http_options={"host": host, "port": port, "request_timeout_s": 2 * settings.seconds},
    )
    with _until_told() as told:
        try:
            app = application(settings, replicas, most_replicas)
            _run(app, told)
            log.info(
                "listening at http://%s:%s/ (a page; /v1/openapi.json describes the rest)",
                in_url(host),
                port,
            )
            told.wait()
        finally:
            if alone:
                ray_serve.shutdown()  # type: ignore[no-untyped-call]
            else:
                ray_serve.delete(NAME)
            ray.shutdown()


def _applications() -> set[str]:
    """Applications of Serve on this cluster.

    Raises
    ------
    ConfigError
        Ours is one of them.
    """
    try:
        found = set(ray_serve.status().applications)
    except RayServeException:  # it does not run
        return set()
    if NAME in found:
        raise ConfigError(
            f"cluster.address: Serve has an application {NAME} on this cluster already: end it "
            f"there (python -c \"from ray import serve; serve.delete('{NAME}')\"), or use another "
            "cluster"
        )
    return found


def _check_room(replicas: int) -> None:
    """Raise a ResourceError for more replicas than there will be CPUs: Serve waits without end."""
    cpus = resources.cpus()
    if replicas > cpus:
        raise ResourceError(
            f"--replicas {replicas}: each takes a CPU, of which Ray has {cpus}: ask for fewer, or "
            "give it more (cluster.num_cpus)"
        )


def _run(app: Application, told: threading.Event) -> None:
    """Wait until the replicas answer, or the process is told to end."""
    failed: list[Exception] = []

    def start() -> None:
        try:
            ray_serve.run(app, name=NAME)
        except Exception as error:
            failed.append(error)

    starting = threading.Thread(target=start, daemon=True)
    starting.start()
    spoke = time.monotonic()
    while starting.is_alive() and not told.is_set():
        starting.join(0.2)
        if time.monotonic() > spoke + _SECONDS_BETWEEN_LINES:
            spoke = time.monotonic()
            log.info("the replicas are not ready yet; free on Ray: %s", resources.free())
    if failed and not told.is_set():
        said = [line.strip() for line in str(failed[0]).splitlines() if line.strip()]
        raise ResourceError(f"the replicas do not start: {said[-1] if said else failed[0]!r}")


@contextmanager
def _until_told() -> Iterator[threading.Event]:
    """What is set by SIGINT or SIGTERM, while it lasts; then the process ends as these end one."""
    told, number = threading.Event(), 0

    def on_signal(given: int, frame: FrameType | None) -> None:
        nonlocal number
        if told.is_set():
            os._exit(128 + given)
        number = given
        told.set()

    with interrupts.not_by_the_user():
        before = {each: signal.signal(each, on_signal) for each in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield told
        finally:
            signal.signal(signal.SIGINT, before[signal.SIGINT])
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if number:
        signal.raise_signal(number)
