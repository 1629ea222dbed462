"""`fusionrec config`: the resolved configuration, or all keys with their meaning."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.table import Table

from pipelines import config
from pipelines.cli.options import ConfigPath, Overrides, Workspace, console, loaded


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
    table = Table("key", "default", "meaning")
    for name, default, doc in config.describe():
        table.add_row(name, json.dumps(default, default=str), doc)
    console().print(table)
