"""What travels between the driver and the workers: shards, and reports of what became of them.

Both are small frozen dataclasses; each stage has its own beside the function that takes them.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.runtime.workspace import Workspace, part_number


@dataclass(frozen=True)
class Shard:
    """A share of a stage's work; `part` is its number, and that of the parts it writes."""

    part: int


@dataclass(frozen=True)
class RowsShard(Shard):
    """A shard of the rows from `start` to before `stop`."""

    start: int
    stop: int


@dataclass(frozen=True)
class Written:
    """The report of a shard that has nothing to say but how many rows it wrote."""

    rows: int


def shards_of(workspace: Workspace, stage: str, artifact: str) -> list[Shard]:
    """A shard for each part of an artifact."""
    return [Shard(part_number(name)) for name in workspace.parts(stage, artifact)]


def shards_of_rows(rows: int, size: int) -> list[RowsShard]:
    """Shards of at most `size` of these rows."""
    return [
        RowsShard(part, start, min(rows, start + size))
        for part, start in enumerate(range(0, rows, size))
    ]
