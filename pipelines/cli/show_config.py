"""`fusionrec config`: the resolved configuration, or all keys with their meaning."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.table import Column, Table

from pipelines import config
from pipelines.cli.options import ConfigPath, Overrides, Workspace, console, loaded
from pipelines.config.section import Section


def show_config(
    config_path: ConfigPath = None,
    overrides: Overrides = None,
    workspace: Workspace = None,
    keys: Annotated[bool, typer.Option("--keys", help="List every key with its meaning.")] = False,
) -> None:
    """Print the resolved configuration as YAML, or all keys with their meaning."""
    resolved = loaded(config_path, overrides, workspace)
    if not keys:
        print(config.to_yaml(resolved), end="")
        return
    # Keys are there to be copied, so that the other columns give way.
    table = Table(Column("key", no_wrap=True), Column("default", overflow="fold"), "meaning")
    for name, default, doc in config.describe():
        table.add_row(name, json.dumps(default, default=_as_written), doc)
    console().print(table)


def _as_written(value: Section) -> dict[str, Any]:
    """An entry of a list as a YAML file has it."""
    return value.model_dump(mode="json", exclude_defaults=True)
