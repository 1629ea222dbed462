"""Which results of a workspace no current one needs, and their removal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pyarrow import fs as pafs

from pipelines.runtime import lease
from pipelines.runtime.workspace import KEPT, MANIFEST, Workspace

_SHOWN_BY_LINEAGE = frozenset({"update"})
"""Stages whose current result nothing shows once it was made from one that is not current."""


@dataclass(frozen=True)
class Unneeded:
    """A result that no current result is, or was made from.

    Attributes
    ----------
    finished
        When it was finished, UTC; None if it never was.
    busy
        A run is at work on it.
    """

    stage: str
    key: str
    finished: str | None
    bytes: int
    busy: bool


def needed(workspace: Workspace, *, unfinished: bool = True) -> set[tuple[str, str]]:
    """Stage and key of the current results, and of all that they were made from.

    Parameters
    ----------
    unfinished
        Also what an interrupted run needs to go on; else only what one at work does.
    """
    found: set[tuple[str, str]] = set()
    waiting = [*_shown(workspace), *_of_unfinished(workspace, at_work=not unfinished)]
    while waiting:
        stage, key = waiting.pop()
        if (stage, key) in found:
            continue
        found.add((stage, key))
        manifest = workspace.at({stage: key}).manifest(stage)
        if manifest is not None:
            waiting += [*manifest["lineage"].items(), *((s, k) for s, k in manifest["uses"])]
    return found


def _shown(workspace: Workspace) -> Iterator[tuple[str, str]]:
    """The current results, but for those of other results than the current ones that none shows."""
    current = workspace.current()
    for stage, key in current.items():
        manifest = workspace.manifest(stage) if stage in _SHOWN_BY_LINEAGE else None
        if manifest is None or manifest["lineage"].items() <= current.items():
            yield stage, key


def _of_unfinished(workspace: Workspace, *, at_work: bool) -> Iterator[tuple[str, str]]:
    """What unfinished results need; only those that a run is `at_work` on, if asked."""
    for stage in workspace.stages():
        for key in workspace.results(stage):
            reading = workspace.at({stage: key})
            if reading.exists(stage, MANIFEST):
                continue
            if at_work and lease.living(reading, stage) is None:
                continue
            for info in reading.files(stage, KEPT):
                if not info.base_name.startswith("."):
                    pairs = reading.read_json(stage, KEPT, info.base_name)
                    yield from ((name, other) for name, other in pairs)


def unneeded(workspace: Workspace, *, unfinished: bool = True) -> list[Unneeded]:
    """All results but the needed ones, by stage; see :func:`needed`."""
    keep = needed(workspace, unfinished=unfinished)
    found = []
    for stage in workspace.stages():
        for key in workspace.results(stage):
            if (stage, key) in keep:
                continue
            reading = workspace.at({stage: key})
            manifest = reading.manifest(stage)
            selector = pafs.FileSelector(reading.path(stage), recursive=True)
            size = sum(info.size or 0 for info in workspace.fs.get_file_info(selector))
            finished = manifest["finished"] if manifest else None
            found.append(
                Unneeded(stage, key, finished, size, lease.living(reading, stage) is not None)
            )
    return found


def remove(workspace: Workspace, result: Unneeded, *, unfinished: bool = True) -> bool:
    """Remove a result, its manifest first: what is half removed is no finished result.

    False, and nothing is removed, if a run has finished or needed it since it was listed.
    """
    reading = workspace.at({result.stage: result.key})
    if reading.exists(result.stage, MANIFEST) != (result.finished is not None):
        return False
    if (result.stage, result.key) in needed(workspace, unfinished=unfinished):
        return False
    if result.finished is not None:
        workspace.remove_file(reading.path(result.stage, MANIFEST))
    reading.delete(result.stage)
    return True
