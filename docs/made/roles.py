"""Sphinx's roles in docstrings, as :func:`name`, become links to the API's pages, or code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import griffe

ROOT = Path(__file__).parents[2]
_ROLE = re.compile(r":[a-z]+:`(?P<target>[^`]*)`")
_NAME = re.compile(r"(?<![`\w])`(?P<target>[A-Za-z_][\w.]*)`(?![`\w])")
_LITERAL = re.compile(r"::(?=\n\n)")


class Roles(griffe.Extension):
    """Rewrites all docstrings of a package when all of it is loaded."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        for item in _all(pkg):
            if item.docstring:
                item.docstring.value = rewritten(item.docstring.value, item)


def _all(item: griffe.Object) -> list[griffe.Object]:
    inner = [m for m in item.members.values() if isinstance(m, griffe.Object)]
    return [item, *(deeper for member in inner for deeper in _all(member))]


def rewritten(text: str, item: griffe.Object) -> str:
    """A docstring in Markdown.

    Names in roles are links where the API has a page with what they name. So are names of modules
    in backticks, in the docstring of the package that they are in.
    """

    def link(match: re.Match[str]) -> str:
        target = match["target"]
        shown = target.rpartition(".")[2] if target.startswith("~") else target
        full = found(target.lstrip("~"), item)
        return f"[`{shown}`][{full}]" if full else f"`{shown}`"

    def module(match: re.Match[str]) -> str:
        named = item.members.get(match["target"])
        if not isinstance(named, griffe.Module) or not _shown(named):
            return match[0]
        return f"[`{match['target']}`][{named.path}]"

    text = _LITERAL.sub(":", _ROLE.sub(link, text))
    return _NAME.sub(module, text) if item.is_module else text


def found(name: str, item: griffe.Object) -> str | None:
    """The whole name of what a docstring calls so, if a page of the API has it."""
    scopes: list[griffe.Object] = [item]
    while scopes[-1].parent is not None:
        scopes.append(scopes[-1].parent)
    for scope in scopes:
        named = _inside(scope, name)
        if named is not None:
            return named.path if _shown(named) else None
    package = scopes[-1]
    if name.startswith(f"{package.name}."):
        named = _inside(package, name.partition(".")[2])
        return named.path if named is not None and _shown(named) else None
    return None


def _inside(scope: griffe.Object, name: str) -> griffe.Object | None:
    """What a dotted name is in a scope, through what is imported there."""
    named: griffe.Object | griffe.Alias = scope
    for part in name.split("."):
        if part not in named.members:
            return None
        named = named.members[part]
        if isinstance(named, griffe.Alias):
            try:
                named = named.final_target
            except (griffe.AliasResolutionError, griffe.CyclicAliasError):
                return None
    return named if isinstance(named, griffe.Object) else None


def _shown(named: griffe.Object) -> bool:
    """Whether a page has it: it and what it is in are public and have docstrings."""
    at: griffe.Object | None = named
    while at is not None:
        if at.name.startswith("_") or not at.docstring:
            return False
        at = at.parent
    return named.module.path in PAGES


def _pages() -> set[str]:
    import importlib.util

    spec = importlib.util.spec_from_file_location("made_api", Path(__file__).with_name("api.py"))
    assert spec is not None
    assert spec.loader is not None
    api = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(api)
    return set(api.modules(ROOT))


PAGES = _pages()
