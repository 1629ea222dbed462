"""Which results of a workspace no current one needs, and their removal."""

from __future__ import annotations

from dataclasses import dataclass

from pyarrow import fs as pafs

from pipelines.runtime import lease
from pipelines.runtime.workspace import Workspace


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


def needed(workspace: Workspace) -> set[tuple[str, str]]:
    """Stage and key of the current results, and of all that these and unfinished ones need."""
    found: set[tuple[str, str]] = set()
    waiting = list(workspace.current().items())
    for stage in workspace.stages():
        for key in workspace.results(stage):
            reading = workspace.at({stage: key})
            if reading.manifest(stage) is None:
                waiting += reading.made_from(stage)
    while waiting:
        stage, key = waiting.pop()
        if (stage, key) in found:
            continue
        found.add((stage, key))
        waiting += workspace.at({stage: key}).made_from(stage)
    return found


def unneeded(workspace: Workspace) -> list[Unneeded]:
    """All results but the needed ones, by stage."""
    keep = needed(workspace)
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


def remove(workspace: Workspace, result: Unneeded) -> None:
    """Remove a result, its manifest first: what is half removed is no finished result."""
    reading = workspace.at({result.stage: result.key})
    if result.finished is not None:
        workspace.remove_file(reading.path(result.stage, "manifest.json"))
    reading.delete(result.stage)
