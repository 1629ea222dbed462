"""What the options of `fusionrec init` name: files below one folder, and columns."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fusionrec.errors import ConfigError
from fusionrec.formats import files

_FEATURES = re.compile(r"(?P<name>[^=]+)=(?P<path>.+?\.npy|.+)(?::(?P<ids>.+))?", re.IGNORECASE)
_COLUMN = re.compile(r"(?P<kind>songs|plays|lyrics|features)\.(?P<wanted>\w+)=(?P<name>.+)")
_MAGIC = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Named:
    """A table's files, and of vectors in an array the file of their ids."""

    path: str
    ids: str | None = None


def features_of(options: Iterable[str]) -> dict[str, Named]:
    """Vectors by the name of their modality, from ``NAME=PATH`` and ``NAME=PATH.npy:IDS``.

    Raises
    ------
    ConfigError
        An option is written otherwise, or a name is there twice.
    """
    found: dict[str, Named] = {}
    for option in options:
        parts = _FEATURES.fullmatch(option)
        if parts is None:
            raise ConfigError(
                f"--features {option!r}: write it as NAME=PATH, or NAME=PATH.npy:IDS, as in "
                "clap=clap.npy:clap_ids.txt"
            )
        if parts["name"] in found:
            raise ConfigError(f"--features {parts['name']}: is there twice; give each its own name")
        found[parts["name"]] = Named(parts["path"], parts["ids"])
    return found


def columns_of(options: Iterable[str]) -> dict[str, dict[str, str]]:
    """The files' names of columns by kind of table, from ``plays.user_id=uid``.

    Raises
    ------
    ConfigError
        An option is written otherwise.
    """
    found: dict[str, dict[str, str]] = {}
    for option in options:
        parts = _COLUMN.fullmatch(option)
        if parts is None:
            raise ConfigError(
                f"--column {option!r}: write it as TABLE.COLUMN=NAME, as in plays.user_id=uid; "
                "tables are songs, plays, lyrics and features"
            )
        found.setdefault(parts["kind"], {})[parts["wanted"]] = parts["name"]
    return found


def below(root: str | None, named: Mapping[str, Named]) -> tuple[str, dict[str, Named]]:
    """The folder that all lie in, absolute, and the tables with their paths below it.

    Parameters
    ----------
    root
        The folder, where it was named; else it is the innermost one that has all of them, or none,
        if there are URIs among them.
    """
    if root is not None:
        return absolute(root), dict(named)
    paths = [path for table in named.values() for path in (table.path, table.ids) if path]
    if any(map(files.is_uri, paths)):
        return "", {
            key: Named(absolute(table.path), absolute(table.ids) if table.ids else None)
            for key, table in named.items()
        }
    folder = os.path.commonpath([os.path.dirname(_plain(absolute(path))) for path in paths])

    def relative(path: str) -> str:
        return os.path.relpath(absolute(path), folder)

    return folder, {
        key: Named(relative(table.path), relative(table.ids) if table.ids else None)
        for key, table in named.items()
    }


def absolute(path: str) -> str:
    """A path that means the same wherever a command is started."""
    return path if files.is_uri(path) else os.path.abspath(os.path.expanduser(path))


def _plain(path: str) -> str:
    """A path up to where it becomes a pattern."""
    parts: Sequence[str] = path.split(os.sep)
    pattern = next((i for i, part in enumerate(parts) if _MAGIC.search(part)), None)
    whole = pattern is None or os.path.exists(path)
    return path if whole else os.sep.join([*parts[:pattern], "*"])
