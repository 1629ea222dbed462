"""Ray, and where each stage runs."""

from __future__ import annotations

import difflib
from typing import Annotated

from pydantic import Field, model_validator

from pipelines.config.section import Section
from pipelines.config.section import key as _key
from pipelines.config.stages import STAGES


class ClusterConfig(Section):
    """How Ray is reached or started."""

    address: str | None = _key(
        None,
        "HOST:PORT of a Ray cluster's head, auto for one on this machine, or local; null joins the "
        "cluster this process runs in (RAY_ADDRESS), or starts a local one",
    )
    patience: float = _key(
        600.0,
        "seconds a stage waits for CPUs, GPUs or custom resources that are in use or that the "
        "autoscaler may bring; what the cluster can never have is refused at once",
        ge=0,
    )
    num_cpus: int | None = _key(None, "CPUs of a locally started Ray; null for all", ge=1)
    object_store_mb: int | None = _key(None, "object store of a locally started Ray", ge=80)
    dashboard: bool = _key(False, "start the dashboard (on loopback) with a local Ray")
    resources: dict[str, dict[str, Annotated[float, Field(gt=0)]]] = _key(
        {}, "custom resources that each task of a stage asks for: {ingest: {near_data: 0.01}}"
    )

    @model_validator(mode="after")
    def _custom(self) -> ClusterConfig:
        for stage, resources in self.resources.items():
            if stage not in STAGES:
                near = difflib.get_close_matches(stage, STAGES, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else f"; stages are {list(STAGES)}"
                raise ValueError(f"cluster.resources.{stage}: there is no such stage{hint}")
            for name in {"CPU", "GPU", "memory"} & set(resources):
                raise ValueError(
                    f"cluster.resources.{stage}.{name}: is no custom resource; CPUs and GPUs are "
                    "set by the stages' own keys (num_gpus, workers, threads)"
                )
        return self
