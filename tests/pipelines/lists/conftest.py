"""By model, a workspace with lists for everyone."""

import json
import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipelines import blend, lists, train
from pipelines.config import Config
from pipelines.runtime.workspace import Workspace
from tests.pipelines.inline import load, without_ray
from tests.pipelines.lists.making import (
    COLD,
    ELSEWHERE,
    MODELS,
    NEW,
    SEEN,
    SILENT,
    rewrite,
)


@pytest.fixture(autouse=True)
def _no_ray(request) -> Iterator[None]:
    with nullcontext() if "ray_session" in request.fixturenames else without_ray():
        yield


@pytest.fixture(scope="session")
def base(undisturbed, tmp_path_factory) -> Path:
    """A workspace with such users and songs; its model of classes is finished."""
    place = Path(shutil.copytree(undisturbed, tmp_path_factory.mktemp("lists") / "w"))
    workspace = Workspace(str(place))
    part = workspace.read("split", "split")["part"].to_numpy(zero_copy_only=False)

    def plays(frame: pd.DataFrame) -> pd.DataFrame:
        tested = (part == "test")[frame["song"]]
        gone = frame["user"].isin([SILENT, ELSEWHERE]) | frame["song"].isin(NEW)
        gone |= frame["user"].isin(SEEN) & tested
        return frame[~gone & ((frame["user"] != COLD) | tested)]

    def others(frame: pd.DataFrame) -> pd.DataFrame:
        row = pd.DataFrame({"user": [ELSEWHERE], "song": [0], "plays": [2]}, dtype=np.int32)
        kept = frame[~frame["user"].isin([SILENT, ELSEWHERE, COLD])]
        return pd.concat([kept, row]).sort_values(["user", "song"], kind="stable")

    rewrite(workspace, "plays", plays)
    rewrite(workspace, "other_plays", others)
    # Of another model, and of other plays.
    shutil.rmtree(place / "recommend")
    shutil.rmtree(place / "evaluate")
    keys = json.loads((place / "current.json").read_text())
    for stage in ("recommend", "evaluate"):
        del keys["stages"][stage]
    (place / "current.json").write_text(json.dumps(keys))
    return place


@pytest.fixture(scope="session")
def places(small, base, tmp_path_factory) -> dict[str, Path]:
    """By model, a workspace with it, made once it is asked for."""

    class Places(dict[str, Path]):
        def __missing__(self, model: str) -> Path:
            self[model] = Path(shutil.copytree(base, tmp_path_factory.mktemp(model) / "w"))
            chosen = asked(self[model], model)
            if model != "genre":
                (blend if model == "blend" else train).STAGE.run(chosen)
            lists.STAGE.run(chosen)
            return self[model]

    def asked(place: Path, model: str) -> Config:
        return load(small, place, **MODELS[model], lists__users_per_shard=23)

    return Places()


@pytest.fixture(params=MODELS)
def model(request) -> str:
    name: str = request.param
    return name
