"""`fusionrec status`: what each stage of a workspace holds, and how far one at work is."""

from __future__ import annotations

import json
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from fusionrec.errors import ConfigError, SchemaVersionError, WorkspaceError
from pipelines.cli.options import AsJson, ConfigPath, Overrides, is_plain, loaded, shown
from pipelines.cli.options import Workspace as WorkspaceOption
from pipelines.config import STAGES
from pipelines.runtime.workspace import Workspace

if TYPE_CHECKING:
    from pipelines.runtime.progress import ProgressFile
    from pipelines.runtime.stage import Counts

_SECONDS_OF_SILENCE = 60.0
"""A stage that has written nothing for so long is not at work: its run was killed."""


@dataclass(frozen=True)
class StageStatus:
    """What a stage holds, and how far it is while it is at work.

    `state` is finished, stale, unfinished, at work, missing or refused; `stale` says why it is,
    `finished` when.
    """

    stage: str
    state: str
    stale: str
    finished: str | None
    wall_seconds: float | None
    counts: Counts
    progress: ProgressFile | None


@dataclass(frozen=True)
class Status:
    """All stages of a workspace, whether or not it has them."""

    workspace: str
    stages: list[StageStatus]


def status_command(
    config_path: ConfigPath = None,
    overrides: Overrides = None,
    workspace: WorkspaceOption = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show it anew until --until is finished, or Ctrl-C.")
    ] = False,
    until: Annotated[
        str, typer.Option("--until", help="The stage with which --watch ends.")
    ] = "evaluate",
    every: Annotated[
        float, typer.Option("--every", min=0.1, help="Seconds between two looks of --watch.")
    ] = 2.0,
    as_json: AsJson = False,
) -> None:
    """Show what each stage of a workspace holds, since when, how far one at work is."""
    resolved = loaded(config_path, overrides, workspace)
    if watch:
        if until not in STAGES:
            raise ConfigError(f"--until {until}: must be one of {', '.join(STAGES)}")
        _watch(resolved.workspace, until, every, as_json)
        return
    found = status(resolved.workspace)
    if as_json:
        print(json.dumps(asdict(found)))
    else:
        Console().print(_status_table(found))


def _watch(workspace: str, until: str, every: float, as_json: bool) -> None:
    console = Console()
    last: Status | None = None
    with (
        Live(console=console, auto_refresh=False) if console.is_terminal else nullcontext() as live
    ):
        while True:
            found = status(workspace)
            if live is not None and not as_json:
                live.update(_status_table(found), refresh=True)
            elif found != last:
                # For a file or a pipe: only what is new.
                if as_json:
                    print(json.dumps(asdict(found)), flush=True)
                else:
                    console.print(_status_table(found))
            last = found
            states = {row.stage: row.state for row in found.stages}
            if states[until] == "finished" and not {"at work", "unfinished"} & set(states.values()):
                return
            time.sleep(every)


def _status_table(found: Status) -> Table:
    table = Table("stage", "state", "finished (UTC)", "took", "counts", title=found.workspace)
    for row in found.stages:
        counts = ", ".join(
            f"{name} {shown(value)}" for name, value in row.counts.items() if is_plain(value)
        )
        took = f"{row.wall_seconds:.1f} s" if row.wall_seconds is not None else ""
        if (progress := row.progress) is not None:
            counts = f"{progress['what']}: {progress['step']:,} of {progress['total']:,}"
        table.add_row(row.stage, row.state, row.finished or "", took, counts)
    return table


def status(uri: str) -> Status:
    """What each stage holds: its state, since when, and its counts."""
    workspace = Workspace(uri)
    current = workspace.current()
    rows = []
    for stage in STAGES:
        state, why, manifest, progress = "missing", "", None, None
        try:
            manifest = workspace.manifest(stage)
        except SchemaVersionError as error:
            state = f"refused: {error}"
        if manifest is not None:
            others = [n for n, key in manifest["lineage"].items() if current.get(n) != key]
            state = "stale" if others else "finished"
            why = f"of another {', '.join(others)}" if others else ""
        begun = _unfinished(workspace, stage)
        if begun:
            progress = _progress(begun[-1], stage)
            if progress is not None and time.time() - progress["time"] < _SECONDS_OF_SILENCE:
                state = "at work"
            elif state == "missing":
                state = "unfinished"
        rows.append(
            StageStatus(
                stage,
                state,
                why,
                manifest["finished"] if manifest else None,
                manifest["wall_seconds"] if manifest else None,
                manifest["counts"] if manifest else {},
                progress,
            )
        )
    return Status(workspace.uri, rows)


def _unfinished(workspace: Workspace, stage: str) -> list[Workspace]:
    """Results of a stage that a run has begun, and finished none; the last to move comes last."""
    found = []
    for key in workspace.results(stage):
        reading = workspace.at({stage: key})
        if not reading.exists(stage, "manifest.json"):
            found.append(reading)
    return sorted(found, key=lambda each: (_progress(each, stage) or {"time": 0.0})["time"])


def _progress(workspace: Workspace, stage: str) -> ProgressFile | None:
    try:
        progress: ProgressFile = workspace.read_json(stage, "progress", "now.json")
    except (OSError, WorkspaceError):
        return None
    return progress if "time" in progress else None
