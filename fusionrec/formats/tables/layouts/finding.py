"""Files by the names that they were published under."""

from __future__ import annotations

from collections.abc import Sequence

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


def needed(root: str, layout: str, names: Sequence[str]) -> str:
    found = first(root, names)
    if found is None:
        raise SourceError(
            f"{root}: has none of {', '.join(names)} (nor compressed), which source.format: "
            f"{layout} looks for; see source.root"
        )
    return found
