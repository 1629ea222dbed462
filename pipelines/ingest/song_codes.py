"""Ingest: codes of the songs played, without all songs in one place.

Ids fall into pieces by their order: a piece has those between two ids that samples suggest. Its
task joins what every shard of the triplets played with the catalogue, and tells each shard what its
songs are. Songs outside the catalogue are numbered in the order of their ids, piece after piece. So
no code depends on the number of pieces, of shards, or on the samples.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fusionrec.formats.batch import Rejects
from pipelines.ingest.song_groups import SongGroup, song_groups
from pipelines.runtime import tasks
from pipelines.runtime.exchange import gather, scatter
from pipelines.runtime.shards import RowsShard, Shard, Written, shards_of_rows
from pipelines.runtime.stage import resumable
from pipelines.runtime.workspace import StageRun, part_name

IDS_A_PIECE = 1 << 19
"""Ids that one task joins, on average, those of each shard counted: some 200 MB.

Another number would mix with what an unfinished run left: raise the stage's version with it.
"""

SAMPLES = 64
"""Ids that stand for all of a shard or group, evenly spaced in their order.

Another number would mix with what an unfinished run left: raise the stage's version with it.
"""

STAGING = ("sent_played", "sent_songs", "song_codes", "found_others")

PLAYED = pa.schema([("song_id", pa.string()), ("rows", pa.int64())])

_MISMATCHED, _OTHER = -1, -2
"""Codes of a song whose tracks are all mismatched, and of the first other song of a piece: from
there they count down."""


@dataclass(frozen=True)
class Songs:
    """How the codes of the songs played lie.

    Attributes
    ----------
    others
        The code of the first other song of each piece, and the number of all: shape (pieces + 1,).
    """

    others: NDArray[np.int64]

    @property
    def pieces(self) -> int:
        """Into how many pieces the ids fell."""
        return len(self.others) - 1


def samples_of(ids: pa.Array) -> list[str]:
    """Ids that stand for some that are in order."""
    if not len(ids):
        return []
    places = np.unique(np.linspace(0, len(ids) - 1, SAMPLES).astype(np.int64))
    found: list[str] = ids.take(pa.array(places)).to_pylist()
    return found


def code_songs(
    run: StageRun,
    shards: Sequence[Shard],
    played: int,
    samples: Sequence[Sequence[str]],
    sizes: Sequence[int],
    part_size: int,
) -> Songs:
    """Give every id in `raw_played` its code, and write `other_ids` in parts of `part_size`.

    Parameters
    ----------
    played
        How many there are, those of each shard counted.
    samples
        Of each shard's ids.
    sizes
        Songs of each part of the catalogue.
    """
    groups = song_groups(["songs"], [sizes])
    pieces = max(1, -(-(played + sum(sizes)) // IDS_A_PIECE))
    bounds: list[str] = []
    if pieces > 1:
        of_catalogue = tasks.map_tasks(
            run, partial(_sample, run), groups, description="songs by id"
        )
        bounds = bounds_of([*samples, *of_catalogue], pieces)
        pieces = len(bounds) + 1

    def mapped(name: str, function: partial[Written], over: Sequence[Shard]) -> list[Written]:
        work = resumable(run, name, function, Written)
        return tasks.map_tasks(run, work, over, description="songs' codes")

    mapped("sent_played", partial(_send_played, run, bounds), shards)
    mapped("sent_songs", partial(_send_songs, run, bounds), groups)
    each = [Shard(piece) for piece in range(pieces)]
    found = mapped("song_codes", partial(_join, run, len(shards), len(groups)), each)
    others = np.concatenate([[0], np.cumsum([piece.rows for piece in found])]).astype(np.int64)
    songs = Songs(others)
    parts = shards_of_rows(int(others[-1]), part_size) or [RowsShard(0, 0, 0)]
    mapped("other_ids", partial(_write_others, run, songs), parts)
    return songs


def song_codes_of(run: StageRun, songs: Songs, part: int) -> tuple[NDArray[np.int64], ...]:
    """What a shard's songs are, in the order of its `raw_played`: two arrays of shape (songs,).

    The code of each in the catalogue, and among the others; -1 where it is not there, in both for
    a song whose tracks are all mismatched.
    """
    own, others = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for piece, table in enumerate(gather(run, "song_codes", part, range(songs.pieces))):
        code = table["code"].to_numpy().astype(np.int64)
        own.append(np.maximum(code, -1))
        others.append(np.where(code <= _OTHER, songs.others[piece] + _OTHER - code, -1))
    return np.concatenate(own), np.concatenate(others)


def bounds_of(samples: Sequence[Sequence[str]], pieces: int) -> list[str]:
    """Ids at which pieces begin, but for the first."""
    ids = sorted(identity for each in samples for identity in each)
    places = np.arange(1, pieces) * len(ids) // pieces
    return sorted({ids[place] for place in places.tolist()})


def split_by_bounds(ids: pa.Array, bounds: Sequence[str]) -> NDArray[np.int64]:
    """The piece of each of some ids that are in order."""
    rows = range(len(ids))
    starts = [bisect_left(rows, bound, key=lambda row: ids[row].as_py()) for bound in bounds]
    return np.repeat(np.arange(len(bounds) + 1), np.diff([0, *starts, len(ids)]))


def _group_ids(run: StageRun, group: SongGroup) -> tuple[pa.Array, pa.Array]:
    """Ids of a group's songs in their order, and the codes of each."""
    table = group.read(run, ["song_id"])
    ids = table["song_id"].combine_chunks()
    order = pc.sort_indices(ids)
    return ids.take(order), pc.add(order.cast(pa.int64()), group.first).cast(pa.int32())


def _sample(run: StageRun, group: SongGroup) -> list[str]:
    return samples_of(_group_ids(run, group)[0])


def _send_played(run: StageRun, bounds: Sequence[str], shard: Shard) -> Written:
    table = run.workspace.read_part(run.stage, "raw_played", part_name(shard.part))
    pieces = split_by_bounds(table["song_id"].combine_chunks(), bounds)
    scatter(run, table, pieces, len(bounds) + 1, "sent_played", shard.part)
    return Written(table.num_rows)


def _send_songs(run: StageRun, bounds: Sequence[str], group: SongGroup) -> Written:
    ids, codes = _group_ids(run, group)
    table = pa.table({"song_id": ids, "code": codes})
    scatter(run, table, split_by_bounds(ids, bounds), len(bounds) + 1, "sent_songs", group.part)
    return Written(table.num_rows)


def _join(run: StageRun, shards: int, groups: int, piece: Shard) -> Written:
    """Tell each shard what its songs are, and write the other songs, in the order of their ids."""
    catalogue = pa.concat_tables(gather(run, "sent_songs", piece.part, range(groups)))
    catalogue = catalogue.combine_chunks()
    sent = gather(run, "sent_played", piece.part, range(shards))
    played = pa.concat_tables([PLAYED.empty_table(), *sent]).combine_chunks()
    ids = played["song_id"].combine_chunks()
    value_set = catalogue["song_id"].combine_chunks()
    places = pc.index_in(ids, value_set=value_set)
    codes = pc.fill_null(catalogue["code"].take(places), _MISMATCHED).to_numpy().copy()
    lost = run.workspace.read(run.stage, "mismatched")["song_id"].combine_chunks()
    strange = pc.invert(pc.or_(pc.is_valid(places), pc.is_in(ids, value_set=lost)))
    others = ids.filter(strange).dictionary_encode()
    order = pc.sort_indices(others.dictionary).to_numpy()
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    rows = np.zeros(len(order), np.int64)
    at = others.indices.to_numpy()
    np.add.at(rows, at, played["rows"].filter(strange).to_numpy())
    codes[strange.to_numpy(zero_copy_only=False)] = _OTHER - rank[at]
    shard = np.repeat(np.arange(shards), [table.num_rows for table in sent])
    scatter(run, pa.table({"code": codes}), shard, shards, "song_codes", piece.part)
    found = pa.table({"song_id": others.dictionary.take(pa.array(order)), "rows": rows[order]})
    run.write(found, "found_others", piece.part)
    return Written(len(order))


def slice_of_pieces(
    run: StageRun, artifact: str, firsts: NDArray[np.int64], shard: RowsShard
) -> pa.Table:
    """Rows of an artifact that has a part a piece, from `shard.start` to before `shard.stop`.

    Parameters
    ----------
    firsts
        The number of the first row of each piece, and that of all rows: shape (pieces + 1,).
    """
    found = []
    for piece, (first, last) in enumerate(pairwise(firsts.tolist())):
        if first < shard.stop and last > shard.start:
            table = run.workspace.read_part(run.stage, artifact, part_name(piece))
            begin = max(0, shard.start - first)
            found.append(table.slice(begin, min(shard.stop, last) - first - begin))
    if not found:
        return run.workspace.read_part(run.stage, artifact, part_name(0)).slice(0, 0)
    return pa.concat_tables(found)


def _write_others(run: StageRun, songs: Songs, shard: RowsShard) -> Written:
    """Ids of some of the other songs; each is listed among what matches nothing."""
    table = slice_of_pieces(run, "found_others", songs.others, shard)
    run.write(table.select(["song_id"]), "other_ids", shard.part)
    rejects = Rejects()
    for song, rows in zip(*(table[name].to_pylist() for name in table.column_names), strict=True):
        rejects.add("plays", song, "song id not in the corpus", f"{rows} rows", "unmatched")
    run.write(rejects.to_table(), "play_unmatched", shard.part)
    return Written(table.num_rows)
