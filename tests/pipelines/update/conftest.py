"""Runs of the early files, as they were and by model brought up to date."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace

import pytest

from pipelines import blend, lists, update
from tests.pipelines.inline import without_ray
from tests.pipelines.update.late import ON_THE_SAME, Late
from tests.pipelines.update.places import Place, begun


@pytest.fixture(autouse=True)
def _no_ray(request) -> Iterator[None]:
    with nullcontext() if "ray_session" in request.fixturenames else without_ray():
        yield


@pytest.fixture(scope="session")
def late(tmp_path_factory) -> Late:
    return Late.of(tmp_path_factory.mktemp("late") / "sample")


@pytest.fixture(scope="session")
def early(late, tmp_path_factory) -> Place:
    """A run of the early files, and no late file."""
    return begun(late, tmp_path_factory.mktemp("early"), "genre")


@pytest.fixture(scope="session")
def places(late, early, tmp_path_factory) -> dict[str, Place]:
    """By model, a run of the early files brought up to date; made once it is asked for."""

    class Places(dict[str, Place]):
        def __missing__(self, model: str) -> Place:
            with without_ray():  # also for the test that compares it with one made with Ray
                return self.made(model)

        def made(self, model: str) -> Place:
            folder = tmp_path_factory.mktemp(model)
            if model in ON_THE_SAME:
                self[model] = replace(early.copy(folder), model=model)
                for stage in (blend.STAGE, lists.STAGE)[model == "limited" :]:
                    stage.run(self[model].config())
            else:
                self[model] = begun(late, folder, model)
            late.write(self[model].tables, "2", late=True)
            update.STAGE.run(self[model].config())
            if model in ON_THE_SAME:
                for path in early.tables.glob("*-2.*"):
                    path.unlink()
            return self[model]

    return Places()


@pytest.fixture
def fresh(early, tmp_path) -> Iterator[Place]:
    """The run of `early` for a test to change; the tables are as they were when it ends."""
    shutil.copytree(early.tables, tmp_path / "kept")  # with their times
    yield early.copy(tmp_path)
    shutil.rmtree(early.tables)
    shutil.copytree(tmp_path / "kept", early.tables)
