"""Links between files of the repository, as they are on the site.

In the files they are relative to where the file lies, so that they work wherever the repository
is read. On the site some of these files have pages elsewhere, and others have none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from posixpath import dirname, join, normpath, relpath

FENCED = re.compile(r"^( *)(```+|~~~+).*?^\1\2[ \t]*$\n?", re.MULTILINE | re.DOTALL)
"""A fenced block with all its lines."""

_LINK = re.compile(
    r"(?P<code>(?P<ticks>`+)(?!`).+?(?<!`)(?P=ticks)(?!`))"
    r"|(?P<image>!?)\[(?P<text>(?:[^\[\]]|\[[^\[\]]*\])*)\]"
    r"\((?P<target>[^()\s]+)(?P<title>\s+\"[^\"]*\")?\)",
    re.DOTALL,
)


@dataclass
class Rewriter:
    """Rewrites the links of one page.

    Attributes
    ----------
    root
        The repository.
    source
        The page's file in it; its links are relative to this.
    page
        The page on the site.
    pages
        Files of the repository, whether they exist or are made, and where the site has them.
    broken
        Targets that were found to be neither on the site nor in the repository.
    """

    root: Path
    source: str
    page: str
    pages: Mapping[str, str]
    broken: list[str] = field(default_factory=list)

    def rewritten(self, markdown: str) -> str:
        """The text with links to pages, or, where the site has none, with the file's path.

        What is in blocks and spans of code stays as it is.
        """
        parts, at = [], 0
        for block in FENCED.finditer(markdown):
            parts += [_LINK.sub(self._link, markdown[at : block.start()]), block[0]]
            at = block.end()
        return "".join([*parts, _LINK.sub(self._link, markdown[at:])])

    def _link(self, match: re.Match[str]) -> str:
        if match["code"] or re.match(r"[a-z][a-z0-9+.-]*:|#|/", match["target"]):
            return match[0]
        path, hash_, anchor = match["target"].partition("#")
        file = normpath(join(dirname(self.source), path))
        if file in self.pages:
            target = relpath(self.pages[file], dirname(self.page) or ".") + hash_ + anchor
            title = match["title"] or ""
            return f"{match['image']}[{match['text']}]({target}{title})"
        if file.startswith("../") or not (self.root / file).exists():
            self.broken.append(match["target"])
            return match[0]
        if match["text"].strip("`") == file:
            return f"`{file}`"
        return f"{match['text']} (`{file}`)"
