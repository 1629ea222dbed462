"""What differs between two results of a stage, for people."""

from __future__ import annotations

import time
from typing import Any


def of_contents(there: dict[str, Any], here: dict[str, Any]) -> list[str]:
    """What differs between what two results depend on, `content` in their manifests."""
    old, new = _flat(there["settings"]), _flat(here["settings"])
    found = [
        f"{name}: {old.get(name)} there, {new.get(name)} here"
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    ]
    found += [
        f"of another result of {name}"
        for name in sorted({*there["inputs"], *here["inputs"]})
        if there["inputs"].get(name) != here["inputs"].get(name)
    ]
    if there["version"] != here["version"]:
        found.append("computed by another version of fusionrec")
    return found + of_sources(there.get("source"), here.get("source"))


def of_sources(there: Any, here: Any) -> list[str]:
    """Which outside files differ, and in what.

    Parameters
    ----------
    there, here
        Two states of a stage's outside inputs: rows of a file's path, size and time or of a
        tree's path, number of files and hash; or hashes by name. None where it is not known.
    """
    if there == here:
        return []
    old, new = _by_name(there), _by_name(here)
    if not old or not new:
        return ["of another state of its source"]
    return [
        f"{name}: {_state(old.get(name))} there, {_state(new.get(name))} here"
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    ]


def _by_name(source: Any) -> dict[str, list[Any]]:
    if isinstance(source, dict):
        return {name: [state] for name, state in source.items()}
    return {row[0]: row[1:] for row in source or ()}


def _state(state: list[Any] | None) -> str:
    match state:
        case None:
            return "not read"
        case [int(size), int(nanoseconds)]:
            when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(nanoseconds // 10**9))
            return f"{size:,} bytes of {when}.{nanoseconds % 10**9:09d}"
        case [int(files), str(digest)]:
            return f"{files:,} files with the hash {digest[:8]}"
        case _:
            return f"the hash {str(state[-1])[:8]}"


def _flat(tree: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {name: tree}
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= _flat(value, f"{name}.{key}" if name else key)
    return found
