"""What a stage is, and how any of them is run: skip what is up to date, redo what is not."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeAlias, TypeVar

import numpy as np

from fusionrec.errors import SourceError
from pipelines.config import Config
from pipelines.runtime import logs, metrics, resources, session
from pipelines.runtime.run_id import run_id
from pipelines.runtime.shards import Shard
from pipelines.runtime.workspace import Manifest, StageRun, Workspace, fingerprint

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

log = logging.getLogger("fusionrec")

S = TypeVar("S", bound=Shard)
R = TypeVar("R", bound="DataclassInstance")

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"
Counts: TypeAlias = Mapping[str, Json]
"""What a stage reports of its work in its manifest."""


@dataclass(frozen=True)
class Stage:
    """One stage of the pipeline.

    Attributes
    ----------
    name
        The command, the workspace folder and the module, all in one; of a stage that only a
        comparison's folds have, the folder.
    needs
        The stages whose artifacts it reads, given the config.
    settings
        Everything of the config its result depends on; what only moves the work around
        (CPUs, GPUs, shards of users) stays out, so that changing it redoes nothing.
    work
        Does the work and returns the counts for the manifest.
    fingerprint
        State of outside inputs, for stages that read any.
    refresh_first
        Quick stages that are redone first where this config asks for another result of them.
    """

    name: str
    needs: Callable[[Config], Sequence[str]]
    settings: Callable[[Config], dict[str, Any]]
    work: Callable[[Config, Workspace, StageRun], Counts]
    fingerprint: Callable[[Config], Any] | None = None
    refresh_first: Sequence[Stage] = ()

    def key(self, config: Config, workspace: Workspace) -> dict[str, Any]:
        """What identifies this stage's result.

        Raises
        ------
        WorkspaceError
            If a stage that this one needs is not finished.
        """
        key: dict[str, Any] = {
            "settings": json.loads(json.dumps(self.settings(config), default=str)),
            "inputs": {need: workspace.require(need)["key"] for need in self.needs(config)},
        }
        if self.fingerprint is not None:
            key["source"] = self.fingerprint(config)
        return key

    def is_current(self, config: Config, workspace: Workspace) -> bool:
        """Whether the stage is finished, with this config and these inputs."""
        manifest = workspace.manifest(self.name)
        return manifest is not None and manifest["key"] == fingerprint(self.key(config, workspace))

    def run(self, config: Config, workspace: Workspace | None = None) -> Manifest:
        """Bring the stage up to date and return its manifest.

        The workspace is the config's, if no other is given.
        """
        with logs.of_stage(self.name):
            return self._run(config, workspace or Workspace(config.workspace))

    def _run(self, config: Config, workspace: Workspace) -> Manifest:
        for stage in self.refresh_first:
            if not stage.is_current(config, workspace):
                stage.run(config, workspace)
        key = self.key(config, workspace)
        run = workspace.begin(self.name, key)
        if run is None:
            log.info("%s: up to date", self.name)
            return workspace.require(self.name)
        session.start(config.cluster)
        run = replace(run, resources=config.cluster.resources.get(self.name, {}))
        resources.warn_of_absent(run)
        log.info("%s: started", self.name)
        counts = self.work(config, workspace, run)
        if self.fingerprint is not None and self.fingerprint(config) != key["source"]:
            raise SourceError(
                f"{self.name}: the source files changed while they were being read; "
                "leave them alone and run the command again"
            )
        manifest = run.commit(counts, seed=config.seed, run=run_id())
        metrics.count("fusionrec_stage_seconds", manifest["wall_seconds"], stage=self.name)
        log.info("%s: done in %.1f s", self.name, manifest["wall_seconds"])
        return manifest


class ProcessorReport(Protocol):
    """A report that says, by :func:`fusionrec.probes.lines`, what its worker's processor can do."""

    @property
    def processor(self) -> Mapping[str, int]: ...


def processor_lines(reports: Iterable[ProcessorReport]) -> list[str]:
    """What workers found out about their processors, which is logged once.

    What a worker logs stays in the worker, so it is in their reports.
    """
    found: dict[str, int] = {}
    for report in reports:
        found |= report.processor
    for line, level in sorted(found.items()):
        log.log(level, line)
    return sorted(found)


def resumable(
    run: StageRun, name: str, function: Callable[[S], R], report: type[R]
) -> Callable[[S], R]:
    """Wrap a shard function so that a shard finished by an interrupted run is not redone.

    A shard's report, a dataclass of what JSON knows, is written after its output; where it is
    there, and has the fields of the class `report`, the shard is done.
    """
    return _Resumable(run, name, function, report)


@dataclass(frozen=True)
class _Resumable(Generic[S, R]):
    run: StageRun
    name: str
    function: Callable[[S], R]
    report: type[R]

    def __call__(self, shard: S) -> R:
        path = ("reports", f"{self.name}-{shard.part:05d}.json")
        if self.run.workspace.exists(self.run.stage, *path):
            found = self.run.read_json(*path)
            # Other fields are those of another release, whose parts may be other ones too.
            if found.keys() == {field.name for field in fields(self.report)}:
                return self.report(**found)
        report = json.loads(json.dumps(asdict(self.function(shard)), default=_plain_number))
        self.run.write_json(report, *path)
        return self.report(**report)


def _plain_number(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is not JSON")
