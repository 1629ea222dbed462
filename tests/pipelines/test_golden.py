"""Results change with the version of a stage's code only."""

import json
import math
import shutil
from pathlib import Path

import pytest

from pipelines import blend
from pipelines.run import STAGES
from tests.pipelines import golden
from tests.pipelines.inline import load, without_ray

GOLDEN = json.loads(golden.FILE.read_text())

EXACT = 1e-9
LEARNT = {
    # Relative, seen over processors from SSE4.2 to AMX, where float32 becomes bfloat16, with room.
    ("label", "inertia"): 0.05,
    ("pretrain", "heldout_perplexity"): 0.05,
    ("embed", "metadata_norm"): 0.02,
    ("embed", "metadata_spread"): 0.02,
    ("embed", "lyrics_norm"): 0.02,
    ("embed", "lyrics_spread"): 0.1,
    ("fuse", "explained_variance"): 0.02,
    ("fuse", "norm"): 0.05,
    ("train", "parameters"): 0.1,
    ("train", "loss"): 0.3,
    ("train", "entropy"): 0.3,
    ("blend", "dimensions"): 0.5,
    ("blend", "norm"): 0.3,
    ("evaluate", "map"): 0.3,
    ("evaluate", "auc"): 0.15,
}
"""What depends on the processor's rounding; everything else is the same everywhere."""


@pytest.fixture(scope="module")
def place(small, undisturbed, tmp_path_factory) -> Path:
    """With the blend, which is no part of the run by default."""
    place = Path(shutil.copytree(undisturbed, tmp_path_factory.mktemp("golden") / "w"))
    with without_ray():
        blend.STAGE.run(load(small, place))
    return place


@pytest.mark.parametrize("stage", [stage.name for stage in STAGES])
def test_other_results_need_another_version(place, stage) -> None:
    found, expected = golden.golden(place)[stage], GOLDEN[stage]
    advice = "write the golden results anew: python -m tests.pipelines.golden"
    assert found["version"] == expected["version"], advice
    changed = {
        name: (value, found["figures"].get(name))
        for name, value in expected["figures"].items()
        if not math.isclose(
            found["figures"].get(name, math.nan),
            value,
            rel_tol=LEARNT.get((stage, name), EXACT),
        )
    }
    assert not changed, f"raise the `version` of {stage}, if that is meant, and {advice}"


def test_every_stage_has_golden_results() -> None:
    assert set(GOLDEN) == {stage.name for stage in STAGES} == set(golden.OF)
