"""What the cluster has."""

from __future__ import annotations

import ray

from pipelines.runtime import resources


def test_what_there_is_counts_where_ray_does_not_tell_what_may_come(
    ray_session, monkeypatch
) -> None:
    before = (resources.cpus(), resources.gpus(), resources.node_cpus())
    assert before == (3, 0, 3)
    name = "get_max_resources_from_cluster_config"
    monkeypatch.delattr(ray._private.state.GlobalState, name)
    assert (resources.cpus(), resources.gpus(), resources.node_cpus()) == before
