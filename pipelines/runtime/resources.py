"""What the cluster has, with what its autoscaler may bring."""

from __future__ import annotations

import logging

import ray

from pipelines.runtime.workspace import StageRun

log = logging.getLogger("fusionrec")


def cpus() -> int:
    """CPUs of the whole cluster, with those that its autoscaler may add."""
    return max(1, int(max(_resource("CPU"), _autoscaled("CPU"))))


def gpus() -> float:
    """GPUs of the whole cluster, with those that its autoscaler may add."""
    return max(_resource("GPU"), _autoscaled("GPU"))


def node_cpus() -> int:
    """CPUs of the largest node: no task may ask for more."""
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    return max(1, *(int(node["Resources"].get("CPU", 0)) for node in nodes if node["Alive"]))


def warn_of_absent(run: StageRun) -> None:
    """Say which custom resources of a stage no node has, for which its work will wait."""
    for name in run.resources:
        if not max(_resource(name), _autoscaled(name)):
            log.warning(
                "%s: waits until a node with the resource %s joins (cluster.resources.%s)",
                *(run.stage, name, run.stage),
            )


def _resource(name: str) -> float:
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return resources.get(name, 0.0)


def _autoscaled(name: str) -> float:
    """As much of a resource as the cluster's autoscaler may bring; 0 without one.

    Ray has no public way to ask; where its own one is gone, only what is there counts.
    """
    try:
        most = ray._private.state.state.get_max_resources_from_cluster_config()
    except AttributeError:
        most = None
    return float((most or {}).get(name, 0))
