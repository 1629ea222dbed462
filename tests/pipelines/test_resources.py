"""What the cluster has, and what is said where that is not enough."""

from __future__ import annotations

import logging
import signal
import time

import pytest
import ray

from fusionrec.errors import ConfigError, ResourceError
from pipelines.config import Config
from pipelines.runtime import resources, session, watchdog
from pipelines.runtime.progress import progress
from pipelines.runtime.resources import Demand
from pipelines.runtime.stage import Stage
from pipelines.runtime.workspace import StageRun, Workspace
from tests.pipelines.conftest import told_by
from tests.pipelines.inline import without_ray


def test_what_there_is_counts_where_ray_does_not_tell_what_may_come(
    ray_session, monkeypatch
) -> None:
    before = (resources.cpus(), resources.gpus(), resources.node_cpus())
    assert before == (3, 0, 3)
    name = "get_max_resources_from_cluster_config"
    monkeypatch.delattr(ray._private.state.GlobalState, name)
    assert (resources.cpus(), resources.gpus(), resources.node_cpus()) == before


KEYS = {"CPU": "train.workers", "GPU": "train.num_gpus"}


@pytest.mark.parametrize(
    ("bundles", "message"),
    [
        (
            [{"CPU": 1, "GPU": 0.5}],
            r"asks for 0.5 GPU \(train.num_gpus\), but .* has 0; set",
        ),
        ([{"CPU": 1}] * 4, r"asks for 4 CPU \(train.workers\), but the cluster has 3; set train"),
        ([{"CPU": 1, "near": 0.1}], r"0.1 near \(cluster.resources.train\), .* start a node with"),
    ],
)
def test_what_the_cluster_never_has_is_refused(ray_session, bundles, message) -> None:
    with pytest.raises(ConfigError, match=message):
        resources.require("train", Demand(tuple(bundles), KEYS), patience=600)


def test_workers_have_room_where_all_they_ask_for_is_on_one_node(monkeypatch) -> None:
    """Not where the cluster as a whole has it; a part of a GPU is of one GPU."""
    nodes = [
        {"Alive": True, "Resources": {"CPU": 64.0}},
        {"Alive": True, "Resources": {"CPU": 4.0, "GPU": 2.0, "near": 1.0}},
        {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}},
    ]
    may: dict[str, float] = {}
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    monkeypatch.setattr(resources, "_autoscaled", lambda name: may.get(name, 0.0))
    found = [
        resources.places({"CPU": 1.0, **more})
        for more in (
            {"GPU": 0.0}, {"GPU": 0.25}, {"GPU": 0.4}, {"GPU": 1.0}, {"GPU": 0.5, "near": 0.5},
            {"near": 0.1}, {"GPU": 4.0},
        )
    ]  # fmt: skip
    assert found == [68, 4, 4, 2, 2, 4, 0]
    may |= {"CPU": 16.0, "GPU": 8.0}
    assert resources.places({"CPU": 1.0, "GPU": 0.25}) == 16


def test_what_no_single_node_has_is_refused(ray_session, monkeypatch) -> None:
    nodes = [{"Alive": True, "Resources": {"CPU": 2.0}}, {"Alive": True, "Resources": {"CPU": 1.0}}]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    with pytest.raises(ConfigError, match=r"a worker asks for 3 CPU .* no node has more than 2"):
        resources.require("train", Demand(({"CPU": 3},), KEYS), patience=600)


def test_what_is_in_use_is_waited_for(ray_session, caplog, monkeypatch) -> None:
    """And no longer than `cluster.patience`; what the autoscaler may bring likewise."""
    monkeypatch.setattr(logging.getLogger("fusionrec"), "propagate", True)
    caplog.set_level(logging.INFO, "fusionrec")
    held = ray.util.placement_group([{"CPU": 2}])
    ray.get(held.ready())
    try:
        with pytest.raises(ResourceError, match=r"\(cluster.patience\) for 2 CPU .* 1 CPU are"):
            resources.require("train", Demand(({"CPU": 1},) * 2, KEYS), patience=0)
        monkeypatch.setattr(resources, "_autoscaled", lambda name: {"GPU": 2.0}.get(name, 0.0))
        with pytest.raises(ResourceError, match=r"for 1 CPU .*, 1 GPU .* has 3 CPU, 0 GPU"):
            resources.require("train", Demand(({"CPU": 1, "GPU": 1},), KEYS), patience=1)
        assert "train: waits for 1 CPU (train.workers), 1 GPU (train.num_gpus)" in caplog.text
    finally:
        ray.util.remove_placement_group(held)
    resources.require("train", Demand(({"CPU": 1},) * 3, KEYS), patience=60)
    resources.require("train", Demand(({"CPU": 0.0},), KEYS), patience=0)


def test_no_work_begins_before_what_it_asks_for_is_there(tmp_path, monkeypatch) -> None:
    """Though it was there when all stages' demands were looked at, before the first one."""
    asked, begun = [], []
    demand = Demand(({"CPU": 1.0, "GPU": 1.0},), {"GPU": "train.num_gpus"})

    def work(config: Config, workspace: Workspace, run: StageRun) -> dict[str, int]:
        begun.append(run)
        return {}

    def never(stage: str, demand: Demand, *, patience: float) -> None:
        asked.append((stage, demand, patience))
        raise ResourceError("the only node with a GPU has gone")

    stage = Stage("train", lambda _: (), lambda _: {}, work, demand=lambda _: demand)
    with without_ray(), monkeypatch.context() as patched:
        patched.setattr(resources, "require", never)
        with pytest.raises(ResourceError, match="has gone"):
            stage.run(Config(workspace=str(tmp_path), cluster={"patience": 7}))
    assert asked == [("train", demand, 7)]
    assert not begun


@pytest.mark.parametrize(
    ("cluster", "node", "workers", "each"),
    [
        (1, 1, 1, 0.0),
        (2, 2, 1, 1.0),
        (2, 2, 2, 0.5),
        (4, 4, 3, 1.0),
        (4, 2, 4, 0.25),  # all beside each other on one node, which keeps a CPU for Ray Data
        (2, 2, 4, 1.0),  # too many, which `require` then says
    ],
)
def test_workers_leave_a_cpu_to_ray_data(monkeypatch, cluster, node, workers, each) -> None:
    monkeypatch.setattr(resources, "cpus", lambda: cluster)
    monkeypatch.setattr(resources, "node_cpus", lambda: node)
    assert resources.cpus_beside_ray_data(workers) == each
    if each < 1:
        assert workers * each <= node - 1


STREAM = """
import sys
import ray
from pipelines.config import ClusterConfig
from pipelines.runtime import distributed, session
from pipelines.runtime.workspace import Workspace

def same(table):
    return table

def count(job, worker):
    batches = [s.iter_batches(batch_format="pyarrow") for s in worker.datasets.values()]
    return {"rows": sum(batch.num_rows for each in batches for batch in each)}

if __name__ == "__main__":
    cpus, *each = map(int, sys.argv[2:])
    session.start(ClusterConfig(num_cpus=cpus, object_store_mb=100))
    for workers in each:
        run = Workspace(sys.argv[1]).begin("train", {"workers": workers})
        rows = ray.data.from_items([{"x": i} for i in range(60)], override_num_blocks=6)
        streams = {n: rows.map_batches(same, batch_format="pyarrow") for n in ("train", "scan")}
        options = {"num_gpus": 0, "patience": 30, "datasets": streams}
        print(distributed.run(count, {}, run, workers=workers, **options))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cpus", "workers", "rows"), [(1, ["0", "1"], [120, 120]), (2, ["2"], [90])]
)
def test_streamed_training_where_workers_hold_all_cpus(tmp_path, cpus, workers, rows) -> None:
    """It stood still: Ray Data's tasks found no CPU. The first worker's rows are counted."""
    told = told_by(STREAM, tmp_path, str(cpus), *workers)
    assert told.splitlines() == [str({"rows": each}) for each in rows]


STUCK = """
import sys
from pipelines.config import Config
from pipelines.runtime import tasks, watchdog
from pipelines.runtime.stage import Stage
from pipelines.runtime.workspace import Workspace

def work(config, workspace, run):
    return tasks.run_task(run, dict, num_gpus=1)

if __name__ == "__main__":
    watchdog.SILENCE = 1.0
    stage = Stage("label", lambda config: (), lambda config: {}, work)
    cluster = {"num_cpus": 1, "object_store_mb": 100, "patience": 3}
    try:
        stage.run(Config(cluster=cluster, workspace=sys.argv[1]))
    except Exception as error:
        print(type(error).__name__, error)
"""


@pytest.mark.slow
def test_work_that_waits_for_what_no_node_has_is_ended_by_name(tmp_path) -> None:
    """As where the only node with a GPU is lost in the midst of a stage."""
    told = told_by(STUCK, tmp_path)
    assert told.startswith("ResourceError label: no progress for ")
    assert "Ray has yet to place 1 x {CPU 1, GPU 1}: no node has {CPU 1, GPU 1}" in told


@pytest.fixture
def waits_for_a_gpu(monkeypatch) -> None:
    """As if Ray waited for a GPU that no node has."""
    monkeypatch.setattr(watchdog, "SILENCE", 0.1)
    monkeypatch.setattr(resources, "waiting", lambda: [({"GPU": 1.0}, 1)])
    monkeypatch.setattr(resources, "fits_a_node", lambda bundle: False)
    monkeypatch.setattr(resources, "free", lambda: "none")
    monkeypatch.setattr(resources, "require", lambda *_, **__: None)
    monkeypatch.setattr(session, "start", lambda config: None)


def test_a_stage_that_waits_for_what_no_node_has_is_given_up(tmp_path, waits_for_a_gpu) -> None:

    def work(config: Config, workspace: Workspace, run: StageRun) -> dict[str, int]:
        until = time.monotonic() + 20
        while time.monotonic() < until:
            time.sleep(0.02)
        return {}

    stage = Stage("embed", lambda _: (), lambda _: {}, work)
    with pytest.raises(ResourceError, match=r"place 1 x {GPU 1}: no node has {GPU 1}; .*patience"):
        stage.run(Config(workspace=str(tmp_path), cluster={"patience": 0.2}))


def test_where_sigint_is_ignored_a_stage_is_given_up_too(tmp_path, waits_for_a_gpu) -> None:
    """As in a shell's background: an interruption by the terminal is still ignored there."""

    def work(config: Config, workspace: Workspace, run: StageRun) -> dict[str, int]:
        signal.raise_signal(signal.SIGINT)
        until = time.monotonic() + 20
        while time.monotonic() < until:
            time.sleep(0.02)
        return {}

    stage = Stage("embed", lambda _: (), lambda _: {}, work)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(ResourceError, match=r"no node has {GPU 1}"):
            stage.run(Config(workspace=str(tmp_path), cluster={"patience": 0.2}))
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_stage_that_was_not_ended_by_it_is_ended_again(
    tmp_path, waits_for_a_gpu, monkeypatch
) -> None:
    """As where a library's code loses the exception."""
    monkeypatch.setattr(watchdog, "AGAIN", 0.3)
    lost = []

    def work(config: Config, workspace: Workspace, run: StageRun) -> dict[str, int]:
        until = time.monotonic() + 20
        while time.monotonic() < until:
            try:
                time.sleep(0.02)
            except KeyboardInterrupt:
                lost.append("one")
                if len(lost) == 2:
                    raise
        return {}

    stage = Stage("embed", lambda _: (), lambda _: {}, work)
    with pytest.raises(ResourceError, match=r"no node has {GPU 1}"):
        stage.run(Config(workspace=str(tmp_path), cluster={"patience": 0.2}))
    assert len(lost) == 2


class _NeverReady:
    """A placement group for which there is no room."""

    waits = 0

    def wait(self, seconds: float) -> bool:
        self.waits += 1
        return self.waits > 100


def test_a_wait_for_what_others_use_is_given_up(monkeypatch) -> None:
    monkeypatch.setattr(resources, "placement_group", lambda bundles: _NeverReady())
    monkeypatch.setattr(resources, "remove_placement_group", lambda group: None)
    monkeypatch.setattr(resources, "_free", lambda names: "0 CPU")
    for look in ("_resource", "_autoscaled", "_largest"):
        monkeypatch.setattr(resources, look, lambda name: 2.0)
    demand = Demand(({"CPU": 1.0},) * 2, KEYS)
    with pytest.raises(ResourceError, match=r"for 2 CPU \(train.workers\); the cluster has 2 CPU"):
        resources.require("train", demand, patience=0)
    with pytest.raises(ConfigError, match=r"asks for 3 CPU \(train.workers\), but the cluster has"):
        resources.require("train", Demand(({"CPU": 1.0},) * 3, KEYS), patience=600)


def refuses() -> list:
    raise ConnectionError


@pytest.mark.parametrize(
    ("waiting", "said"),
    [
        (lambda: [({"CPU": 1.0}, 2)], "Ray has yet to place 2 x {CPU 1}; free: none"),
        (list, "Ray has placed all there is to do, free: none"),
        (refuses, "Ray does not say why: ConnectionError"),
    ],
)
def test_whatever_stands_still_is_told(tmp_path, monkeypatch, caplog, waiting, said) -> None:
    """Also work whose workers hang, which Ray takes to be at work."""
    monkeypatch.setattr(watchdog, "SILENCE", 0.1)
    monkeypatch.setattr(resources, "waiting", waiting)
    monkeypatch.setattr(resources, "free", lambda: "none")
    run = Workspace(str(tmp_path)).begin("embed", {})
    assert run is not None
    with (
        caplog.at_level(logging.INFO, logger="fusionrec"),
        watchdog.watching(run, patience=60),
        progress("encoding lyrics", 8, run) as advance,
    ):
        advance(3)
        advance(0)  # a look at a worker's own progress that finds no more
        until = time.monotonic() + 60
        while not caplog.records and time.monotonic() < until:
            time.sleep(0.02)
    line = caplog.records[0].getMessage()
    assert line.startswith("embed: no progress for 0 s (encoding lyrics: 3 of 8); ")
    assert line.endswith(said)


def test_a_worker_that_stands_still_makes_no_progress(tmp_path) -> None:
    """The driver looks every second at what it has told; a look is not a step."""
    run = Workspace(str(tmp_path)).begin("train", {})
    assert run is not None
    with progress("training", 8, run) as advance:
        advance(3)
        last = run.pulse.last
        advance(0)
        assert run.pulse.last == last
        advance(1)
        assert run.pulse.last > last


def test_of_a_stage_within_anothers_work_only_the_inner_one_can_stand_still(
    tmp_path, monkeypatch, caplog
) -> None:
    """A comparison waits for the embedding that it has asked for."""
    monkeypatch.setattr(watchdog, "SILENCE", 0.1)
    monkeypatch.setattr(resources, "waiting", list)
    workspace = Workspace(str(tmp_path))
    outer, inner = workspace.begin("compare", {}), workspace.begin("embed", {})
    assert outer is not None
    assert inner is not None
    with caplog.at_level(logging.INFO, logger="fusionrec"), watchdog.watching(outer, 60):
        with watchdog.watching(inner, 60):
            until = time.monotonic() + 60
            while len(caplog.records) < 2 and time.monotonic() < until:
                time.sleep(0.02)
        assert {line.getMessage().split(":")[0] for line in caplog.records} == {"embed"}
        assert outer.pulse.last > inner.pulse.last
