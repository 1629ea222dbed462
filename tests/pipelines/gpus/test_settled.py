"""Where GPUs are used, where not, and what is said of it."""

from __future__ import annotations

import pytest

from fusionrec.errors import ConfigError, ResourceError
from pipelines import config, embed
from pipelines.config import Config
from pipelines.runtime import gpus, resources
from pipelines.runtime.resources import Demand
from tests.pipelines.gpus.settling import USE, begun, last_line, settled

NONE, HAS, BRINGS = {}, {"there": 4}, {"may_come": 2}


@pytest.mark.parametrize(
    ("there", "sees", "asked", "each", "said"),
    [
        (NONE, True, "auto", 0, "no GPU in the cluster: CPU"),
        (NONE, False, "auto", 0, "no GPU in the cluster: CPU"),
        (HAS, True, "auto", 1, "4 GPUs in the cluster, one for a worker"),
        (HAS, False, "auto", 0, "4 GPUs in the cluster, but PyTorch 2.13.0+cpu sees none in a "),
        (
            BRINGS,
            True,
            "auto",
            1,
            "2 GPUs in the cluster, counting those that its autoscaler may bring, one for a worker",
        ),
        (BRINGS, False, "auto", 0, "its autoscaler may bring, but PyTorch 2.13.0+cpu sees none"),
        *((where, sees, 0, 0, "CPU (train.num_gpus: 0)") for where in (NONE, HAS, BRINGS)
          for sees in (True, False)),
        (HAS, True, 0.5, 0.5, "0.5 GPU for a worker (train.num_gpus: 0.5)"),
        (BRINGS, True, 2, 2, "2 GPU for a worker (train.num_gpus: 2)"),
        (NONE, True, 1, "asks for 1 GPU (train.num_gpus), but the cluster has 0; set", ""),
        (NONE, False, 1, "asks for 1 GPU (train.num_gpus), but the cluster has 0; set", ""),
        (HAS, False, 1, "train.num_gpus: 1, but PyTorch 2.13.0+cpu sees no GPU", ""),
        (BRINGS, False, 1, "train.num_gpus: 1, but PyTorch 2.13.0+cpu sees no GPU", ""),
        (HAS, True, 5, "asks for 5 GPU (train.num_gpus), but the cluster has 4; set", ""),
    ],
)  # fmt: skip
def test_where_gpus_are_used(tmp_path, cluster, caplog, there, sees, asked, each, said) -> None:
    done = cluster(**there, sees=sees)
    if isinstance(each, str):
        with pytest.raises(ConfigError) as refused:
            settled(tmp_path, asked)
        assert each in str(refused.value)
        return
    assert settled(tmp_path, asked) == each
    assert last_line(caplog).startswith("train: ")
    assert said in last_line(caplog)
    assert last_line(caplog).endswith(": CPU") == (asked == "auto" and not each)
    if not there or asked == 0:
        assert done == ["require CPU"]  # nobody waits for a GPU, or looks at one


def test_auto_waits_for_gpus_in_use_no_longer_than_patience(tmp_path, cluster, caplog) -> None:
    done = cluster(4, busy=True)
    assert settled(tmp_path / "auto", "auto") == 0
    assert last_line(caplog) == "train: no GPU came free in 7 s (cluster.patience): CPU"
    assert done == ["require GPU", "require CPU"]
    with pytest.raises(ResourceError, match="waited 7 s"):
        settled(tmp_path / "one", 1)


def test_where_it_is_cpus_that_did_not_come_no_gpu_is_blamed(
    tmp_path, cluster, caplog, monkeypatch
) -> None:
    cluster(1)

    def require(stage: str, demand: Demand, *, patience: float) -> None:
        if any(bundle.get("GPU") for bundle in demand.bundles):
            raise ResourceError(
                f"{stage}: waited 7 s (cluster.patience) for 1 CPU, 1 GPU; the cluster has 8 CPU, "
                "1 GPU, of which 0 CPU, 1 GPU are free; wait until others have finished, or ask "
                "for less"
            )

    monkeypatch.setattr(resources, "require", require)
    assert settled(tmp_path, "auto") == 0
    assert last_line(caplog) == (
        "train: waited 7 s (cluster.patience) for 1 CPU, 1 GPU; the cluster has 8 CPU, 1 GPU, of "
        "which 0 CPU, 1 GPU are free: CPU"
    )


def test_a_wait_says_what_becomes_of_it(tmp_path, cluster, monkeypatch) -> None:
    cluster(4)
    asked = []
    monkeypatch.setattr(resources, "require", lambda stage, demand, **_: asked.append(demand))
    settled(tmp_path, "auto")
    assert asked[0].keys["GPU"] == "train.num_gpus: auto, 7 s at most, then CPU"


def test_workers_without_a_gpu_each_take_none(tmp_path, cluster, caplog) -> None:
    cluster(2)
    assert settled(tmp_path, "auto", workers=3) == 0
    assert "train: 2 GPUs in the cluster, but 3 workers need one each: CPU" in caplog.text
    with pytest.raises(ConfigError, match=r"asks for 3 GPU \(train.num_gpus\), but .* has 2"):
        settled(tmp_path, 1, workers=3)


def test_a_gpu_far_from_what_else_is_asked_for_is_no_gpu(
    tmp_path, cluster, caplog, monkeypatch
) -> None:
    cluster(1)
    demand = Demand(({"CPU": 1.0},), {}).with_custom({"near": 0.1})
    has = {"CPU": 8.0, "GPU": 1.0, "near": 1.0}
    nodes = [
        {"Alive": True, "Resources": {"CPU": 4.0, "GPU": 1.0}},
        {"Alive": True, "Resources": {"CPU": 4.0, "near": 1.0}},
    ]
    monkeypatch.setattr(resources, "_resource", lambda name: has.get(name, 0.0))
    monkeypatch.setattr(resources.ray, "nodes", lambda: nodes)
    assert gpus.settle(begun(tmp_path), USE, Config(), demand) == 0
    assert last_line(caplog) == (
        "train: 1 GPU in the cluster, but no node has one beside 1 CPU, 0.1 near: CPU"
    )


def test_what_the_cluster_lacks_beside_gpus_is_refused(tmp_path, cluster) -> None:
    cluster(8, cpus=3)
    with pytest.raises(ConfigError, match=r"asks for 4 CPU \(train.workers\), but .* has 3"):
        settled(tmp_path, "auto", workers=4)


def test_work_without_gpus_asks_for_none(tmp_path, cluster, caplog) -> None:
    cluster(4)
    assert gpus.settle(begun(tmp_path), None, Config(), Demand(({"CPU": 1.0},), {})) == 0
    words = config.load(None, ["embed.modalities=[metadata]"])
    assert embed.STAGE.gpus is not None
    assert not embed.STAGE.gpus.applies(words)
    assert gpus.settle(begun(tmp_path), embed.STAGE.gpus, words, Demand(({"CPU": 1.0},), {})) == 0
    assert not caplog.records
