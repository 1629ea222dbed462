"""What a stage is, and how any of them is run: skip what is up to date, redo what is not."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fusionrec.errors import SourceError
from pipelines.config import Config
from pipelines.runtime import logs, metrics, resources, session
from pipelines.runtime.run_id import run_id
from pipelines.runtime.workspace import Manifest, StageRun, Workspace, fingerprint

log = logging.getLogger("fusionrec")

Counts = dict[str, Any]


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


def processor_lines(reports: Sequence[dict[str, Any]]) -> list[str]:
    """Take what workers found out about their processors out of their reports, and log it once.

    A report has it under ``processor``, from :func:`fusionrec.probes.lines`: what a worker logs
    stays in the worker.
    """
    found: dict[str, int] = {}
    for report in reports:
        found |= report.pop("processor", {})
    for line, level in sorted(found.items()):
        log.log(level, line)
    return sorted(found)


def resumable(
    run: StageRun, name: str, function: Callable[[dict[str, Any]], dict[str, Any]]
) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Wrap a shard function so that a shard finished by an interrupted run is not redone.

    A shard's report is written after its output; where it is there, the shard is done.
    A shard is a mapping with its number under ``part``.
    """
    return _Resumable(run, name, function)


@dataclass(frozen=True)
class _Resumable:
    run: StageRun
    name: str
    function: Callable[[dict[str, Any]], dict[str, Any]]

    def __call__(self, shard: dict[str, Any]) -> dict[str, Any]:
        path = ("reports", f"{self.name}-{shard['part']:05d}.json")
        if self.run.workspace.exists(self.run.stage, *path):
            report: dict[str, Any] = self.run.read_json(*path)
            return report
        report = self.function(shard)
        self.run.write_json(report, *path)
        return report
