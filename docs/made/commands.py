"""The reference of the command line, made of the command itself."""

from __future__ import annotations

import re
from typing import Any

from typer.main import get_command

from pipelines.cli.main import app

INTRODUCTION = """\
# Commands

What `fusionrec --help` and `fusionrec COMMAND --help` print.
"""


def page() -> str:
    """Markdown with a heading for each command, its arguments and its options."""
    group: Any = get_command(app)
    parts = [INTRODUCTION, _text(group.help), _options(group), _text(group.epilog)]
    for name, command in group.commands.items():
        if not command.hidden:
            parts += [f"## fusionrec {name}", _text(command.help), _options(command)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _options(command: Any) -> str:
    rows = [
        _row(parameter) for parameter in command.params if not getattr(parameter, "hidden", False)
    ]
    if not rows:
        return ""
    return "\n".join(["| | default | meaning |", "|---|---|---|", *rows])


def _row(parameter: Any) -> str:
    argument = parameter.param_type_name == "argument"
    names = [parameter.name.upper()] if argument else [*parameter.opts, *parameter.secondary_opts]
    default = parameter.default
    shown = "" if default in (None, False, "") or callable(default) else f"`{default}`"
    if parameter.required:
        shown = "must be given"
    about = _text(getattr(parameter, "help", None))
    if parameter.envvar:
        about += f" Environment: `{parameter.envvar}`."
    cells = (", ".join(f"`{name}`" for name in names), shown, about)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _text(text: str | None) -> str:
    """Help as Markdown on one line: options are code, and nothing else is markup."""
    spans = re.split(r"(`[^`]*`)", " ".join((text or "").split()))
    for at in range(0, len(spans), 2):
        escaped = re.sub(r"([*_<\[\]])", r"\\\1", spans[at])
        spans[at] = re.sub(r"(?<!\S)(--?[a-z][\w-]*)", r"`\1`", escaped)
    return "".join(spans)
