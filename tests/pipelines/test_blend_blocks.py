"""Matrix factorisation by blocks in tasks gives what it gives as a whole."""

from dataclasses import replace

import numpy as np
import pytest

from fusionrec.baselines.factorisation import factorise, factorise_in_blocks
from fusionrec.signals import taste
from pipelines.blend import stage
from pipelines.blend.blocks import InTasks
from pipelines.config import Config
from pipelines.runtime import tasks
from tests.pipelines.inline import without_ray
from tests.signals.corpus import corpus, fold

SETTINGS = {
    "factors": 5,
    "alpha": 10.0,
    "epsilon": 2.0,
    "regularisation": 3.0,
    "iterations": 3,
    "seed": 0,
}


def plays() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    counts = corpus()[1].counts.tocoo()
    return counts.row, counts.col, counts.data.astype(np.int64)


def by_blocks():
    shape = corpus()[1].counts.shape
    return factorise_in_blocks(*plays(), shape=shape, **SETTINGS, block=400, sweeper=InTasks(None))


@pytest.mark.usefixtures("ray_session")
def test_a_task_that_starts_tasks_gets_what_one_alone_gets() -> None:
    found = tasks.run_task(None, by_blocks, num_cpus=3)  # all that there are
    whole = factorise(*plays(), shape=corpus()[1].counts.shape, **SETTINGS)
    np.testing.assert_allclose(found.users, whole.users, atol=1e-5)
    np.testing.assert_allclose(found.songs, whole.songs, atol=1e-5)


def test_a_fold_is_factorised_where_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taste, "BLOCK", 300)
    asked = []

    class Counted(InTasks):
        def blocks(self, confidences):
            asked.append(len(confidences))
            return super().blocks(confidences)

    whole = taste.smoothed(fold())
    with without_ray():
        found = taste.smoothed(replace(fold(), sweeper=Counted(None)))
    assert len(asked) == 2
    assert min(asked) > 3
    for some, expected in zip(found, whole, strict=True):
        np.testing.assert_allclose(some, expected, atol=1e-4)


@pytest.mark.parametrize(("limit", "expected"), [(10, InTasks), (10**9, type(None))])
def test_many_plays_are_factorised_in_tasks(monkeypatch, limit: int, expected: type) -> None:
    songs, histories = corpus()
    inputs = stage.Inputs(songs, histories, fold().hidden)
    seen = []
    monkeypatch.setattr(stage, "read_inputs", lambda *_, **__: inputs)
    monkeypatch.setattr(stage, "fit_blend", lambda some, names, **_: seen.append(some))
    monkeypatch.setattr(stage, "BLOCK", limit)
    config = Config()
    stage.fit(config, None, config.blend, 0, "the run")
    stage.fit(config, None, config.blend, 0)
    assert [type(some.sweeper) for some in seen] == [expected, type(None)]
