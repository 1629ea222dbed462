"""`fusionrec serve`: a finished workspace over HTTP."""

from __future__ import annotations

import importlib.util
import logging
import os
from enum import StrEnum
from typing import Annotated

import typer

from fusionrec.errors import ConfigError
from pipelines.cli.options import ConfigPath, Overrides, loaded
from pipelines.cli.options import Workspace as WorkspaceOption
from pipelines.runtime import interrupts

log = logging.getLogger("fusionrec")

_NEEDS = ("fastapi", "uvicorn", "httptools", "prometheus_client")


class Engine(StrEnum):
    """What the service runs on."""

    uvicorn = "uvicorn"
    ray = "ray"


class ServedModel(StrEnum):
    """What is ranked by."""

    genre = "genre"
    network = "network"
    blend = "blend"


def serve(
    config_path: ConfigPath = None,
    overrides: Overrides = None,
    workspace: WorkspaceOption = None,
    model: Annotated[
        ServedModel | None,
        typer.Option("--model", help="What is ranked by; that of the workspace's lists."),
    ] = None,
    host: Annotated[
        str, typer.Option("--host", help="The address to listen at; loopback reaches no network.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535)] = 8000,
    engine: Annotated[
        Engine,
        typer.Option("--engine", help="uvicorn: this process. ray: replicas on Ray Serve."),
    ] = Engine.uvicorn,
    replicas: Annotated[
        int, typer.Option("--replicas", min=1, help="With --engine ray: processes that answer.")
    ] = 1,
    most_replicas: Annotated[
        int | None,
        typer.Option("--most-replicas", min=1, help="Up to so many where many requests wait."),
    ] = None,
    open_to_all: Annotated[
        bool,
        typer.Option(
            "--no-token",
            help="Listen beyond loopback without a token: a reverse proxy asks who it is.",
        ),
    ] = False,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", help="A name that is served beside the loopback's."),
    ] = None,
    seconds: Annotated[
        float, typer.Option("--timeout", min=0.1, help="Seconds for a request.")
    ] = 10.0,
    batch: Annotated[
        int, typer.Option("--batch", min=1, help="Requests ranked at once, at most.")
    ] = 64,
    poll: Annotated[
        float,
        typer.Option("--poll", min=0.0, help="Seconds between looks for a newer result; 0: none."),
    ] = 5.0,
    similar_gb: Annotated[
        float,
        typer.Option("--similar-gb", min=0.0, help="Memory for songs like one by a blend, GiB."),
    ] = 4.0,
) -> None:
    """Serve a finished workspace over HTTP: lists, songs like one, search, reasons.

    The token that requests must show is the environment variable FUSIONREC_SERVE_TOKEN. The
    OpenAPI description is at /v1/openapi.json.
    """
    _require(engine)
    from pipelines.serve.settings import LOOPBACK, TOKEN, Settings

    token = os.environ.get(TOKEN) or None
    loopback = host in LOOPBACK
    if token is None and not loopback and not open_to_all:
        raise ConfigError(
            f"--host {host}: would let anybody who reaches it ask without a token: set {TOKEN}, or "
            "say --no-token where a reverse proxy asks who it is"
        )
    if token is None and not loopback:
        log.warning("listening at %s without a token: whoever reaches it is answered", host)
    if engine is Engine.uvicorn and (replicas > 1 or most_replicas is not None):
        raise ConfigError("--replicas and --most-replicas: are of --engine ray")
    if most_replicas is not None and most_replicas < replicas:
        raise ConfigError(f"--most-replicas {most_replicas}: is below --replicas {replicas}")
    # Without a token, a web page must not reach it by a name of its own.
    hosts = (*LOOPBACK, *(allow_host or ())) if allow_host or (loopback and not token) else ()
    config = loaded(config_path, overrides, workspace)
    settings = Settings(
        workspace=config.workspace,
        model=None if model is None else model.value,
        token=token,
        hosts=hosts,
        seconds=seconds,
        batch=batch,
        poll_seconds=poll,
        similar_gb=similar_gb,
    )
    with interrupts.telling("stopped"):
        if engine is Engine.ray:
            from pipelines.serve.on_ray import serve as serve_on_ray

            serve_on_ray(settings, config.cluster, host, port, replicas, most_replicas)
            return
        from pipelines.serve.alone import serve as serve_alone

        serve_alone(settings, host, port)


def _require(engine: Engine) -> None:
    """Raise a ConfigError that says how to install what is missing."""
    wanted = _NEEDS if engine is Engine.uvicorn else (*_NEEDS, "ray.serve")
    missing = [name for name in wanted if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"serve: needs {', '.join(missing)}, which the extra `serve` brings: "
            "pip install -c constraints.txt '.[serve]'"
        )
