"""Ingest: groups of parts of the catalogue, of which each writes one file for all pieces.

One for each part would be many files of a few songs a piece.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import pyarrow as pa

from pipelines.runtime.shards import Shard
from pipelines.runtime.workspace import StageRun, part_name

SONGS_A_GROUP = 1 << 15
"""Rows of `songs` or `raw_songs` at least; one task reads them all, part by part.

Another number would mix with what an unfinished run left: raise the stage's version with it.
"""


@dataclass(frozen=True)
class SongGroup(Shard):
    """Parts that follow each other.

    Attributes
    ----------
    first
        The number of its first song, where all are counted.
    parts
        The artifact and number of each.
    """

    first: int
    parts: tuple[tuple[str, int], ...]

    def read(self, run: StageRun, columns: Sequence[str]) -> pa.Table:
        """All of its rows."""
        return pa.concat_tables(
            [
                run.workspace.read_part(run.stage, artifact, part_name(part), columns)
                for artifact, part in self.parts
            ]
        )


def song_groups(artifacts: Sequence[str], sizes: Sequence[Sequence[int]]) -> list[SongGroup]:
    """Groups of :data:`SONGS_A_GROUP` songs or little more, of all parts of some artifacts.

    Parameters
    ----------
    sizes
        Of each artifact the rows of its parts, from the first on.
    """
    parts, firsts = numbered(artifacts, sizes)
    groups: list[SongGroup] = []
    begin = 0
    for end in range(1, len(parts) + 1):
        if end == len(parts) or firsts[end] - firsts[begin] >= SONGS_A_GROUP:
            groups.append(SongGroup(len(groups), firsts[begin], tuple(parts[begin:end])))
            begin = end
    return groups


def numbered(
    artifacts: Sequence[str], sizes: Sequence[Sequence[int]]
) -> tuple[list[tuple[str, int]], list[int]]:
    """All parts, and the number of the first song of each, with that of all songs last."""
    parts = [
        (name, part) for name, of in zip(artifacts, sizes, strict=True) for part in range(len(of))
    ]
    return parts, [0, *accumulate(rows for of in sizes for rows in of)]
