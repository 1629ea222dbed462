"""`num_gpus: auto`: where GPUs are used, where not and why; no result is of two precisions."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fusionrec.errors import ConfigError, ResourceError
from pipelines import check, config, embed, pretrain, recommend, train, tune
from pipelines.cli.status import stage_table, status
from pipelines.config import Config
from pipelines.run import stages
from pipelines.runtime import gpus, resources
from pipelines.runtime.gpus import GpuUse, Settled, Sight
from pipelines.runtime.resources import Demand
from pipelines.runtime.stream import Pool, Sink, Source
from pipelines.runtime.workspace import StageRun, Workspace
from pipelines.train import stage as training
from tests.pipelines.conftest import BEFORE_TRAIN, copied, told_by
from tests.pipelines.inline import load, without_ray

USE = GpuUse("train.num_gpus", "a worker")
PATIENCE = 7.0


@pytest.fixture(autouse=True)
def _told(monkeypatch, caplog) -> None:
    monkeypatch.setattr(logging.getLogger("fusionrec"), "propagate", True)
    caplog.set_level(logging.INFO, "fusionrec")


@pytest.fixture
def cluster(monkeypatch) -> Callable[..., list[str]]:
    """A cluster as Ray would tell of it; what is waited and looked for is in the list.

    GPUs that are there and that the autoscaler may bring, whether others hold them, and what
    PyTorch sees in a worker that holds one.
    """

    def made(
        there: float = 0,
        may_come: float = 0,
        *,
        busy: bool = False,
        sees: bool = True,
        cpus: float = 8,
    ) -> list[str]:
        done: list[str] = []
        has = {"CPU": cpus, "GPU": there}
        may = {"CPU": cpus, "GPU": may_come} if may_come else {}

        def require(stage: str, demand: Demand, *, patience: float) -> None:
            resources.refuse(stage, demand)
            asked = {name for bundle in demand.bundles for name, n in bundle.items() if n}
            done.append(f"require {'GPU' if 'GPU' in asked else 'CPU'}")
            if busy and "GPU" in asked:
                raise ResourceError(f"waited {patience:g} s (cluster.patience)")

        def look(run: StageRun | None, each: float, patience: float) -> Sight:
            done.append(f"look with {each:g}")
            return Sight(sees, "2.13.0+cpu", 3e12 * sees)

        nodes = [{"Alive": True, "Resources": has}]
        monkeypatch.setattr(resources.ray, "nodes", lambda: nodes)
        monkeypatch.setattr(resources, "_resource", lambda name: has.get(name, 0.0))
        monkeypatch.setattr(resources, "_autoscaled", lambda name: may.get(name, 0.0))
        monkeypatch.setattr(resources, "free_gpus", lambda: 0.0 if busy else there)
        monkeypatch.setattr(resources, "require", require)
        monkeypatch.setattr(gpus, "look", look)
        return done

    return made


def begun(place: Path) -> StageRun:
    run = Workspace(str(place)).begin("train", {})
    assert run is not None
    return run


def settled(place: Path, asked: object, workers: int = 1, use: GpuUse = USE) -> float:
    chosen = config.load(
        None,
        [f"train.num_gpus={asked}", f"train.workers={workers}", f"cluster.patience={PATIENCE}"],
    )
    demand = Demand(({"CPU": 1.0},) * workers, {"CPU": "train.workers"})
    return gpus.settle(begun(place), use, chosen, demand)


def foreseen(place: Path, chosen: Config | None = None) -> Settled:
    found = gpus.foresee(
        begun(place), USE, chosen or Config(), Demand(({"CPU": 1.0},), {}), inputs=False
    )
    assert found is not None
    return found


def last_line(caplog) -> str:
    return caplog.records[-1].getMessage()


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


def kept(place: Path) -> list[str]:
    return [each["why"] for each in begun(place).commit({}).get("gpus", [])]


def some_work(place: Path) -> None:
    begun(place).choose("precision", lambda: False)


def test_a_result_of_which_nothing_is_done_goes_on_anywhere(tmp_path, cluster, caplog) -> None:
    cluster(0)
    settled(tmp_path, "auto")
    begun(tmp_path).keep([], "inputs")
    cluster(4)
    assert foreseen(tmp_path).each == 1
    assert settled(tmp_path, "auto") == 1
    cluster(0)
    assert settled(tmp_path, "auto") == 0
    assert last_line(caplog) == "train: no GPU in the cluster: CPU"
    assert kept(tmp_path) == ["no GPU in the cluster: CPU"]


def test_a_result_begun_on_cpus_goes_on_there(tmp_path, cluster, caplog) -> None:
    cluster(0)
    settled(tmp_path, "auto")
    some_work(tmp_path)
    cluster(4)
    assert foreseen(tmp_path).each == 0
    assert settled(tmp_path, "auto") == 0
    assert last_line(caplog) == (
        "train: as this result was last gone on with (train.num_gpus: 1 goes on on a GPU): CPU"
    )
    assert last_line(caplog) == f"train: {foreseen(tmp_path).why}"
    assert settled(tmp_path, 1) == 1  # who says so, has it so
    assert settled(tmp_path, "auto") == 1
    assert kept(tmp_path) == [
        "no GPU in the cluster: CPU",
        "as this result was last gone on with (train.num_gpus: 1 goes on on a GPU): CPU",
        "1 GPU for a worker (train.num_gpus: 1)",
        "4 GPUs in the cluster, one for a worker",
    ]


def test_a_result_begun_on_gpus_goes_on_where_there_are_none(tmp_path, cluster, caplog) -> None:
    cluster(4)
    settled(tmp_path, "auto")
    some_work(tmp_path)
    settled(tmp_path, "auto")
    cluster(0)
    assert foreseen(tmp_path).why.endswith("where what was begun on a GPU goes on as precisely")
    assert settled(tmp_path, "auto") == 0
    assert last_line(caplog) == (
        "train: no GPU in the cluster: CPU, where what was begun on a GPU goes on as precisely"
    )
    assert len(kept(tmp_path)) == 2  # once for each change


class _KilledError(Exception):
    pass


def test_no_result_is_of_two_precisions(small, undisturbed, tmp_path, monkeypatch) -> None:
    """Begun on GPUs, in bfloat16, and killed; on CPUs, which would take float32, it goes on."""
    place = copied(undisturbed, tmp_path / "w", *BEFORE_TRAIN)
    chosen = load(small, place)
    precisions = []

    def killed(self: object, run: object, every: object) -> int:
        precisions.append(self.settings.dtype)  # type: ignore[attr-defined]
        raise _KilledError

    with without_ray():
        with monkeypatch.context() as on_gpus:
            on_gpus.setattr(gpus, "settle", lambda *_: 1.0)
            on_gpus.setattr(training, "halves_for_all", lambda group, device: True)
            on_gpus.setattr(training, "train_to_the_end", killed)
            with pytest.raises(_KilledError):
                train.STAGE.run(chosen)
        manifest = train.STAGE.run(chosen)
    assert precisions == ["bfloat16"]
    assert manifest["choices"] == {"precision": True}
    reading = Workspace(str(place), {"train": manifest["key"]})
    assert reading.read_json("train", *training.DESCRIPTION)["settings"]["dtype"] == "bfloat16"
    assert manifest["identity"] != Workspace(str(undisturbed)).require("train")["identity"]
    assert manifest["key"] == Workspace(str(undisturbed)).require("train")["key"]


def test_workers_get_what_was_settled(small, undisturbed, tmp_path, monkeypatch) -> None:
    """Of all five stages: the work asks for what was settled, whatever the key says."""
    asked: dict[str, set[float]] = {}
    pools: list[tuple[str, float]] = []

    def noted(function: Callable[..., object]) -> Callable[..., object]:
        def call(run: StageRun, *arguments: object, **options: object) -> object:
            if run is not None and options.get("num_gpus"):
                asked.setdefault(run.stage, set()).add(float(str(options["num_gpus"])))
            return function(run, *arguments, **options)

        return call

    from tests.pipelines.inline import each, run_task, streamed
    from tests.pipelines.inline_tune import inline_search

    def noted_stream(
        run: StageRun, groups: list, source: Source, pool: Pool, sink: Sink, **options: object
    ) -> object:
        pools.append((run.stage, pool.num_gpus))
        return streamed(run, groups, source, pool, sink, **options)

    place = copied(undisturbed, tmp_path / "w", "ingest", "split", "label", "fuse")
    chosen = load(small, place, tune__trials=1, tune__space="{label.k: [4]}")
    with without_ray(), inline_search(), monkeypatch.context() as patched:
        for name, function in (
            ("tasks.run_task", run_task),
            ("distributed.run_task", run_task),
            ("tasks.map_tasks", each),
        ):
            patched.setattr(f"pipelines.runtime.{name}", noted(function))
        patched.setattr("pipelines.runtime.stream.stream", noted_stream)
        patched.setattr(resources, "gpus", lambda: 1.0)
        patched.setattr(gpus, "settle", lambda run, use, *_: use.auto if use else 0.0)
        for stage in (pretrain, embed, train, tune, recommend):
            stage.STAGE.run(chosen)
    assert asked == {
        "pretrain": {1.0},
        "embed": {1.0},
        "train": {1.0},
        "tune": {0.25},
        "recommend": {0.25},
    }
    assert set(pools) == {("embed", 1.0)}


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


def told(small: Path, place: Path, **more: object) -> check.Found:
    chosen = load(small, place, **more)
    with without_ray():
        return next(f for f in check.check(chosen, stages(chosen)) if f.what == "GPUs")


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
