"""`fusionrec check`: what a run would need, a line each."""

from __future__ import annotations

import json

import typer
from rich.console import Console
from rich.table import Table

from pipelines.cli.options import AsJson, ConfigPath, Overrides, Workspace, loaded


def check(
    config_path: ConfigPath = None,
    overrides: Overrides = None,
    workspace: Workspace = None,
    as_json: AsJson = False,
) -> None:
    """Look at all that `run` needs, before anything is read: sources, encoder, CPUs, GPUs, disk."""
    from pipelines import check as checking
    from pipelines import run

    resolved = loaded(config_path, overrides, workspace)
    table = Table(box=None, show_header=False, padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    rows = list(checking.check(resolved, run.stages(resolved)))
    for row in rows:
        table.add_row("ok" if row.error is None else "FAILS", row.what, row.text)
    if as_json:
        found = [{"what": r.what, "ok": r.error is None, "text": r.text} for r in rows]
        print(json.dumps({"ok": all(row["ok"] for row in found), "checks": found}))
    else:
        Console(markup=False, emoji=False).print(table)
    failed = [row.error for row in rows if row.error is not None]
    if failed:
        raise typer.Exit(failed[0].exit_code)
