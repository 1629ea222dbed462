"""Lists of users who have no new plays: the old ones, and the best of the new songs among them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fusionrec.ranking.limited import TopLists, rank_limited
from fusionrec.ranking.merging import merged, merged_limited, padded
from fusionrec.ranking.packing import PackedSongs
from fusionrec.ranking.protocols import SongLists
from fusionrec.ranking.topk import rank_users
from pipelines.config import Config
from pipelines.lists.candidates import Offered
from pipelines.lists.stage import VECTORS as USER_VECTORS
from pipelines.recommend.ranking import StoredSongs
from pipelines.runtime.rows import read_arrays, rows_name
from pipelines.runtime.shards import RowsShard
from pipelines.runtime.workspace import Workspace, part_name
from pipelines.update.numbering import Numbers


@dataclass(frozen=True)
class OldLists:
    """Users of a shard as the run left them.

    Attributes
    ----------
    ids, songs
        Arrow strings: users' ids, and those of the songs on all their lists.
    lists
        By the places of the songs.
    own
        Who has a vector of their own, bool (users,).
    V
        What they were ranked by, float32 (users, d).
    """

    ids: pa.Array
    songs: pa.Array
    lists: TopLists
    own: NDArray[np.bool_]
    V: NDArray[np.float32]

    @staticmethod
    def read(workspace: Workspace, numbers: Numbers, shard: RowsShard, top: int) -> OldLists | None:
        """None of a shard of new users alone."""
        if shard.start >= numbers.users:
            return None
        table = workspace.read_part("lists", "lists", part_name(shard.part)).combine_chunks()
        columns = {name: table[name].combine_chunks() for name in table.column_names}
        sizes = pc.list_value_length(columns["song_ids"]).to_numpy()
        return OldLists(
            columns["user_id"],
            columns["song_ids"].flatten(),
            padded(sizes, columns["scores"].flatten().to_numpy(), top),
            ~columns["fallback"].to_numpy(zero_copy_only=False),
            read_arrays(workspace, "lists", USER_VECTORS, rows_name(shard.part))["rows"],
        )


def with_new_songs(
    config: Config,
    old: OldLists,
    kept: NDArray[np.bool_],
    offered: Offered,
    songs: StoredSongs,
    numbers: Numbers,
) -> TopLists:
    """Old lists with the best of the new songs, of some users, none of whom played one."""
    top, most = config.lists.top, config.lists.per_artist
    lists = TopLists(old.lists.indices[kept], old.lists.scores[kept], old.lists.counts[kept])
    first = int(np.searchsorted(offered.candidates, numbers.songs))
    new = offered.candidates[first:]
    if not len(new) or not kept.any():
        return lists
    V, F = old.V[kept], PackedSongs.of(songs.rows(new))
    if most is None:
        best = TopLists.of(rank_users(V, F, min(top, len(new))))
        return merged(lists, moved(best, first + len(old.songs)), top)
    nothing = SongLists(
        np.zeros(len(V) + 1, np.int64), np.empty(0, np.int32), np.empty(0, np.int64)
    )
    best = rank_limited(
        lambda some, depth: rank_users(V[some], F, depth),
        nothing,
        top,
        groups=offered.artists[first:],
        most=most,
    )
    names = offered.catalogue.song_ids.take(pa.array(offered.candidates))
    listed = pc.index_in(old.songs, value_set=names).to_numpy()
    groups = np.concatenate([offered.artists[listed], offered.artists])
    return merged_limited(lists, moved(best, first + len(old.songs)), top, groups, most)


def moved(lists: TopLists, by: int) -> TopLists:
    """Lists of columns that stand behind so many others."""
    indices = np.where(lists.indices < 0, -1, lists.indices + by).astype(np.int32)
    return TopLists(indices, lists.scores, lists.counts)
