"""The Grafana dashboard shows the metrics that the pipeline exports, and all of them."""

import json
import re
from itertools import combinations
from pathlib import Path

from pipelines.runtime.metrics import METRICS

FILE = Path(__file__).parents[2] / "cluster" / "grafana" / "fusionrec.json"
DASHBOARD = json.loads(FILE.read_text())
OF_RAY = {
    "ray_node_cpu_utilization",
    "ray_node_gpus_utilization",
    "ray_node_mem_used",
    "ray_object_store_memory",
}


def exported() -> set[str]:
    """Our metrics as Prometheus has them."""
    return {f"ray_{name}_total" for name in METRICS}


def test_every_metric_is_shown_and_no_other() -> None:
    expressions = [t["expr"] for panel in DASHBOARD["panels"] for t in panel["targets"]]
    used = {name for e in expressions for name in re.findall(r"ray_\w+", e)}
    assert used == exported() | OF_RAY
    for expression in expressions:
        for name in re.findall(r"ray_fusionrec_\w+", expression):
            assert f'{name}{{run=~"$run"}}' in expression
        labels = set(re.findall(r"by \(([\w, ]+)\)", expression))
        for name in exported() & set(re.findall(r"ray_\w+", expression)):
            known = METRICS[name.removeprefix("ray_").removesuffix("_total")].tags
            assert all(set(label.split(", ")) <= set(known) for label in labels)


def test_rays_own_metrics_exist() -> None:
    import ray.dashboard.modules.reporter.reporter_agent as agent

    names = {"ray_" + name for name in agent.METRICS_GAUGES}
    assert OF_RAY - {"ray_object_store_memory"} <= names  # that one is of Ray's core


def test_the_layout() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert DASHBOARD["schemaVersion"] == 39  # of Grafana 10.4 and newer
    names = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    assert names == {"datasource", "run"}
    for panel in panels:
        assert panel["datasource"]["uid"] == "${datasource}"
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
    for one, other in combinations([panel["gridPos"] for panel in panels], 2):
        across = one["x"] < other["x"] + other["w"] and other["x"] < one["x"] + one["w"]
        down = one["y"] < other["y"] + other["h"] and other["y"] < one["y"] + one["h"]
        assert not (across and down)
