"""Options that several commands have, and how their values are shown."""

from __future__ import annotations

import json
from collections.abc import Mapping
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
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def print_counts(name: str, counts: Counts) -> None:
    table = Table("", "count", title=name, title_justify="left")
    for key, value in counts.items():
        if isinstance(value, Mapping):
            for inner, number in value.items():
                table.add_row(f"{key.replace('_', ' ')}: {inner}", shown(number))
        elif is_plain(value):
            table.add_row(key.replace("_", " "), shown(value))
    Console().print(table)
