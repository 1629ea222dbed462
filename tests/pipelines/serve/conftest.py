"""Finished workspaces of a small corpus, by model, and requests to the service in process."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from pipelines.opened import Recommender
from pipelines.run import run
from pipelines.serve.app import create_app
from pipelines.serve.settings import LOOPBACK, Settings
from tests.pipelines.beside import TASTE
from tests.pipelines.inline import load, without_ray

COMMON = {"recommend__protocol": "oord", "lists__run": True}
SETTINGS: dict[str, dict[str, object]] = {
    "genre": {"recommend__weighting": "log"},
    "blend": {"recommend__model": "blend"},
    "network": {"train__objective": "ranking", **TASTE},
}
MODELS = tuple(SETTINGS)


@pytest.fixture(scope="package")
def places(small, undisturbed, tmp_path_factory) -> dict[str, Path]:
    """By model, a workspace with lists of it, made once it is asked for."""

    class Places(dict[str, Path]):
        def __missing__(self, model: str) -> Path:
            place = Path(shutil.copytree(undisturbed, tmp_path_factory.mktemp(model) / "w"))
            with without_ray():
                run(load(small, place, **COMMON, **SETTINGS[model]))
            self[model] = place
            return place

    return Places()


def users_plays(recommender: Recommender) -> dict[str, dict[str, int]]:
    """What the users of the workspace played, of the catalogue and of other songs, by ids."""
    workspace = recommender.workspace
    users = workspace.read("ingest", "users")["user_id"].to_pylist()
    found: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for artifact, songs in (("plays", "songs"), ("other_plays", "other_songs")):
        ids = workspace.read("ingest", songs, ["song_id"])["song_id"].to_pylist()
        for row in workspace.read("ingest", artifact).to_pylist():
            found[users[row["user"]]][ids[row["song"]]] += row["plays"]
    return {user: dict(plays) for user, plays in found.items()}


@contextmanager
def client_of(settings: Settings) -> Iterator[TestClient]:
    """A client of the service in this process, which has been started."""
    app = create_app(settings)
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="package", params=MODELS)
def served(request, places) -> Iterator[tuple[Recommender, TestClient]]:
    """An opened workspace, and a client of its service."""
    settings = Settings(str(places[request.param]), hosts=LOOPBACK, poll_seconds=0)
    with client_of(settings) as client:
        yield Recommender.open(places[request.param]), client
