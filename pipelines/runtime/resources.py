"""What the cluster has, with what its autoscaler may bring, and whether that is enough."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ray
from ray.util.placement_group import placement_group, remove_placement_group

from fusionrec.errors import ConfigError, ResourceError

Bundle = Mapping[str, float]
"""What one worker asks for: CPU, GPU and custom resources, all of one node."""

log = logging.getLogger("fusionrec")


@dataclass(frozen=True)
class Demand:
    """What a stage asks for at one time.

    Attributes
    ----------
    bundles
        One a worker.
    keys
        The config's key behind each resource that has one of its own.
    """

    bundles: tuple[Bundle, ...]
    keys: Mapping[str, str]

    def with_custom(self, custom: Mapping[str, float]) -> Demand:
        """The same of workers that each ask for custom resources, too."""
        return Demand(tuple({**bundle, **custom} for bundle in self.bundles), self.keys)


_SECONDS_BETWEEN_LINES = 60.0
_SECONDS_BETWEEN_LOOKS = 1.0


def cpus() -> int:
    """CPUs of the whole cluster, with those that its autoscaler may add."""
    return max(1, int(max(_resource("CPU"), _autoscaled("CPU"))))


def gpus() -> float:
    """GPUs of the whole cluster, with those that its autoscaler may add."""
    return max(_resource("GPU"), _autoscaled("GPU"))


def gpus_there() -> float:
    """GPUs of the nodes that are there."""
    return _resource("GPU")


def free_gpus() -> float:
    """GPUs that nobody uses now."""
    free: dict[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
    return free.get("GPU", 0.0)


def node_cpus() -> int:
    """CPUs of the largest node: no task may ask for more."""
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    return max(1, *(int(node["Resources"].get("CPU", 0)) for node in nodes if node["Alive"]))


def cpus_of_nodes(custom: Bundle) -> list[int]:
    """CPUs of each node that is there and has these custom resources."""
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    return [
        int(node["Resources"].get("CPU", 0))
        for node in nodes
        if node["Alive"] and _has(node["Resources"], custom)
    ]


def _has(node: Mapping[str, float], bundle: Bundle) -> bool:
    return all(node.get(name, 0.0) >= amount for name, amount in bundle.items())


def refuse(stage: str, demand: Demand) -> None:
    """Refuse what will never fit into the cluster; Ray itself waits for it, without a word.

    Raises
    ------
    ConfigError
        The cluster has less, and may not bring more.
    """
    wanted, keys = _wanted(stage, demand)
    for name in sorted({name for bundle in wanted for name in bundle}):
        _require_ever(stage, name, [bundle.get(name, 0.0) for bundle in wanted], keys[name])


def _wanted(stage: str, demand: Demand) -> tuple[list[Bundle], Mapping[str, str]]:
    wanted = [bundle for bundle in (_nonzero(each) for each in demand.bundles) if bundle]
    custom = {name: f"cluster.resources.{stage}" for each in wanted for name in each}
    return wanted, {**custom, "CPU": "cluster.num_cpus", **demand.keys}


def require(stage: str, demand: Demand, *, patience: float) -> None:
    """Wait until all of it fits into the cluster at once; refuse what never will.

    Parameters
    ----------
    patience
        Seconds to wait for what is in use, or may be brought by the autoscaler.

    Raises
    ------
    ConfigError
        The cluster has less, and may not bring more.
    ResourceError
        It did not come in time.
    """
    refuse(stage, demand)
    wanted, keys = _wanted(stage, demand)
    if wanted:
        _wait(stage, wanted, keys, patience)


def _require_ever(stage: str, name: str, each: Sequence[float], key: str) -> None:
    there, may_come = _resource(name), _autoscaled(name)
    if sum(each) > max(there, may_come):
        limit = f"{there:g}" + (
            f", and its autoscaler brings at most {may_come:g}" * bool(may_come)
        )
        raise ConfigError(
            f"{stage}: asks for {sum(each):g} {name} ({key}), but the cluster has {limit}; "
            f"{_advice(name, key)}"
        )
    if not may_come and max(each) > _largest(name):
        raise ConfigError(
            f"{stage}: a worker asks for {max(each):g} {name} ({key}), but no node has more than "
            f"{_largest(name):g}; {_advice(name, key)}"
        )


def _advice(name: str, key: str) -> str:
    if name == "GPU":
        return f"set {key} lower, or to 0 to run on CPUs"
    if key == "cluster.num_cpus":
        return "join a cluster with CPUs"
    if name == "CPU":
        return f"set {key} lower, or join a larger cluster (cluster.address)"
    return f"start a node with it (`ray start --resources`), or leave it out of {key}"


def _wait(stage: str, bundles: Sequence[Bundle], keys: Mapping[str, str], patience: float) -> None:
    """Reserve the bundles and let them go: then they fit, and a node that was needed is there."""
    asked = _sum(bundles)
    what = ", ".join(f"{amount:g} {name} ({keys[name]})" for name, amount in asked.items())
    started = told = time.monotonic()
    group = placement_group([dict(bundle) for bundle in bundles])
    try:
        while not group.wait(_SECONDS_BETWEEN_LOOKS):
            now = time.monotonic()
            there, free = ", ".join(f"{_resource(n):g} {n}" for n in asked), _free(asked)
            if now - told >= _SECONDS_BETWEEN_LINES or told == started:
                told = now
                log.info("%s: waits for %s; the cluster has %s, free: %s", stage, what, there, free)
            if now - started >= patience:
                raise ResourceError(
                    f"{stage}: waited {now - started:.0f} s (cluster.patience) for {what}; the "
                    f"cluster has {there}, of which {free} are free; wait until others have "
                    "finished, or ask for less"
                )
    finally:
        remove_placement_group(group)


def waiting() -> list[tuple[Bundle, int]]:
    """What tasks and actors wait for that Ray has placed nowhere, and how many of each wait."""
    from ray.autoscaler.v2.sdk import get_cluster_status

    status = get_cluster_status(ray.get_runtime_context().gcs_address)
    demands = status.resource_demands.ray_task_actor_demand
    return [(each.bundle, each.count) for d in demands for each in d.bundles_by_count]


def free() -> str:
    """What is free of CPUs and GPUs, for people."""
    return f"{_free({'CPU': 0, 'GPU': 0})} of {_resource('CPU'):g} CPU, {_resource('GPU'):g} GPU"


def places(bundle: Bundle) -> int:
    """How many such workers the nodes have room for, or those that the autoscaler may bring."""
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    there = sum(_times(node["Resources"], bundle) for node in nodes if node["Alive"])
    return max(there, _times({name: _autoscaled(name) for name in bundle}, bundle))


def _times(has: Mapping[str, float], bundle: Bundle) -> int:
    """How often a bundle fits into what a node has; a part of a GPU is one of a single GPU."""
    found = []
    for name, amount in _nonzero(bundle).items():
        parts, whole = (int(1e4 * n + 0.5) for n in (amount, has.get(name, 0.0)))  # as Ray counts
        of_one = name == "GPU" and parts < 10_000
        found.append(whole // 10_000 * (10_000 // parts) if of_one else whole // parts)
    return min(found)


def fits_a_node(bundle: Bundle) -> bool:
    """Whether a node has, or the autoscaler may bring, all of a bundle."""
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    there = any(node["Alive"] and _has(node["Resources"], bundle) for node in nodes)
    return there or all(_autoscaled(name) >= amount for name, amount in bundle.items())


def cpus_beside_ray_data(workers: int) -> float:
    """CPUs that each of some workers may ask for while Ray Data streams to them.

    One; less where they would otherwise hold all CPUs of the cluster, and Ray Data's tasks, which
    need one of some node, would never run.
    """
    if workers + 1 <= cpus() or workers > cpus():
        return 1.0  # there is room for Ray Data's tasks, or not even for the workers
    return int(1e4 * (node_cpus() - 1) / workers) / 1e4  # Ray counts in 1/10,000


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


def _largest(name: str) -> float:
    """As much of a resource as a single node has."""
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    return max((node["Resources"].get(name, 0.0) for node in nodes if node["Alive"]), default=0.0)


def _free(names: Mapping[str, float]) -> str:
    free: dict[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
    return ", ".join(f"{free.get(name, 0.0):g} {name}" for name in names)


def _nonzero(bundle: Bundle) -> Bundle:
    return {name: amount for name, amount in bundle.items() if amount}


def _sum(bundles: Sequence[Bundle]) -> dict[str, float]:
    total: dict[str, float] = {}
    for bundle in bundles:
        for name, amount in bundle.items():
            total[name] = total.get(name, 0.0) + amount
    return total
