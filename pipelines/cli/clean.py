"""`fusionrec clean`: list and remove the results that no current one needs."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from pipelines.cli.options import AsJson, ConfigPath, Overrides, Workspace, console, loaded
from pipelines.runtime import cleaning, workspace


def clean(
    config_path: ConfigPath = None,
    overrides: Overrides = None,
    workspace_uri: Workspace = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List, and remove nothing.")] = False,
    unfinished: Annotated[
        bool,
        typer.Option("--unfinished", help="Remove what interrupted runs left, too."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List and remove the results that no current result is or was made from.

    Results of earlier configs are found again as long as they are there. What an interrupted run
    left stays, with all that it needs to go on, unless --unfinished is given; what a run is at work
    on stays, and what it needs.
    """
    place = workspace.Workspace(loaded(config_path, overrides, workspace_uri).workspace)
    found = cleaning.unneeded(place, unfinished=not unfinished)
    going = [r for r in found if not r.busy and (r.finished is not None or unfinished)]
    if not dry_run:
        # Listing takes seconds where another run is at work, which may need one of them by now.
        going = [r for r in going if cleaning.remove(place, r, unfinished=not unfinished)]
    if as_json:
        removed = [asdict(result) for result in going]
        kept = [asdict(result) for result in found if result not in going]
        print(json.dumps({"dry_run": dry_run, "removed": removed, "kept": kept}))
        return
    table = Table("stage", "result", "finished (UTC)", "MB", "")
    for result in found:
        what = "would be removed" if dry_run else "removed"
        if result not in going:
            left = result.finished is None and not unfinished
            what = "unfinished: kept" if left else "needed by now: kept"
            what = "at work: kept" if result.busy else what
        megabytes = f"{result.bytes / 1e6:,.1f}"
        table.add_row(result.stage, result.key, result.finished or "never", megabytes, what)
    out = console()
    if found:
        out.print(table)
    total = sum(result.bytes for result in going) / 1e6
    verb = "would be removed" if dry_run else "removed"
    out.print(f"{len(going)} results, {total:,.1f} MB, {verb} from {place.uri}", soft_wrap=True)
