"""Ingest, last part: what finds songs and users by id and by number, a few of them at a time.

Songs of the catalogue and others are numbered together, as whatever is learned from plays has them:
first those of `songs`, then those of `other_songs`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from functools import partial

import numpy as np
import pyarrow as pa

from fusionrec.hashing import piece_of
from fusionrec.schemas import SONG_NAMES
from pipelines.ingest.song_groups import SongGroup, numbered, song_groups
from pipelines.runtime import tasks
from pipelines.runtime.exchange import gather, scatter
from pipelines.runtime.rows import NAMES_A_PART, rows_name, texts_of, write_index
from pipelines.runtime.shards import Shard, Written
from pipelines.runtime.workspace import StageRun

IDS_A_PIECE = 1 << 19
"""Songs of one file of the index, on average.

Another number would mix with what an unfinished run left: raise the stage's version with it.
"""

STAGING = ("numbered_songs",)

_ARTIFACTS = ("songs", "other_songs")


def write_song_names(run: StageRun, sizes: Sequence[Sequence[int]]) -> None:
    """`song_names`: what all songs are called, by number; and `song_index`: their numbers by id.

    Parameters
    ----------
    sizes
        The rows of each part of `songs`, and of `other_songs`.
    """
    groups = song_groups(_ARTIFACTS, sizes)
    pieces = max(1, -(-sum(map(sum, sizes)) // IDS_A_PIECE))
    tasks.map_tasks(run, partial(_send, run, pieces), groups, description="songs by id")
    each = [Shard(piece) for piece in range(pieces)]
    index = partial(_write_index, run, len(groups))
    tasks.map_tasks(run, index, each, description="index of songs")
    named = parts_of_names(sizes)
    tasks.map_tasks(run, partial(write_names, run), named, description="names of songs")


def parts_of_names(sizes: Sequence[Sequence[int]]) -> list[SongGroup]:
    """For each file of names, the parts that have its songs."""
    parts, firsts = numbered(_ARTIFACTS, sizes)
    named = []
    for number, start in enumerate(range(0, firsts[-1], NAMES_A_PART)):
        begin = bisect_right(firsts, start) - 1
        end = bisect_left(firsts, start + NAMES_A_PART)
        named.append(SongGroup(number, firsts[begin], tuple(parts[begin:end])))
    return named


def write_names(run: StageRun, group: SongGroup) -> Written:
    """Write one file of names."""
    start = group.part * NAMES_A_PART - group.first
    table = group.read(run, SONG_NAMES).slice(start, NAMES_A_PART)
    run.write_arrays(texts_of(table), "song_names", rows_name(group.part))
    return Written(table.num_rows)


def _send(run: StageRun, pieces: int, group: SongGroup) -> Written:
    ids = group.read(run, ["song_id"])["song_id"]
    numbers = np.arange(group.first, group.first + len(ids), dtype=np.int32)
    table = pa.table({"song_id": ids, "number": numbers})
    scatter(run, table, piece_of(ids, pieces), pieces, "numbered_songs", group.part)
    return Written(len(ids))


def _write_index(run: StageRun, groups: int, piece: Shard) -> Written:
    table = pa.concat_tables(gather(run, "numbered_songs", piece.part, range(groups)))
    ids = table["song_id"].to_pylist()
    write_index(run, "song_index", ids, table["number"].to_numpy(), piece=piece.part)
    return Written(len(ids))
