"""Training on a cluster of two nodes, of which the one that trains is removed.

A program of its own, since a process has one Ray: `node_loss_in_training.py section.key=value ...`
"""

import sys
import threading
import time
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster

from fusionrec import config as config_module
from pipelines import train
from tests.pipelines.test_faults import ray_processes


def of_worker(nodes: list[Any]) -> Any:
    """The node whose raylet is the parent of the training worker."""
    (worker,) = ray_processes("RayTrainWorker")
    stat = Path(f"/proc/{worker}/stat").read_text()
    parent = int(stat.rpartition(")")[2].split()[1])
    return next(n for n in nodes if n.all_processes["raylet"][0].process.pid == parent)


def main() -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    nodes = [cluster.add_node(num_cpus=2) for _ in range(2)]
    cluster.wait_for_nodes()
    settings = [o for o in sys.argv[1:] if not o.startswith("cluster.")]
    loaded = config_module.load(None, [*settings, f"cluster.address={cluster.address}"])
    checkpoint = Path(loaded.workspace) / "train" / "checkpoints" / "last.safetensors"

    def remove() -> None:
        while not checkpoint.exists():
            time.sleep(0.005)
        cluster.remove_node(of_worker(nodes), allow_graceful=False)
        print("removed a node", flush=True)

    thread = threading.Thread(target=remove, daemon=True)
    thread.start()
    train.STAGE.run(loaded)
    thread.join()
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
