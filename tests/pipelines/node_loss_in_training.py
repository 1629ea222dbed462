"""Training on a cluster whose only node with a CPU is removed, after another one joined.

A program of its own, since a process has one Ray: `node_loss_in_training.py section.key=value ...`
"""

import sys
import threading
import time
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

from fusionrec import config as config_module
from pipelines import train


def main() -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    first = cluster.add_node(num_cpus=2)
    cluster.wait_for_nodes()
    settings = [o for o in sys.argv[1:] if not o.startswith("cluster.")]
    loaded = config_module.load(None, [*settings, f"cluster.address={cluster.address}"])
    checkpoint = Path(loaded.workspace) / "train" / "checkpoints" / "last.safetensors"

    def replace() -> None:
        while not checkpoint.exists():
            time.sleep(0.005)
        cluster.add_node(num_cpus=2)
        cluster.remove_node(first, allow_graceful=False)
        print("removed a node", flush=True)

    thread = threading.Thread(target=replace, daemon=True)
    thread.start()
    train.STAGE.run(loaded)
    thread.join()
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
