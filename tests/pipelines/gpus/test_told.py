"""Where a stage works or would work is told by `status` and `check`."""

from __future__ import annotations

from pathlib import Path

import pytest

from fusionrec.errors import ConfigError
from pipelines import check, config
from pipelines.cli.status import stage_table, status
from pipelines.run import stages
from pipelines.runtime import gpus, resources
from pipelines.runtime.gpus import Settled, Sight
from pipelines.runtime.workspace import StageRun, Workspace
from tests.pipelines.gpus.settling import foreseen, settled
from tests.pipelines.inline import load, without_ray


def told(small: Path, place: Path, **more: object) -> check.Found:
    chosen = load(small, place, **more)
    with without_ray():
        return next(f for f in check.check(chosen, stages(chosen)) if f.what == "GPUs")


def test_a_finished_workspace_tells_where_it_was_made(undisturbed) -> None:
    rows = {row.stage: row for row in status(str(undisturbed)).stages}
    with_gpus = {name for name, row in rows.items() if row.gpus}
    assert with_gpus == {"pretrain", "embed", "train", "recommend"}
    assert rows["train"].gpus == ("no GPU in the cluster: CPU",)
    assert "no GPU in the cluster: CPU" in list(stage_table(rows["train"]).columns[1].cells)
    assert not (Path(Workspace(str(undisturbed)).path("train")) / "gpus").exists()


def test_a_stage_at_work_tells_where(tmp_path, cluster) -> None:
    cluster(4)
    settled(tmp_path, "auto")
    row = next(row for row in status(str(tmp_path)).stages if row.stage == "train")
    assert (row.state, row.gpus) == ("unfinished", ("4 GPUs in the cluster, one for a worker",))


def test_check_tells_what_auto_would_choose(small, undisturbed, tmp_path) -> None:
    everywhere = "pretrain, embed, train, recommend: no GPU in the cluster: CPU"
    assert told(small, tmp_path / "w").text == everywhere
    mixed = told(small, tmp_path / "w", train__num_gpus=0).text
    assert mixed == (
        "pretrain, embed, recommend: no GPU in the cluster: CPU; train: CPU (train.num_gpus: 0)"
    )
    assert told(small, undisturbed).text == "none needed"


@pytest.mark.parametrize(
    ("has", "expected"),
    [
        ({"there": 4}, Settled(1, "4 GPUs in the cluster, one for a worker")),
        ({"there": 4, "sees": False}, "but PyTorch 2.13.0+cpu sees none"),
        ({"there": 4, "busy": True}, "4 GPUs in the cluster, none free now: waits for it, 600 s"),
        ({"may_come": 1}, "may bring, none free now: waits for it, 600 s"),
    ],
)
def test_what_auto_would_choose_is_foreseen_without_a_wait(
    tmp_path, cluster, has, expected
) -> None:
    done = cluster(**has)
    found = foreseen(tmp_path)
    if isinstance(expected, Settled):
        assert found == expected
    else:
        assert found.each == 0
        assert expected in found.why
    assert not any(line.startswith("require") for line in done)
    assert not list(tmp_path.iterdir())


def test_a_gpu_that_nobody_can_look_at_now_is_waited_for(tmp_path, cluster, monkeypatch) -> None:
    cluster(1)
    monkeypatch.setattr(gpus, "look", lambda *_: None)
    assert "1 GPU in the cluster, none free now: waits for it" in foreseen(tmp_path).why


def test_check_looks_at_gpus_where_the_stage_may_run(small, tmp_path, cluster, monkeypatch) -> None:
    chosen = load(small, tmp_path / "w", cluster__resources="{train: {near: 1.0}}")
    looked = []

    def look(run: StageRun, each: float, patience: float) -> Sight:
        looked.append((run.stage, dict(run.resources)))
        return Sight(True, "2.13.0", 3e12)

    cluster(4)
    monkeypatch.setattr(gpus, "look", look)
    monkeypatch.setattr(resources, "fits_a_node", lambda bundle: True)
    with without_ray(), monkeypatch.context() as patched:
        patched.setattr(resources, "gpus", lambda: 4.0)
        assert all(found.error is None for found in check.check(chosen, stages(chosen)))
    assert ("train", {"near": 1.0}) in looked
    assert ("pretrain", {}) in looked


def test_a_number_that_will_be_refused_is_foreseen(tmp_path, cluster) -> None:
    chosen = config.load(None, ["train.num_gpus=2"])
    cluster(2)
    assert foreseen(tmp_path, chosen) == Settled(2, "2 GPU for a worker (train.num_gpus: 2)")
    cluster(2, sees=False)
    with pytest.raises(ConfigError, match=r"train.num_gpus: 2, but PyTorch .* sees no GPU"):
        foreseen(tmp_path, chosen)
    cluster(1)
    with pytest.raises(ConfigError, match=r"asks for 2 GPU \(train.num_gpus\)"):
        foreseen(tmp_path, chosen)
