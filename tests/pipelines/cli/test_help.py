"""What the command says of itself is all printed."""

import re

import pytest
from rich.text import Text
from typer.main import get_command

from pipelines import config
from pipelines.cli.main import app, main

GROUP = get_command(app)


def test_no_help_is_taken_for_markup() -> None:
    """Rich leaves out what is in brackets, as the extra in `pip install 'fusionrec[export]'`."""
    for command in (GROUP, *GROUP.commands.values()):
        for text in (command.help, command.epilog, *(p.help for p in help_of(command))):
            assert Text.from_markup(text or "").plain == (text or ""), command.name


def help_of(command):
    return [parameter for parameter in command.params if hasattr(parameter, "help")]


def test_every_key_is_printed_whole_with_its_default(capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["config", "--keys"])
    assert not ended.value.code
    out = capsys.readouterr().out
    printed = dict(re.findall(r"^│ ([a-z_.]+) +│ (.*?) +│", out, re.MULTILINE))
    assert list(printed) == [name for name, _, _ in config.describe()]
    assert printed["source.tables.songs.columns"] == "{}"
    assert printed["train.eta"] == "0.001"
    assert all(printed.values())
