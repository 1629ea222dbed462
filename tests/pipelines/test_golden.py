"""Results change with the version of a stage's code only."""

import json
import math

import pytest

from tests.pipelines import golden

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
    **{
        ("train", f"{objective}_{name}"): 0.3
        for objective in ("factors", "ranking")
        for name in ("loss", "validation_loss")
    },
    ("train", "factors_song_vectors"): 0.3,
    # The vectors grow with every epoch, and which is the best of them is a matter of rounding.
    ("train", "ranking_song_vectors"): 0.6,
    ("train", "factors_user_vectors"): 0.02,
    ("train", "ranking_user_vectors"): 0.1,
    ("blend", "dimensions"): 0.1,
    ("blend", "norm"): 0.3,
    ("evaluate", "map"): 0.3,
    ("evaluate", "auc"): 0.15,
    ("report", "multihot_inertia"): 0.05,
    ("report", "word2vec_inertia"): 0.05,
    **{("report", f"majority_{row}"): 0.3 for row in range(2)},
    **{("tune", name): 0.3 for name in ("best", "map")},
    ("tune", "accuracy"): 0.6,
    **{
        ("compare", f"{method}_map"): 0.1
        for method in ("mlr", "linear", "linear-features", "mlp", "cnn-mse", "cnn-wpe", "classes")
    },
    **{("compare", f"{method}_map"): 0.3 for method in ("fusion", "blend")},
    ("compare", "wmf_map"): 0.02,
    ("compare", "ceiling"): 0.1,
    ("compare", "diversity"): 0.02,
}
"""What depends on the processor's rounding; everything else is the same everywhere."""


@pytest.mark.parametrize("stage", [stage.name for stage in golden.ALL])
def test_other_results_need_another_version(beside, stage) -> None:
    found, expected = golden.golden(beside)[stage], GOLDEN[stage]
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
    assert set(GOLDEN) == {stage.name for stage in golden.ALL} == set(golden.OF)
