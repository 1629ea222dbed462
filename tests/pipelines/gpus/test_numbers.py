"""How many GPUs: of a ranking, of the trials of a search, and what the config may say."""

from __future__ import annotations

import pytest
import torch

from fusionrec.errors import ConfigError
from pipelines import config, embed, pretrain, recommend, train, tune
from pipelines.runtime import gpus, resources
from pipelines.runtime.resources import Demand
from pipelines.runtime.workspace import Workspace
from tests.pipelines.conftest import told_by
from tests.pipelines.inline import load


def test_ranking_takes_gpus_that_are_worth_all_cpus(
    undisturbed, cluster, small, monkeypatch
) -> None:
    """An H100 is worth ten cores in ranking, a small one a core: the CPUs beside it are faster."""
    workspace, use = Workspace(str(undisturbed)), recommend.STAGE.gpus
    assert use is not None
    chosen = load(small, undisturbed)
    reading = recommend.STAGE.plan(chosen, workspace).reading(workspace)
    cluster(1)
    assert use.on_cpus(chosen, reading, 3e12) is None
    assert use.on_cpus(chosen, reading, 3e11) == (
        "1 GPU, worth 1 CPUs each in ranking, beside 8 CPUs"
    )
    blocks = load(small, undisturbed, recommend__block_mb=0)
    assert use.on_cpus(blocks, reading, 3e12) == (
        "a catalogue of several blocks (recommend.block_mb) is ranked on CPUs"
    )
    with monkeypatch.context() as many:
        many.setattr(resources, "cpus", lambda: 1000)  # more than any GPU, so none is timed
        assert use.on_cpus(chosen, reading, gpus.FASTEST) == (
            "1 GPU, worth at most 30 CPUs each in ranking, beside 1000 CPUs"
        )
    asked = load(small, undisturbed, recommend__block_mb=0, recommend__top=7)
    plan = recommend.STAGE.plan(asked, workspace)
    run = plan.reading(workspace).begin("recommend", plan.content, plan.lineage)
    assert run is not None
    found = gpus.foresee(run, use, asked, Demand(({"CPU": 1.0},), {}), inputs=True)
    assert found is not None
    assert found.each == 0


def test_a_searchs_trials_share_a_gpu() -> None:
    each = {stage.gpus.key: stage.gpus.auto for stage in (pretrain.STAGE, embed.STAGE, train.STAGE,
            tune.STAGE, recommend.STAGE) if stage.gpus}  # fmt: skip
    assert each == {
        "pretrain.num_gpus": 1.0,
        "embed.lyrics.num_gpus": 1.0,
        "train.num_gpus": 1.0,
        "tune.num_gpus": 0.25,
        "recommend.num_gpus": 0.25,
    }
    for key in each:
        name, default = next((n, d) for n, d, _ in config.describe() if n == key)
        assert default == "auto", name


@pytest.mark.parametrize("value", ["-1", "1.5", "some", "true", "null", ".nan", ".inf"])
def test_what_is_no_number_of_gpus_is_refused(value) -> None:
    with pytest.raises(ConfigError, match=r"train.num_gpus is .*: must be auto, 0 for CPUs"):
        config.load(None, [f"train.num_gpus={value}"])


@pytest.mark.parametrize(("value", "read"), [("auto", "auto"), ("0", 0.0), ("0.5", 0.5), ("2", 2)])
def test_numbers_of_gpus(value, read) -> None:
    assert config.load(None, [f"train.num_gpus={value}"]).train.num_gpus == read


def test_the_memorys_rate_is_measured_where_there_is_room(monkeypatch) -> None:
    monkeypatch.setattr(gpus, "_CELLS", 1 << 10)
    assert gpus._rate("cpu") > 0

    for error in (torch.OutOfMemoryError, torch.AcceleratorError):  # the latter: of its context

        def full(*_: object, error: type[Exception] = error, **__: object) -> None:
            raise error

        monkeypatch.setattr(torch, "zeros", full)
        assert gpus._rate("cpu") == 0


FAKE = """
import logging
import sys
import ray
from fusionrec.errors import FusionrecError
from pipelines import config
from pipelines.runtime.gpus import GpuUse
from pipelines.runtime.stage import Stage

def work(config, workspace, run):
    return {"gpus": run.gpus}

if __name__ == "__main__":
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(message)s")
    logging.getLogger("fusionrec").propagate = True
    # Else Ray joins a cluster that another test has started on this machine.
    ray.init(address="local", num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False,
             object_store_memory=100 << 20, logging_level=logging.ERROR)
    use = GpuUse("train.num_gpus", "a worker")
    stage = Stage("train", lambda c: (), lambda c: {"seed": c.seed}, work, gpus=use)
    for seed, asked in enumerate(["auto", "0", "1", "2"]):
        values = [f"train.num_gpus={asked}", f"seed={seed}", f"workspace={sys.argv[1]}"]
        try:
            print(asked, stage.run(config.load(None, values))["counts"])
        except FusionrecError as error:
            print(asked, type(error).__name__, error)
    held = ray.util.placement_group([{"GPU": 1}])
    ray.get(held.ready())
    values = ["cluster.patience=2", "seed=9", f"workspace={sys.argv[1]}"]
    from pipelines.runtime import gpus
    gpus._sights.clear()
    print("held", stage.run(config.load(None, values))["counts"])
"""


@pytest.mark.slow
def test_ray_with_gpus_that_pytorch_does_not_see(tmp_path) -> None:
    """Ray counts a GPU, and PyTorch has no CUDA: CPUs, by name, and no wait without end."""
    told = told_by(FAKE, tmp_path)
    assert "train: 1 GPU in the cluster, but PyTorch" in told
    assert "sees none in a worker that holds it: CPU\n" in told
    assert "auto {'gpus': 0.0}" in told
    assert "train: CPU (train.num_gpus: 0)" in told
    assert "0 {'gpus': 0.0}" in told
    assert "1 ConfigError train.num_gpus: 1, but PyTorch" in told
    assert "2 ConfigError train: asks for 2 GPU (train.num_gpus), but the cluster has 1" in told
    waits = "train: waits for 1 CPU (cluster.num_cpus), 1 GPU (train.num_gpus: auto, 2 s at most"
    assert waits in told
    assert "train: no GPU came free in 2 s (cluster.patience): CPU" in told
    assert "held {'gpus': 0.0}" in told
