"""``python -m pipelines.<stage>``: the command of the stage's name, whatever the stage."""

from __future__ import annotations

import importlib
import sys


def as_command(name: str) -> None:
    """Hand this process's arguments to ``fusionrec NAME``.

    By name, since the command stands above every stage and this floor below.
    """
    importlib.import_module("pipelines.cli.main").main([name, *sys.argv[1:]])
