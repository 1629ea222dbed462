"""Ingest on a cluster of three nodes, one of which is removed as soon as shards are done.

A program of its own, since a process has one Ray: `node_loss.py section.key=value ...`
"""

import sys
import threading
import time
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

from fusionrec import config as config_module
from pipelines import ingest


def main() -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    cluster.wait_for_nodes()
    settings = [o for o in sys.argv[1:] if not o.startswith("cluster.")]
    loaded = config_module.load(None, [*settings, f"cluster.address={cluster.address}"])
    reports = Path(loaded.workspace) / "ingest" / "reports"

    def remove() -> None:
        while not list(reports.glob("songs-*.json")):
            time.sleep(0.005)
        cluster.remove_node(nodes[0], allow_graceful=False)
        print("removed a node", flush=True)

    thread = threading.Thread(target=remove, daemon=True)
    thread.start()
    ingest.STAGE.run(loaded)
    thread.join()
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
