"""What is found by its name is there: stages, modalities, methods."""

import importlib

import pytest
from typer.main import get_command

from pipelines.cli.main import app
from pipelines.compare.methods import SPECS
from pipelines.config import STAGES
from pipelines.config.compare import METHODS
from pipelines.config.features import BUILT_IN
from pipelines.embed.stage import embedding
from pipelines.run import STAGES as OF_EVERY_RUN


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_is_a_module_and_a_command_with_its_summary(name) -> None:
    assert importlib.import_module(f"pipelines.{name}").STAGE.name == name
    command = get_command(app).commands[name]  # type: ignore[attr-defined]
    assert command.help.startswith(STAGES[name])


def test_a_run_takes_the_stages_in_their_order() -> None:
    names = [stage.name for stage in OF_EVERY_RUN]
    assert names == [name for name in STAGES if name in names]


@pytest.mark.parametrize("modality", BUILT_IN)
def test_a_modality_is_embedded_by_the_module_of_its_name(modality) -> None:
    assert callable(embedding(modality))


def test_every_method_that_can_be_named_is_there() -> None:
    assert set(SPECS) == set(METHODS)
