"""Check: what a run needs, looked at before its first byte is read.

A run finds out hours later else that its encoder cannot be loaded, or that the GPUs of its last
stage are nowhere.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path

from fusionrec.errors import BusyError, FusionrecError, InputError, SourceError, WorkspaceError
from fusionrec.formats import files
from pipelines import embed, ingest, split
from pipelines.config import Config
from pipelines.embed.lyrics import check_encoder
from pipelines.embed.tokens import PRETRAIN
from pipelines.ingest.listing import named_sources
from pipelines.ingest.looking import have_times, look_into_tables
from pipelines.ingest.tables import is_tables, table_specs
from pipelines.runtime import gpus, lease, resources, session
from pipelines.runtime.command import as_command
from pipelines.runtime.stage import Plan, Plans, Stage
from pipelines.runtime.workspace import Workspace

_LEAST_FREE = 500 << 20
"""Bytes that must be free: the sample corpus leaves half as much."""


@dataclass(frozen=True)
class Found:
    """One thing that was looked at: what was found there, or what is wrong with it."""

    what: str
    text: str
    error: FusionrecError | None = None


def check(
    config: Config, stages: Sequence[Stage], pending: Sequence[Plan] | None = None
) -> Iterator[Found]:
    """Look at all that these stages will need, in the order in which one stands on the other.

    Parameters
    ----------
    pending
        What :func:`_pending` found, where it was asked before: it lists the whole source.
    """
    plans = list(pending or ())

    def settings() -> str:
        for stage in stages:
            if stage.check is not None:
                stage.check(config)
        return "all keys and values are known, and fit together"

    def inputs() -> str:
        if pending is None:
            plans.extend(_pending(config, stages))
        if not plans:
            return "every stage is up to date"
        return f"to be computed: {', '.join(plan.stage.name for plan in plans)}"

    looks: list[tuple[str, Callable[[], str]]] = [
        ("config", settings),
        ("workspace", lambda: _workspace(config)),
        ("temporary files", _temporary_folder),
    ]
    if ingest.STAGE in stages:
        looks.append(("sources", lambda: _sources(config, stages)))
    looks += [
        ("stages", inputs),
        ("lease", lambda: _lease(config, plans)),
        ("cluster", lambda: _cluster(config)),
        ("resources", lambda: _resources(config, plans)),
        ("GPUs", lambda: _gpus(config, plans)),
    ]
    if embed.STAGE in stages and "lyrics" in config.embed.modalities:
        looks.append(("lyrics encoder", lambda: _encoder(config)))
    unreachable: FusionrecError | None = None
    for what, look in looks:
        if unreachable is not None:
            yield Found(what, "not looked at: there is no Ray", unreachable)
            continue
        try:
            yield Found(what, look())
        except FusionrecError as error:
            yield Found(what, str(error), error)
            if what == "cluster":  # what follows asks it
                unreachable = error


def require(config: Config, stages: Sequence[Stage]) -> None:
    """Raise the first error that :func:`check` finds; nothing where all is up to date."""
    pending = _pending(config, stages)
    if pending:
        for found in check(config, stages, pending):
            if found.error is not None:
                raise found.error


def _pending(config: Config, stages: Sequence[Stage]) -> list[Plan]:
    workspace, known = Workspace(config.workspace), Plans()
    plans = [
        stage.plan(config, workspace, look=stage.source is not None, known=known)
        for stage in stages
    ]
    return [plan for plan in plans if plan.manifest is None]


def _workspace(config: Config) -> str:
    workspace = Workspace(config.workspace)
    workspace.try_to_write()
    if "://" in workspace.uri:
        return f"{workspace.uri}: can be written"
    free = shutil.disk_usage(workspace.root).free
    if free < _LEAST_FREE:
        raise WorkspaceError(
            f"{workspace.root}: only {free / 1e6:,.0f} MB are free; free space there, or choose "
            "another folder with --set workspace=..."
        )
    return f"{workspace.root}: can be written, {free / 1e9:,.1f} GB free"


def _temporary_folder() -> str:
    try:
        with tempfile.TemporaryFile() as file:
            file.write(b"x")
        folder = Path(tempfile.gettempdir())
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise InputError(f"no temporary folder can be written ({error}); set TMPDIR") from None
    return f"{folder}: can be written, {free / 1e9:,.1f} GB free"


def _sources(config: Config, stages: Sequence[Stage]) -> str:
    found = list(named_sources(config))
    for key, path in found:
        if not files.exists(path):
            raise SourceError(f"{path}: does not exist; set source.root and {key}")
        if not files.is_folder(path):
            with files.open_binary(path) as file:
                file.read(1)
    if is_tables(config):
        specs = table_specs(config)
        number = look_into_tables(specs)
        of_time = _key_of_time(config, {stage.name for stage in stages})
        if of_time is not None and not have_times(specs.plays):
            raise split.without_times(of_time)
        return f"{number} tables are there, with the columns that they need"
    return f"{len(found)} files and folders are there"


def _key_of_time(config: Config, stages: Set[str]) -> str | None:
    """The key by which plays are split by time; None where nothing is."""
    if "split" in stages and config.split.by == "time":
        return "split.by"
    return "compare.splits" if "compare" in stages and "time" in config.compare.splits else None


def _lease(config: Config, pending: Sequence[Plan]) -> str:
    workspace = Workspace(config.workspace)
    for plan in pending:
        reading = plan.reading(workspace)
        claim = lease.living(reading, plan.stage.name)
        if claim is not None:
            raise BusyError(lease.at_work(plan.stage.name, claim))
    return "no other run is at work on the same"


def _cluster(config: Config) -> str:
    session.start(config.cluster)
    where = f"the cluster at {config.cluster.address}" if config.cluster.address else "a Ray here"
    return f"{where} with {resources.cpus()} CPUs and {resources.gpus():g} GPUs"


def _resources(config: Config, pending: Sequence[Plan]) -> str:
    for plan in pending:
        resources.refuse(plan.stage.name, plan.stage.demanded(config))
    return "what each stage asks for is there, or may come"


def _gpus(config: Config, pending: Sequence[Plan]) -> str:
    """What each stage would have, as far as it can be told now; those of one reason together."""
    found: dict[str, list[str]] = {}
    for plan in pending:
        settled = _foreseen(config, plan.stage, plan)
        if settled is not None:
            found.setdefault(settled.why, []).append(plan.stage.name)
    return "; ".join(f"{', '.join(names)}: {why}" for why, names in found.items()) or "none needed"


def _foreseen(config: Config, stage: Stage, plan: Plan | None) -> gpus.Settled | None:
    workspace, inputs = Workspace(config.workspace), False
    if plan is None:
        run = workspace.begin(stage.name, {})
    else:
        run = plan.reading(workspace).begin(stage.name, plan.content, plan.lineage)
        inputs = all(each.manifest is not None for each in plan.inputs)
    if run is None:
        return None  # finished by another run
    run = replace(run, resources=config.cluster.resources.get(stage.name, {}))
    return gpus.foresee(run, stage.gpus, config, stage.demanded(config), inputs=inputs)


def _encoder(config: Config) -> str:
    if config.embed.lyrics.encoder == PRETRAIN:
        return "is pre-trained on the corpus's own lyrics"
    settled = _foreseen(config, embed.STAGE, None)
    return check_encoder(config, settled.each if settled is not None else 0.0)


if __name__ == "__main__":
    as_command("check")
