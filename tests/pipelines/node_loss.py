"""Stages on a cluster of two nodes, of which one that works on each is removed.

A program of its own, since a process has one Ray: `node_loss.py '{STAGE: [KEY=VALUE, ...]}'`
"""

import importlib
import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster

from pipelines import config as config_module
from tests.pipelines.deaths import ray_processes

BUSY = {
    "ingest": ("reports/songs-*.json", "MapBatches(Reading)"),
    "embed": ("reports/lyrics-*.json", "MapWorker"),
    "train": ("checkpoints/last.safetensors", "RayTrainWorker"),
    "tune": ("ray/search/train_trial*", "ImplicitFunc"),
}
"""What appears in a stage's folder when it is in full work, and the title of its workers."""


def busy_node(nodes: list[Any], title: str) -> Any:
    """The node whose raylet is the parent of a worker; the first one if there is none."""
    for worker in ray_processes(title):
        stat = Path(f"/proc/{worker}/stat").read_text()
        parent = int(stat.rpartition(")")[2].split()[1])
        for node in nodes:
            if node.all_processes["raylet"][0].process.pid == parent:
                return node
    return nodes[0]


def lose(cluster: Cluster, nodes: list[Any], name: str, settings: list[str]) -> None:
    """Run a stage; one of the nodes goes meanwhile, and another comes when it is over."""
    sign, title = BUSY[name]
    own = [setting for setting in settings if not setting.startswith("cluster.")]
    loaded = config_module.load(None, [*own, f"cluster.address={cluster.address}"])
    folder = Path(loaded.workspace) / name

    def remove() -> None:
        while not list(folder.glob(f"*/{sign}")):
            time.sleep(0.005)
        node = busy_node(nodes, title)
        nodes.remove(node)
        cluster.remove_node(node, allow_graceful=False)
        # A search keeps standard output for its results.
        print(f"{name}: removed a node", file=sys.__stdout__, flush=True)

    thread = threading.Thread(target=remove, daemon=True)
    thread.start()
    importlib.import_module(f"pipelines.{name}").STAGE.run(loaded)
    thread.join()
    nodes.append(cluster.add_node(num_cpus=2))
    cluster.wait_for_nodes()


def main() -> None:
    # The driver's own node has no CPU, so it has no part in the work.
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    nodes = [cluster.add_node(num_cpus=2) for _ in range(2)]
    cluster.wait_for_nodes()
    for name, settings in json.loads(sys.argv[1]).items():
        lose(cluster, nodes, name, settings)
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
