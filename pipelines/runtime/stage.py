"""What a stage is, and how any of them is run: skip what is up to date, redo what is not."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias

from fusionrec.errors import SourceError, WorkspaceError
from pipelines.config import Config
from pipelines.runtime import differences, gpus, lease, logs, metrics, resources, session, watchdog
from pipelines.runtime.gpus import GpuUse
from pipelines.runtime.resume import REPORTS, resumable
from pipelines.runtime.run_id import run_id
from pipelines.runtime.workspace import (
    KEPT,
    SETTLED,
    Manifest,
    StageRun,
    Workspace,
    fingerprint,
    result_key,
)

__all__ = ["Counts", "Json", "Plan", "Plans", "Stage", "processor_lines", "resumable"]

log = logging.getLogger("fusionrec")

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"
Counts: TypeAlias = Mapping[str, Json]
"""What a stage reports of its work in its manifest."""


@dataclass(frozen=True)
class Stage:
    """One stage of the pipeline.

    Attributes
    ----------
    name
        The command, the workspace folder and the module, all in one; of a stage that only
        comparisons have, the folder.
    needs
        The stages whose results it reads, given the config.
    settings
        Everything of the config its result depends on; what only moves the work around
        (workers, CPUs, GPUs, memory) stays out, so that changing it redoes nothing.
    work
        Does the work and returns the counts for the manifest.
    demand
        What it asks the cluster for at one time, where that is more than a CPU, beside GPUs.
    gpus
        What it does with GPUs, if anything.
    source
        State of outside inputs, for stages that read any.
    source_after
        State, after the work, of the inputs of which it was given before; `source` again, if it is
        not given. If it is, inputs that come while the work goes on are of another result.
    refresh_first
        Quick stages that are redone first where this config asks for another result of them, if
        it needs them.
    staging
        Artifacts that only the work itself reads; they go once the result is finished.
    published
        Patterns of the files that people open, which lie in the stage's folder as well.
    version
        Of the code: raised with every change of it that changes results.
    does
        Stages whose code it runs for configs of its own, so that their versions count, too.
    check
        Raises a ConfigError for settings that do not fit together.
    """

    name: str
    needs: Callable[[Config], Sequence[Stage]]
    settings: Callable[[Config], dict[str, Any]]
    work: Callable[[Config, Workspace, StageRun], Counts]
    demand: Callable[[Config], resources.Demand] | None = None
    gpus: GpuUse | None = None
    source: Callable[[Config], Any] | None = None
    source_after: Callable[[Config, Any], Any] | None = None
    refresh_first: Sequence[Stage] = ()
    staging: Sequence[str] = ()
    published: Sequence[str] = ()
    version: int = 1
    does: Sequence[Stage] = ()
    check: Callable[[Config], None] | None = None

    def plan(
        self,
        config: Config,
        workspace: Workspace,
        *,
        look: bool = False,
        known: Plans | None = None,
    ) -> Plan:
        """Which result this config asks for, and whether it is there.

        Parameters
        ----------
        look
            Look at the outside inputs. Else they are taken to be as a run of the stage last saw
            them, so that its result can be read without them.
        known
            Plans of this config that were made before, by stage; this one and its inputs' are
            added.
        """
        known = {} if known is None else known
        if self.name in known:
            return known[self.name]
        inputs = [stage.plan(config, workspace, known=known) for stage in self.needs(config)]
        content = {
            "version": {stage.name: stage.version for stage in (self, *self.does)},
            "settings": _as_json(self.settings(config)),
            "inputs": {plan.stage.name: plan.identity for plan in inputs},
        }
        lineage: dict[str, str] = {}
        for plan in inputs:
            lineage |= {**plan.lineage, plan.stage.name: plan.key}
        if self.source is not None and look:
            content["source"] = _as_json(self.source(config))
        elif self.source is not None:
            content["source"] = self._last_seen_source(workspace, content)
        key = result_key(self.name, content)
        manifest = workspace.at({self.name: key}).manifest(self.name)
        found = Plan(self, key, content, lineage, tuple(inputs), manifest)
        known[self.name] = found
        return found

    def _last_seen_source(self, workspace: Workspace, content: dict[str, Any]) -> Any:
        """The outside inputs of the result that was up to date when a run last looked at them.

        Within the work of another stage: of the result that it began with, whatever another run
        has seen since.
        """
        begun = workspace.manifest(self.name) if self.name in workspace.keys else None
        if begun is not None:
            source = begun["content"]["source"]
            if begun["content"] == {**content, "source": source}:
                return source
        key = workspace.last_seen(self.name, fingerprint(content))
        manifest = None if key is None else workspace.at({self.name: key}).manifest(self.name)
        return None if manifest is None else manifest["content"]["source"]

    def demanded(self, config: Config) -> resources.Demand:
        """What it asks the cluster for at one time beside GPUs, with its custom resources."""
        custom = config.cluster.resources.get(self.name, {})
        asked = (
            resources.Demand(({"CPU": 1.0},), {}) if self.demand is None else self.demand(config)
        )
        return asked.with_custom(custom)

    def run(
        self, config: Config, workspace: Workspace | None = None, *, current: bool = True
    ) -> Manifest:
        """Bring the stage up to date and return its manifest.

        Parameters
        ----------
        workspace
            The config's, if no other is given.
        current
            Whether the result becomes the workspace's current one.

        Raises
        ------
        WorkspaceError
            A stage that this one needs has no finished result for this config.
        BusyError
            Another run is at work on the same result.
        """
        with logs.of_stage(self.name):
            if self.check is not None:
                self.check(config)
            workspace = workspace or Workspace(config.workspace)
            needed = self.needs(config)
            for stage in (each for each in self.refresh_first if each in needed):
                # Where there are sources, also to note that they are in an earlier state again.
                if stage.source is not None or stage.plan(config, workspace).manifest is None:
                    stage.run(config, workspace, current=current)
            plan = self.plan(config, workspace, look=True)
            plan.require_inputs(workspace)
            manifest, reading = plan.manifest, plan.reading(workspace)
            if manifest is None:
                manifest = self._compute(config, plan, reading)
            else:
                log.info("%s: up to date", self.name)
            if self.source is not None:
                without = {k: v for k, v in plan.content.items() if k != "source"}
                workspace.see(self.name, fingerprint(without), plan.key)
            self._tidy(reading)
            if current:
                workspace.point({**plan.lineage, self.name: plan.key})
                reading.publish(self.name, self.published)
            return manifest

    def _compute(self, config: Config, plan: Plan, reading: Workspace) -> Manifest:
        run = reading.begin(self.name, plan.content, plan.lineage)
        if run is None:
            return reading.require(self.name)  # by another run, since it was looked
        run = replace(run, resources=config.cluster.resources.get(self.name, {}))
        with lease.held(run) as held:
            manifest = reading.manifest(self.name)
            if manifest is not None:
                return manifest  # by another run, before this one held the lease
            run.keep(plan.lineage.items(), "inputs")
            session.start(config.cluster)
            each = gpus.settle(run, self.gpus, config, self.demanded(config))
            run = replace(run, gpus=each)
            log.info("%s: started", self.name)
            with watchdog.watching(run, config.cluster.patience):
                counts = self.work(config, reading, run)
            now = self._source_after(config, plan)
            if self.source is not None and now != plan.content["source"]:
                held.check()  # else what is there is another run's
                reading.delete(self.name)  # of which state each part is, nobody knows
                changed = ", ".join(differences.of_sources(plan.content["source"], now))
                raise SourceError(
                    f"{self.name}: source files changed while they were being read ({changed}); "
                    "leave them alone and run the command again"
                )
            held.check()
            manifest = run.commit(counts, seed=config.seed, run=run_id())
        metrics.count("fusionrec_stage_seconds", manifest["wall_seconds"], stage=self.name)
        log.info("%s: done in %.1f s", self.name, manifest["wall_seconds"])
        return manifest

    def _source_after(self, config: Config, plan: Plan) -> Any:
        """The state, now, of the outside inputs that this result is of."""
        if self.source is None:
            return None
        if self.source_after is None:
            return _as_json(self.source(config))
        return _as_json(self.source_after(config, plan.content["source"]))

    def _tidy(self, reading: Workspace) -> None:
        """Remove what only the work needed; a run that died here left it, and nobody reads it."""
        for artifact in (*self.staging, *_STAGING):
            reading.delete(self.name, artifact)


@dataclass(frozen=True)
class Plan:
    """Which result of a stage a config asks for.

    Attributes
    ----------
    key, content
        As in its manifest.
    lineage
        The key of each stage that it is made from.
    inputs
        Plans of the stages that it reads.
    manifest
        None as long as there is no finished result.
    """

    stage: Stage
    key: str
    content: dict[str, Any]
    lineage: dict[str, str]
    inputs: tuple[Plan, ...]
    manifest: Manifest | None

    @property
    def identity(self) -> str:
        """What later stages depend on."""
        return self.key if self.manifest is None else self.manifest["identity"]

    def reading(self, workspace: Workspace) -> Workspace:
        """The workspace with this result, and each that it is made from."""
        return workspace.at({**self.lineage, self.stage.name: self.key})

    def require_inputs(self, workspace: Workspace) -> None:
        """Raise a WorkspaceError where an input has no finished result for this config."""
        for plan in self.inputs:
            plan.require_inputs(workspace)
            if plan.manifest is None:
                raise WorkspaceError(plan._not_finished(workspace))

    def _not_finished(self, workspace: Workspace) -> str:
        name = self.stage.name
        there = workspace.manifest(name)
        if there is None:
            return (
                f"{workspace.root}/{name}: this stage is not finished; run `fusionrec {name}` first"
            )
        found = differences.of_contents(there["content"], self.content)
        for plan in self.inputs:  # which file made another result of it
            key = there["lineage"].get(plan.stage.name, plan.key)
            earlier = workspace.at({plan.stage.name: key}).manifest(plan.stage.name)
            if plan.stage.source is not None and earlier is not None:
                found += differences.of_sources(
                    earlier["content"]["source"], plan.content["source"]
                )
        return (
            f"{workspace.root}/{name}: finished for another config ({', '.join(found)}); bring it "
            f"up to date with `fusionrec {name}`, or all stages with `fusionrec run`"
        )


Plans = dict[str, Plan]

_STAGING = (REPORTS, "progress", KEPT, SETTLED[0])


def _as_json(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))


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
    return logged(found)


def logged(found: Mapping[str, int]) -> list[str]:
    """Log a worker's lines by their levels, and list them."""
    for line, level in sorted(found.items()):
        log.log(level, line)
    return sorted(found)
