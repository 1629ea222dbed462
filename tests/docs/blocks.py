"""Fenced blocks of the guide's pages: which are run, in what place, and why others are not.

A block of shell or Python is run by ``tests/pipelines/test_pages.py``, unless a comment just before
it, which the page does not show, says why it cannot be::

    <!-- not run: needs a cluster -->

``python -m tests.docs.blocks`` lists these.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

RUN = ("sh", "python")
"""Languages of blocks that are run."""

OTHERS = ("text", "yaml", "json", "toml")
"""Languages of blocks that show something."""

ELSEWHERE = "runs in other tests: "
"""What a reason begins with that names the test."""

REASONS = (
    "installs packages",
    "needs a cluster",
    "needs a GPU",
    "needs the data set",
    "needs the network",
    "takes minutes",
)

_FENCE = re.compile(r"(?P<indent>[ \t]*)(?P<ticks>```+|~~~+)[ \t]*(?P<language>[^\s`]*)")
_NOT_RUN = re.compile(r"[ \t]*<!--\s*not run:\s*(?P<reason>.*?)\s*-->[ \t]*")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes
    ----------
    page
        Its file, relative to the repository.
    line
        Of the file, in which its text begins, from 1.
    language
        What the fence says, or nothing.
    text
        Without the fence, and without the indentation of a list that it is in.
    reason
        Why it is not run, if it says so.
    """

    page: str
    line: int
    language: str
    text: str
    reason: str | None

    @property
    def is_run(self) -> bool:
        return self.language in RUN and self.reason is None

    @property
    def name(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[str]:
    """The pages whose blocks are run: the README and the guide."""
    return ["README.md", *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs").rglob("*.md"))]


def blocks(page: str, root: Path = ROOT) -> list[Block]:
    """The blocks of a page, in its order.

    Raises
    ------
    ValueError
        A block does not end, or a comment stands before none.
    """
    lines = (root / page).read_text("utf-8").splitlines()
    found: list[Block] = []
    reason: str | None = None
    at = 0
    while at < len(lines):
        line = lines[at]
        at += 1
        if marker := _NOT_RUN.fullmatch(line):
            reason = marker["reason"]
        elif fence := _FENCE.match(line):
            start = at
            closing = re.compile(rf"[ \t]*{re.escape(fence['ticks'])}[ \t]*")
            while at < len(lines) and not closing.fullmatch(lines[at]):
                at += 1
            if at == len(lines):
                raise ValueError(f"{page}:{start}: this block does not end")
            text = textwrap.dedent("\n".join(lines[start:at]) + "\n")
            found.append(Block(page, start + 1, fence["language"], text, reason))
            reason = None
            at += 1
        elif line.strip() and reason is not None:
            raise ValueError(f"{page}:{at}: 'not run: {reason}' stands before no block")
    if reason is not None:
        raise ValueError(f"{page}: 'not run: {reason}' stands before no block")
    return found


def all_blocks() -> list[Block]:
    return [block for page in pages() for block in blocks(page)]


def section(page: str, heading: str, language: str) -> list[Block]:
    """The blocks of a language below a heading, until the next of the same level or above.

    Raises
    ------
    ValueError
        The page has no such heading, or two.
    """
    lines = (ROOT / page).read_text("utf-8").splitlines()
    places = [number for number, line in enumerate(lines, 1) if line == heading]
    if len(places) != 1:
        raise ValueError(f"{page}: has {len(places)} headings {heading!r}")
    level = heading.partition(" ")[0]
    # What looks like a heading in a block is a comment, so only lines outside blocks count.
    inside = {
        block.line + offset for block in blocks(page) for offset in range(block.text.count("\n"))
    }
    after = (
        number
        for number, line in enumerate(lines, 1)
        if number > places[0] and number not in inside and re.match(rf"#{{1,{len(level)}}} ", line)
    )
    end = next(after, len(lines) + 1)
    found = blocks(page)
    return [b for b in found if places[0] < b.line < end and b.language == language]


def commands(block: Block) -> list[str]:
    """The lines of a block of shell, those that are continued being one."""
    lines = block.text.replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def script(page: str, filled: dict[str, str]) -> str:
    """A Python program that runs a page's blocks in its order.

    Blocks of Python are one session. Each of shell has a shell of its own, which ends at the first
    command that fails.

    Parameters
    ----------
    filled
        What stands for something that the reader fills in, and what with.
    """
    run = [
        (block.name, block.line, block.language, replaced(block.text, filled))
        for block in blocks(page)
        if block.is_run
    ]
    return f"BLOCKS = {run!r}\n{_RUNNER}"


def replaced(text: str, filled: dict[str, str]) -> str:
    for placeholder, value in filled.items():
        text = text.replace(placeholder, value)
    return text


_RUNNER = """
import subprocess
import sys

session = {"__name__": "__main__"}
for name, line, language, text in BLOCKS:
    print(f"--- {name}", file=sys.stderr, flush=True)
    if language == "python":
        exec(compile("\\n" * (line - 1) + text, name.partition(":")[0], "exec"), session)
    else:
        shell = ["bash", "-e", "-u", "-o", "pipefail", "-c", text]
        if (code := subprocess.run(shell).returncode) != 0:
            sys.exit(f"{name}: ended with {code}")
"""


def main() -> None:
    """Print what is not run."""
    found = [block for block in all_blocks() if block.language in RUN]
    for block in found:
        if block.reason is not None:
            print(f"{block.name}: {block.reason}")
    print(f"{sum(block.is_run for block in found)} of {len(found)} blocks are run")


if __name__ == "__main__":
    main()
