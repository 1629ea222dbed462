"""The fusion operators beside each other on the same folds."""

import json
import shutil
from pathlib import Path
from typing import get_args

from pipelines import compare
from pipelines.config.features import Operator
from tests.pipelines.inline import load, without_ray


def test_all_seven_are_compared_on_the_same_folds(small, undisturbed, tmp_path) -> None:
    operators = get_args(Operator)
    runs = [f"{{k: 4, modalities: [metadata, lyrics], operator: {name}}}" for name in operators]
    place = Path(shutil.copytree(undisturbed, tmp_path / "w"))
    chosen = load(
        small,
        place,
        compare__methods="[random, fusion]",
        compare__fusion=f"[{', '.join(runs)}]",
        compare__splits="[song]",
        compare__test_folds="[0]",
        compare__seeds=1,
        compare__resamples=100,
    )
    with without_ray():
        manifest = compare.STAGE.run(chosen)
    assert manifest["counts"]["rankings"] == 1 + 7
    rows = json.loads((place / "compare" / "comparison.json").read_text())["song"]["rows"]
    name = "fusion k=4 metadata+lyrics"
    assert [row["name"] for row in rows] == [
        "random",
        *(name if operator == "concatenate" else f"{name} {operator}" for operator in operators),
    ]
    assert len({row["average_precision"] for row in rows}) == 8  # none is another's
