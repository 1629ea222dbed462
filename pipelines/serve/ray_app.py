"""The service on Ray Serve: the same application in replicas, which share the requests.

``serve run pipelines.serve.ray_app:build workspace=s3://bucket/fusionrec`` runs it on a cluster, as
``cluster/kuberay/rayservice.yaml`` does; the token is the environment variable of the replicas'
machines (pods).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from ray import serve as ray_serve
from ray.serve import Application
from starlette.types import ASGIApp

from fusionrec.errors import ConfigError
from pipelines.opened.recommender import Model
from pipelines.serve.settings import TOKEN, Settings

NAME = "fusionrec"

_WAITING_A_REPLICA = 256
"""Requests that a replica is given at once: it ranks them in batches."""

_AIM = 24
"""Requests at once for which one replica is enough; with more, there are to be more replicas."""


def application(settings: Settings, replicas: int, most_replicas: int | None) -> Application:
    """The application on Ray Serve.

    Parameters
    ----------
    settings
        Its token does not travel: each replica reads the environment of its own machine.
    replicas, most_replicas
        So many processes, or, as many requests wait, up to `most_replicas`.
    """
    given, needs_token = settings.as_json(), settings.token is not None

    def build_app() -> ASGIApp:
        from pipelines.serve.app import create_app

        token = os.environ.get(TOKEN) or None
        if needs_token and token is None:
            raise ConfigError(f"{TOKEN} is not set where this replica runs")
        return create_app(Settings.of_json(given, token))

    scaled: dict[str, Any] = {"num_replicas": replicas}
    if most_replicas is not None and most_replicas > replicas:
        scaled = {
            "autoscaling_config": {
                "min_replicas": replicas,
                "max_replicas": most_replicas,
                "target_ongoing_requests": _AIM,
            }
        }
    deployment = ray_serve.deployment(
        name=NAME,
        max_ongoing_requests=_WAITING_A_REPLICA,
        graceful_shutdown_timeout_s=settings.seconds,
        health_check_period_s=5,
        ray_actor_options={"num_cpus": 1},
        **scaled,
    )
    return deployment(ray_serve.ingress(build_app)()).bind()


def _by_commas(given: Any) -> Any:
    if not isinstance(given, str):
        return given
    return [name for each in given.split(",") if (name := each.strip())]


class Arguments(BaseModel):
    """What ``serve run`` and a Serve config may say.

    Most are those of :class:`pipelines.serve.settings.Settings`.

    Attributes
    ----------
    needs_token
        Whether replicas start only where FUSIONREC_SERVE_TOKEN is set, and ask for it.
    hosts
        Names, with commas between them on a command line, where all values are text.
    """

    model_config = ConfigDict(extra="forbid")

    workspace: str
    model: Model | None = None
    replicas: int = Field(1, ge=1)
    most_replicas: int | None = Field(None, ge=1)
    needs_token: bool = True
    hosts: Annotated[tuple[str, ...], BeforeValidator(_by_commas)] = ()
    seconds: float = Field(10.0, gt=0)
    batch: int = Field(64, ge=1)
    poll_seconds: float = Field(5.0, ge=0)
    similar_gb: float = Field(4.0, ge=0)


def build(arguments: Mapping[str, Any]) -> Application:
    """The application, by what ``serve run`` or a Serve config says; see :class:`Arguments`.

    Raises
    ------
    ConfigError
        An argument is wrong.
    """
    try:
        given = Arguments.model_validate(dict(arguments))
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    settings = Settings(
        workspace=given.workspace,
        model=given.model,
        token="of the replica" if given.needs_token else None,
        hosts=given.hosts,
        seconds=given.seconds,
        batch=given.batch,
        poll_seconds=given.poll_seconds,
        similar_gb=given.similar_gb,
    )
    return application(settings, given.replicas, given.most_replicas)
