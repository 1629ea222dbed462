"""The service in this process, under uvicorn, without Ray."""

from __future__ import annotations

import logging

import uvicorn

from pipelines.serve.app import create_app
from pipelines.serve.settings import Settings
from pipelines.serve.snapshot import Snapshot

log = logging.getLogger("fusionrec")

_CONNECTIONS = 2048
"""At once; those beyond are told to come again."""

_LAST_SECONDS = 10
"""For what is being answered when the service is told to end."""


def serve(settings: Settings, host: str, port: int) -> None:
    """Serve until the process is told to end (SIGINT, SIGTERM); what is under way is answered.

    Raises
    ------
    WorkspaceError
        There is nothing to serve.
    """
    snapshot = Snapshot(settings.workspace, settings.model, settings.similar_gb)
    app = create_app(settings, snapshot)
    del snapshot  # it is to go when a newer one is there
    log.info(
        "listening at http://%s:%s/ (a page; /v1/openapi.json describes the rest)",
        f"[{host}]" if ":" in host else host,
        port,
    )
    uvicorn.run(
        app,
        host=host,
        port=port,
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
