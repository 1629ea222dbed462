"""Options that several commands have, and how their values are shown."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, TypeGuard

import typer
from rich.console import Console
from rich.table import Table

from pipelines import config
from pipelines.config import Config

if TYPE_CHECKING:
    from pipelines.runtime.stage import Counts

ConfigPath = Annotated[
    str | None,
    typer.Option("--config", "-c", help="YAML file (or URI) of the configuration; see `config`."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", help="Override one key: section.key=value. May be repeated."),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on standard output, last.")
]
Workspace = Annotated[
    str | None, typer.Option("--workspace", "-w", help="The same as --set workspace=...")
]


def loaded(path: str | None, overrides: list[str] | None, workspace: str | None) -> Config:
    chosen = list(overrides or [])
    if workspace is not None:
        chosen.append(f"workspace={json.dumps(workspace)}")
    return config.load(path, chosen)


def is_plain(value: object) -> TypeGuard[int | float | str]:
    return isinstance(value, int | float | str) and not isinstance(value, bool)


def shown(value: object) -> str:
    """A value for people."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def console() -> Console:
    """For results: songs' titles and file names are text, whatever brackets they hold."""
    return Console(markup=False, emoji=False)


def print_counts(name: str, counts: Counts) -> None:
    """All counts of a stage, a row each."""
    console().print(counts_table(name, counts))


def counts_table(title: str, counts: Counts) -> Table:
    """The same as a table."""
    table = Table(title=title, title_justify="left", show_header=False)
    for name, value in _rows(counts):
        table.add_row(name.replace("_", " "), value)
    return table


def _rows(counts: Counts, above: str = "") -> Iterator[tuple[str, str]]:
    """Every count, those within others under both names."""
    for name, value in counts.items():
        if isinstance(value, Mapping):
            yield from _rows(value, f"{above}{name}: ")
        elif isinstance(value, list | tuple):
            yield f"{above}{name}", "\n".join(shown(each) for each in value) or "none"
        else:
            yield f"{above}{name}", shown(value)
