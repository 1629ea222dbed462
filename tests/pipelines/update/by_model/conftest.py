"""Each model in turn."""

from __future__ import annotations

import pytest

from tests.pipelines.update.late import MODELS
from tests.pipelines.update.places import Place


@pytest.fixture(params=[*MODELS, "blend", "closed"])
def place(request, places) -> Place:
    found: Place = places[request.param]
    return found
