"""What of the guide is not written by hand in docs/: MkDocs calls this when it builds.

The references of the configuration, of the command and of the Python API are made of the code
itself (`made`), so that they cannot fall behind it. Files of the repository outside docs/ and the
notebooks become pages with their links rewritten.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from made import api, commands, config_keys, links, notebooks
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]

OUTSIDE = {
    "cluster/README.md": "cluster/guide.md",
    "cluster/CAPACITY.md": "cluster/capacity.md",
    "benchmarks/README.md": "benchmarks.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "examples/recommender.ipynb": "notebooks/recommender.md",
    "examples/method.ipynb": "notebooks/method.md",
}
"""Files outside docs/ that are pages, and which."""

CONFIG, COMMANDS = "reference/config.md", "reference/cli.md"

log = logging.getLogger(f"mkdocs.hooks.{__name__}")  # whose warnings end a strict build


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made, and the modules' to the navigation."""
    made = {CONFIG: config_keys.page(), COMMANDS: commands.page(), **api.pages(ROOT)}
    for source, uri in OUTSIDE.items():
        path = ROOT / source
        made[uri] = notebooks.page(path) if path.suffix == ".ipynb" else path.read_text("utf-8")
    for uri, content in made.items():
        files.append(File.generated(config, uri, content=content))
    config.nav = _filled(config.nav, api.navigation(ROOT))
    return files


def _filled(nav: Any, modules: list[Any]) -> Any:
    """The navigation with all modules below the page of the API."""
    if isinstance(nav, list):
        return [_filled(item, modules) for item in nav]
    if isinstance(nav, dict):
        return {
            title: [api.INDEX, *modules] if item == api.INDEX else _filled(item, modules)
            for title, item in nav.items()
        }
    return nav


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite the links, which are those of a file of the repository, to those of the site."""
    uri = page.file.src_uri
    sources = {site: source for source, site in OUTSIDE.items()}
    known = {f"docs/{file.src_uri}": file.src_uri for file in files}
    rewriter = links.Rewriter(
        root=ROOT,
        source=sources.get(uri, f"docs/{uri}"),
        page=uri,
        pages={**known, **OUTSIDE, "README.md": "index.md"},
    )
    text = rewriter.rewritten(markdown)
    for target in rewriter.broken:
        log.warning("%s: links to %s, which does not exist", rewriter.source, target)
    return text


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Of the keys, the contents beside the page have the sections alone."""
    if page.file.src_uri == CONFIG:
        for title in page.toc:
            for section in title.children:
                section.children.clear()
    return html
