"""The service in this process, under uvicorn, without Ray."""

from __future__ import annotations

import logging
import socket

import uvicorn

from fusionrec.errors import ConfigError
from pipelines.serve.app import create_app
from pipelines.serve.connections import protocol
from pipelines.serve.settings import Settings, in_url
from pipelines.serve.snapshot import Snapshot

log = logging.getLogger("fusionrec")

_CONNECTIONS = 2048
"""At once; those beyond are told to come again."""

_LAST_SECONDS = 10
"""For what is being answered when the service is told to end."""


def serve(settings: Settings, host: str, port: int) -> None:
    """Serve until the process is told to end (SIGINT, SIGTERM); what is under way is answered.

    It listens once the workspace is read, at a port of the system's choice if `port` is 0.

    Raises
    ------
    WorkspaceError
        There is nothing to serve.
    ConfigError
        The address cannot be listened at.
    """
    bound = _bind(host, port)
    snapshot = Snapshot(settings.workspace, settings.model, settings.similar_gb)
    app = create_app(settings, snapshot)
    del snapshot  # it is to go when a newer one is there
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # else a line a wrong request
    log.info(
        "listening at http://%s:%s/ (a page; /v1/openapi.json describes the rest)",
        in_url(host),
        bound.getsockname()[1],
    )
    config = uvicorn.Config(
        app,
        http=protocol(settings.seconds),
        log_config=None,
        access_log=False,  # /metrics counts them
        server_header=False,
        date_header=False,
        proxy_headers=False,
        ws="none",
        lifespan="on",
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=_LAST_SECONDS,
    )
    uvicorn.Server(config).run(sockets=[bound])


def _bind(host: str, port: int) -> socket.socket:
    """An address of our own, at which nothing is answered yet."""
    try:
        family, kind, protocol_, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol_)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        raise ConfigError(
            f"--host {host} --port {port}: cannot be listened at ({error.strerror}): choose "
            "another port, or end what uses it"
        ) from None
    return bound
