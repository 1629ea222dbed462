"""`fusionrec update`: what it found, how far that lies from the models, and whether to refit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.table import Table

from pipelines.cli.options import AsJson, ConfigPath, Overrides, console, loaded, print_counts
from pipelines.cli.options import Workspace as WorkspaceOption
from pipelines.cli.results import artifact_lines

if TYPE_CHECKING:
    from pipelines.runtime.stage import Counts

NOTHING = "nothing is new: the source has no file that the last run did not read"
WITHDRAWN = "the update before, whose files are gone, is shown no longer"
_TOLD = ("read", "ranker", "distance", "reasons", "refit_due")


def update(
    config_path: ConfigPath = None,
    overrides: Overrides = None,
    workspace: WorkspaceOption = None,
    as_json: AsJson = False,
) -> None:
    """Bring the lists up to date, and print what is new."""
    from pipelines import update as stage  # brings Ray with it

    resolved = loaded(config_path, overrides, workspace)
    if not stage.anything_new(resolved):
        withdrawn = stage.withdraw(resolved)
        told = f"update: {NOTHING}{f'; {WITHDRAWN}' if withdrawn else ''}"
        print(json.dumps({"nothing_new": True, "withdrawn": withdrawn}) if as_json else told)
        return
    manifest = stage.STAGE.run(resolved)
    counts = manifest["counts"]
    if as_json:
        print(json.dumps(counts))
        return
    print_counts("update", {n: count for n, count in counts.items() if n not in _TOLD})
    if counts["distance"]:  # else no song is new
        console().print(distance_table(counts["distance"]))
    keys = {**manifest["lineage"], "update": manifest["key"]}
    for line in (
        *refit_lines(counts),
        *artifact_lines(resolved.workspace, keys, "update", console().width),
    ):
        print(line)


def distance_table(distance: Mapping[str, Any]) -> Table:
    """How far new songs lie from what the models saw, beside songs that were held out."""
    table = Table(title="new songs beside those that the last run held out", title_justify="left")
    for column in ("", "new", "held out", "limit"):
        table.add_column(column, justify="right" if column else "left")
    for name, of in distance.items():
        shares = ("–" if of[key] is None else f"{of[key]:.1%}" for key in _SHARES)
        table.add_row(name, *shares)
    return table


_SHARES = ("new", "held_out", "limit")


def refit_lines(counts: Counts) -> list[str]:
    """Whether a refit is due, and why."""
    reasons = counts["reasons"]
    assert isinstance(reasons, list)
    if not reasons:
        return ["No refit is due."]
    return ["A refit is due (`fusionrec run`):", *(f"- {reason}" for reason in reasons)]
