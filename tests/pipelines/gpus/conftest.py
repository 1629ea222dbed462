"""A cluster with GPUs, as Ray would tell of it."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from fusionrec.errors import ResourceError
from pipelines.runtime import gpus, resources
from pipelines.runtime.gpus import Sight
from pipelines.runtime.resources import Demand
from pipelines.runtime.workspace import StageRun


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
