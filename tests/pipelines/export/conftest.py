"""By model, a workspace and exports of it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.export import Asked, export
from tests.pipelines.export.reading import MODELS, opened
from tests.pipelines.inline import load, without_ray


@pytest.fixture(scope="session")
def places(small, undisturbed, tmp_path_factory) -> dict[str, Path]:
    """By model, a workspace that has it, made once it is asked for."""

    class Places(dict[str, Path]):
        def __missing__(self, model: str) -> Path:
            place = Path(shutil.copytree(undisturbed, tmp_path_factory.mktemp(model) / "w"))
            stages, settings = MODELS[model]
            with without_ray():
                for stage in stages:
                    stage.run(load(small, place, **settings))
            self[model] = place
            return place

    return Places()


@pytest.fixture(scope="session")
def exported(places, tmp_path_factory) -> Callable[[str, str], Path]:
    """Makes the export of a model with an index, once."""
    made: dict[tuple[str, str], Path] = {}

    def of(model: str, index: str) -> Path:
        if (model, index) not in made:
            out = tmp_path_factory.mktemp("export") / "out"
            export(opened(places[model], model).ranked, Asked(out, index))  # type: ignore[arg-type]
            made[model, index] = out
        return made[model, index]

    return of
