"""`fusionrec status`: what each stage of a workspace holds, and how far one at work is."""

from __future__ import annotations

import json
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.live import Live
from rich.table import Table

from fusionrec.errors import ConfigError, SchemaVersionError, WorkspaceError
from pipelines.cli.headlines import headline
from pipelines.cli.options import AsJson, ConfigPath, Overrides, console, counts_table, loaded
from pipelines.cli.options import Workspace as WorkspaceOption
from pipelines.config import STAGES
from pipelines.runtime.workspace import SETTLED, Workspace

if TYPE_CHECKING:
    from pipelines.runtime.progress import ProgressFile
    from pipelines.runtime.stage import Counts

_SECONDS_OF_SILENCE = 60.0
"""A stage that has written nothing for so long is not at work: its run was killed."""


@dataclass(frozen=True)
class StageStatus:
    """A stage of a workspace: `state` is finished, stale, at work, unfinished, refused or missing.

    `stale` says why its result is not to be used: what it was made from has changed, or another
    release wrote it. `gpus` says on what it ran or runs and why, of work that may use GPUs.
    """

    stage: str
    state: str
    stale: str
    finished: str | None
    wall_seconds: float | None
    counts: Counts
    progress: ProgressFile | None
    gpus: tuple[str, ...] = ()


@dataclass(frozen=True)
class Status:
    """All stages of a workspace, whether or not it has them."""

    workspace: str
    stages: list[StageStatus]


def status_command(
    stage: Annotated[
        str | None, typer.Argument(help="Show all that this stage counted.", show_default=False)
    ] = None,
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
    """Show each stage of a workspace in a line: state, when, what matters of what it counted.

    With STAGE, all that this one counted; --json has all of all stages.
    """
    resolved = loaded(config_path, overrides, workspace)
    for option, name in (("STAGE", stage), ("--until", until)):
        if name is not None and name not in STAGES:
            raise ConfigError(f"{option} {name}: must be one of {', '.join(STAGES)}")
    show = _Show(stage, as_json)
    if watch:
        _watch(resolved.workspace, show, until, every)
    else:
        show.print(status(resolved.workspace))


def _watch(workspace: str, show: _Show, until: str, every: float) -> None:
    screen = console()
    last = None
    with Live(console=screen, auto_refresh=False) if screen.is_terminal else nullcontext() as live:
        while True:
            found = status(workspace)
            if live is not None and not show.as_json:
                live.update(show.table(found), refresh=True)
            elif found != last:
                # For a file or a pipe: only what is new.
                show.print(found)
            last = found
            states = {row.stage: row.state for row in found.stages}
            if states[until] == "finished" and not {"at work", "unfinished"} & set(states.values()):
                return
            time.sleep(every)


@dataclass(frozen=True)
class _Show:
    """All stages, or one of them with all that it counted; as a table or as JSON."""

    stage: str | None
    as_json: bool

    def print(self, found: Status) -> None:
        if self.as_json:
            print(json.dumps(asdict(found if self.stage is None else self._row(found))), flush=True)
        else:
            console().print(self.table(found))

    def table(self, found: Status) -> Table:
        return stages_table(found) if self.stage is None else stage_table(self._row(found))

    def _row(self, found: Status) -> StageStatus:
        return next(row for row in found.stages if row.stage == self.stage)


def stages_table(found: Status) -> Table:
    """A line a stage."""
    table = Table(
        title=found.workspace,
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    # Where a terminal is narrow, only the last column gives way.
    widths = {"stage": max(map(len, STAGES)), "state": len("unfinished"), "when (UTC)": 11}
    for name, width in widths.items():
        table.add_column(name, min_width=width, no_wrap=True)
    table.add_column("took", min_width=7, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True, overflow="ellipsis")
    for row in found.stages:
        finished = (row.finished or "").replace("T", " ")
        table.add_row(
            row.stage,
            row.state,
            finished[5:16],
            _duration(row.wall_seconds),
            _progress_line(row) or row.stale or headline(row.stage, row.counts),
        )
    return table


def stage_table(row: StageStatus) -> Table:
    """All that one stage holds."""
    about = {
        "state": row.state,
        **({"why": row.stale} if row.stale else {}),
        **({"at": line} if (line := _progress_line(row)) else {}),
        **({"on": "; then ".join(row.gpus)} if row.gpus else {}),
        **({"finished": row.finished} if row.finished else {}),
        **({"took": _duration(row.wall_seconds)} if row.finished else {}),
    }
    return counts_table(row.stage, {**about, **row.counts})


def _progress_line(row: StageStatus) -> str:
    """How far an unfinished result is, unless it was left behind and another is finished."""
    progress = row.progress
    if progress is None or row.state not in ("at work", "unfinished"):
        return ""
    where = f"{progress['what']}: {progress['step']:,} of {progress['total']:,}"
    return f"{where}; {row.gpus[-1]}" if row.gpus else where


def _duration(seconds: float | None) -> str:
    """Seconds below a minute, else hours:minutes:seconds."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def status(uri: str) -> Status:
    """What each stage holds: its state, when, counts, and why a stale one is stale."""
    workspace = Workspace(uri)
    current = workspace.current()
    rows = []
    for stage in STAGES:
        state, why, manifest, progress, settled = "missing", "", None, None, None
        try:
            manifest = workspace.manifest(stage)
        except SchemaVersionError as error:
            state, why = "refused", str(error)
        if manifest is not None:
            others = [n for n, key in manifest["lineage"].items() if current.get(n) != key]
            state = "stale" if others else "finished"
            why = f"of another {', '.join(others)}" if others else ""
        begun = _unfinished(workspace, stage)
        if manifest is not None:
            settled = manifest.get("gpus")
        if begun:
            progress = _progress(begun[-1], stage)
            if progress is not None and time.time() - progress["time"] < _SECONDS_OF_SILENCE:
                state = "at work"
            elif state == "missing":
                state = "unfinished"
            if state in ("at work", "unfinished"):
                settled = _json_of(begun[-1], stage, *SETTLED)
        rows.append(
            StageStatus(
                stage,
                state,
                why,
                manifest["finished"] if manifest else None,
                manifest["wall_seconds"] if manifest else None,
                manifest["counts"] if manifest else {},
                progress,
                tuple(each["why"] for each in settled or ()),
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
    progress: ProgressFile | None = _json_of(workspace, stage, "progress", "now.json")
    return progress if progress is not None and "time" in progress else None


def _json_of(workspace: Workspace, stage: str, *parts: str) -> Any:
    """A file of an unfinished result; None where there is none, or it has just gone."""
    try:
        return workspace.read_json(stage, *parts)
    except (OSError, WorkspaceError):
        return None
