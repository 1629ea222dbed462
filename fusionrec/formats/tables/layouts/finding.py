"""Files by the names that they were published under."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from fusionrec.errors import SourceError
from fusionrec.formats import files
from fusionrec.formats.tables.spec import Kind, TableSpec

Tables = dict[Kind, TableSpec]

_ENDINGS = ("", ".bz2", ".gz", ".zst")


def first(root: str, names: Sequence[str]) -> str | None:
    """The first of these files that is there, compressed or not."""
    for name in names:
        for ending in _ENDINGS:
            path = files.join(root, name + ending)
            if files.exists(path):
                return path
    return None


def plain(name: str) -> str:
    """A file's name without the ending of a compression."""
    stem, ending = os.path.splitext(name)
    return stem if ending in _ENDINGS else name


def once(names: Iterable[str]) -> list[str]:
    """Names in ascending order; of files that are there compressed and not, as :func:`first`."""
    found: dict[str, str] = {}
    for name in sorted(names, key=lambda each: _ENDINGS.index(each.removeprefix(plain(each)))):
        found.setdefault(plain(name), name)
    return sorted(found.values())


def needed(root: str, layout: str, names: Sequence[str]) -> str:
    found = first(root, names)
    if found is None:
        raise SourceError(
            f"{root}: has none of {', '.join(names)} (nor compressed), which source.format: "
            f"{layout} looks for; see source.root"
        )
    return found
