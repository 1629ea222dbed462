"""The reference of the Python API: a page for each public module, of its docstrings."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = "reference/api"
INDEX = f"{FOLDER}/index.md"

OF_PIPELINES = (
    "pipelines.opened",
    "pipelines.opened.recommender",
    "pipelines.opened.reasons",
    "pipelines.opened.plays",
    "pipelines.config.loading",
)
"""What of `pipelines` is called from Python; of `fusionrec` it is every public module."""

BEGIN = {
    "pipelines.opened.recommender": "a finished workspace: lists, songs like one, reasons",
    "fusionrec.formats.hdf5": "the Million Song Dataset's files",
    "fusionrec.formats.musixmatch": "its lyrics",
    "fusionrec.formats.taste_profile": "its plays",
    "fusionrec.formats.tables": "catalogues of one's own",
    "fusionrec.formats.sample": "a corpus with a planted truth",
    "fusionrec.labels.embedding": "tags as vectors",
    "fusionrec.labels.classes": "vectors as classes",
    "fusionrec.features.metadata": "titles, artists and years as vectors",
    "fusionrec.features.lyrics.encoder": "lyrics as vectors",
    "fusionrec.features.fusing": "all modalities as the network's input",
    "fusionrec.models.network": "the paper's network",
    "fusionrec.models.training": "how it is trained",
    "fusionrec.ranking.protocols": "who is ranked what",
    "fusionrec.ranking.users": "users as vectors",
    "fusionrec.ranking.topk": "exact top lists",
    "fusionrec.evaluation.metrics": "mAP@k and the others",
    "fusionrec.evaluation.two_way": "their intervals",
    "fusionrec.signals.blend": "what lists are ranked by beyond the paper",
    "fusionrec.methods": "a method of one's own in the comparison",
    "fusionrec.schemas": "columns of all artifacts",
    "fusionrec.errors": "what is raised",
}
"""Where to begin, and what for."""


@cache
def modules(root: Path) -> dict[str, Path]:
    """All public modules of `fusionrec` and those of `pipelines` that have a page, and their files.

    Public is what has no name that begins with an underscore.
    """
    found = {}
    for path in sorted((root / "fusionrec").rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        names = parts[:-1] if parts[-1] == "__init__" else parts
        if not any(name.startswith("_") for name in names):
            found[".".join(names)] = path
    for name in OF_PIPELINES:
        path = root / Path(*name.split("."))
        found[name] = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return found


def page_of(module: str, root: Path) -> str:
    """The page of a module on the site; a package's is the index of its folder."""
    path = "/".join([FOLDER, *module.split(".")])
    if modules(root)[module].name == "__init__.py":
        return f"{path}/index.md"
    return f"{path}_.md" if path.endswith("/index") else f"{path}.md"


def pages(root: Path) -> dict[str, str]:
    """All pages by their place on the site."""
    found = {page_of(name, root): _page(name, root) for name in modules(root)}
    return {INDEX: _index(root), **found}


def navigation(root: Path) -> list[Any]:
    """Packages and modules, nested as they are."""
    tops = [name for name in modules(root) if name.rpartition(".")[0] not in modules(root)]
    return [_entry(name, root, name) for name in sorted(tops, key=lambda n: n != "fusionrec")]


def _entry(name: str, root: Path, title: str) -> dict[str, Any]:
    inner = _inside(name, root)
    page = page_of(name, root)
    if not inner:
        return {title: page}
    return {title: [page, *(_entry(n, root, n.rpartition(".")[2]) for n in inner)]}


def _inside(package: str, root: Path) -> list[str]:
    return [name for name in modules(root) if name.rpartition(".")[0] == package]


def _page(name: str, root: Path) -> str:
    path = modules(root)[name]
    tree = ast.parse(path.read_text("utf-8"))
    lines = [f"---\ntitle: {name}\n---\n", f"::: {name}"]
    if path.name == "__init__.py":
        lines += ["    options:", f"      members: {_defined(tree) or 'false'}"]
        if exported := _exported(tree, root):
            lines += ["", "## Names", "", *(f"- [`{n}`][{full}]" for n, full in exported)]
        if inner := _inside(name, root):
            lines += ["", "## Modules", ""]
            lines += [f"- [`{n.rpartition('.')[2]}`][{n}]: {_summary(n, root)}" for n in inner]
    return "\n".join(lines) + "\n"


def _defined(tree: ast.Module) -> list[str]:
    """The public names of a module that it does not import."""
    names = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names += [target.id for target in targets if isinstance(target, ast.Name)]
    return [name for name in names if not name.startswith("_")]


def _exported(tree: ast.Module, root: Path) -> list[tuple[str, str]]:
    """The names of its modules that a package hands on (`__all__`), and where they are defined."""
    handed: list[str] = [
        name
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        for name in ast.literal_eval(node.value)
    ]
    return [
        (alias.asname or alias.name, f"{node.module}.{alias.name}")
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module in modules(root)
        for alias in node.names
        if (alias.asname or alias.name) in handed
    ]


def _summary(module: str, root: Path) -> str:
    """The first line of a module's docstring, which roles are taken out of."""
    doc = ast.get_docstring(ast.parse(modules(root)[module].read_text("utf-8"))) or ""
    first = " ".join(doc.partition("\n\n")[0].split())
    return first.replace(":mod:", "").replace(":func:", "").replace(":class:", "")


def _index(root: Path) -> str:
    lines = ["# Python API", ""]
    lines += ["`fusionrec` is the method on NumPy arrays and Arrow tables, without Ray; of"]
    lines += ["`pipelines`, these pages have what is called from Python. Where to begin:", ""]
    lines += ["| module | has |", "|---|---|"]
    lines += [f"| [`{name}`][{name}] | {what} |" for name, what in BEGIN.items()]
    lines += ["", "All packages and modules:", ""]
    for name in sorted(modules(root), key=lambda n: n.split(".")):
        if modules(root)[name].name == "__init__.py" or name.count(".") < 2:
            lines.append(f"- [`{name}`][{name}]: {_summary(name, root)}")
    return "\n".join(lines) + "\n"
