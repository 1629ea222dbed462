"""Which module may import which: arrows go down only, and never in a circle."""

from __future__ import annotations

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("fusionrec", "pipelines")

FLOORS = (
    "fusionrec",
    "pipelines.config",
    "pipelines.runtime",
    "pipelines",  # the stages
    "pipelines.cli",
)
"""From the lowest up; a module belongs to the longest name that it begins with."""


def floor(module: str) -> int:
    names = [name for name in FLOORS if f"{module}.".startswith(f"{name}.")]
    return FLOORS.index(max(names, key=len))


@cache
def modules() -> dict[str, Path]:
    found = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports(module: str) -> frozenset[str]:
    """Modules of ours that a module imports anywhere, also for its types and within functions."""
    found = set()
    for node in ast.walk(ast.parse(modules()[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in modules() else node.module)
    return frozenset(name for name in found if name in modules() and name != module)


def test_there_are_modules_and_imports() -> None:
    assert len(modules()) > 100
    assert "fusionrec.errors" in imports("pipelines.runtime.joining")
    assert floor("pipelines.runtime.stage") < floor("pipelines.split") < floor("pipelines.cli.main")


def test_no_arrow_goes_up() -> None:
    up = {
        f"{module} -> {name}"
        for module in modules()
        if not module.endswith("__main__")
        for name in imports(module)
        if floor(name) > floor(module)
    }
    assert not up


def test_no_imports_go_in_a_circle() -> None:
    """A door (`__init__`) imports its room; the room's modules may not import from the door."""
    try:
        TopologicalSorter({module: imports(module) for module in modules()}).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_the_method_knows_no_ray() -> None:
    found = set()
    for module, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if module.startswith("fusionrec") and any(n.split(".")[0] == "ray" for n in names):
                found.add(module)
    assert not found
