"""Ingest: codes of users in the order in which they first appear, without all ids in one place.

Ids fall into pieces by a hash. A task of a piece finds in which shard each id appears first; a
task of a shard numbers those that do so there; and the piece tells every shard the codes. Codes run
along the files, as if one task had read them all, whatever the number of pieces and shards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fusionrec import schemas
from fusionrec.hashing import piece_of
from pipelines.runtime import tasks
from pipelines.runtime.exchange import first_of, gather, scatter
from pipelines.runtime.rows import write_index
from pipelines.runtime.shards import Shard, Written
from pipelines.runtime.stage import resumable
from pipelines.runtime.workspace import StageRun, part_name

IDS_A_PIECE = 1 << 19
"""Ids that one task tells apart, on average, those of each shard counted: some 200 MB.

Another number would mix with what an unfinished run left: raise the stage's version with it.
"""

STAGING = ("sent_users", "first_users", "user_ranks", "user_codes", "new_users")


@dataclass(frozen=True)
class Users:
    """How the users' codes lie.

    Attributes
    ----------
    pieces
        Into how many pieces their ids fell.
    firsts
        The code of the first user of each shard, and the number of all: shape (shards + 1,).
    """

    pieces: int
    firsts: NDArray[np.int64]

    def __len__(self) -> int:
        return int(self.firsts[-1])

    @property
    def shards(self) -> range:
        """Parts of `raw_users`."""
        return range(len(self.firsts) - 1)


def code_users(run: StageRun, shards: Sequence[Shard], ids: int) -> Users:
    """Give every id in `raw_users` its code, and write `user_index`.

    Parameters
    ----------
    ids
        How many there are, those of each shard counted.
    """
    pieces = max(1, -(-ids // IDS_A_PIECE))
    each = [Shard(piece) for piece in range(pieces)]

    def mapped(name: str, function: partial[Written], over: Sequence[Shard]) -> list[Written]:
        work = resumable(run, name, function, Written)
        return tasks.map_tasks(run, work, over, description="users' codes")

    mapped("sent_users", partial(_send, run, pieces), shards)
    mapped("first_users", partial(_find_first, run, len(shards)), each)
    new = mapped("user_ranks", partial(_number, run, pieces), shards)
    firsts = np.concatenate([[0], np.cumsum([found.rows for found in new])]).astype(np.int64)
    users = Users(pieces, firsts)
    mapped("user_codes", partial(_tell, run, users), each)
    return users


def codes_of(run: StageRun, users: Users, part: int) -> pa.Array:
    """Codes of a shard's users, int32, in the order of its `raw_users`."""
    pieces = piece_of(_ids(run, part), users.pieces)
    told = _from_pieces(run, "user_codes", users.pieces, part)
    codes = np.empty(len(pieces), np.int32)
    codes[np.argsort(pieces, kind="stable")] = told["code"].to_numpy()
    return pa.array(codes)


def ids_of(run: StageRun, users: Users, start: int, stop: int) -> pa.Table:
    """Ids of the users whose codes are from `start` to before `stop`, of the shards they are in."""
    found = [schemas.USERS.empty_table()]
    for part, (first, last) in enumerate(pairwise(users.firsts.tolist())):
        if first < stop and last > start:
            table = run.workspace.read_part(run.stage, "new_users", part_name(part))
            begin = max(0, start - first)
            found.append(table.slice(begin, min(stop, last) - first - begin))
    return pa.concat_tables(found)


def _ids(run: StageRun, part: int) -> pa.ChunkedArray:
    table = run.workspace.read_part(run.stage, "raw_users", part_name(part), ["user_id"])
    return table["user_id"]


def _from_pieces(run: StageRun, artifact: str, pieces: int, place: int) -> pa.Table:
    return pa.concat_tables(gather(run, artifact, place, range(pieces))).combine_chunks()


def _send(run: StageRun, pieces: int, shard: Shard) -> Written:
    ids = _ids(run, shard.part)
    table = pa.table({"user_id": ids})
    scatter(run, table, piece_of(ids, pieces), pieces, "sent_users", shard.part)
    return Written(table.num_rows)


def _distinct(
    run: StageRun, piece: int, shards: int
) -> tuple[pa.Array, NDArray[np.int32], NDArray[np.int64]]:
    """A piece's ids, each once, by first appearance; each row's place among them, and its shard."""
    sent = gather(run, "sent_users", piece, range(shards))
    chunks = [chunk for table in sent for chunk in table["user_id"].chunks]
    ids = pa.chunked_array(chunks, pa.string())
    found = ids.combine_chunks().dictionary_encode()
    shard = np.repeat(np.arange(len(sent)), [table.num_rows for table in sent])
    return found.dictionary, found.indices.to_numpy(), shard


def _find_first(run: StageRun, shards: int, piece: Shard) -> Written:
    ids, places, shard = _distinct(run, piece.part, shards)
    table = pa.table({"first": first_of(places)})
    scatter(run, table, shard, shards, "first_users", piece.part)
    return Written(len(ids))


def _number(run: StageRun, pieces: int, shard: Shard) -> Written:
    """Number the users that appear first in this shard, in its order."""
    ids = _ids(run, shard.part)
    place = piece_of(ids, pieces)
    order = np.argsort(place, kind="stable")
    told = _from_pieces(run, "first_users", pieces, shard.part)["first"]
    first = np.zeros(len(ids), bool)
    first[order] = told.to_numpy(zero_copy_only=False)
    rank = np.cumsum(first) - 1
    kept = order[first[order]]
    ranks = pa.table({"rank": rank[kept].astype(np.int32)})
    scatter(run, ranks, place[kept], pieces, "user_ranks", shard.part)
    new = pa.table({"user_id": ids.filter(pa.array(first))}, schema=schemas.USERS)
    run.write(new, "new_users", shard.part)
    return Written(int(first.sum()))


def _tell(run: StageRun, users: Users, piece: Shard) -> Written:
    """Tell each shard the codes of its users, and write the index of this piece."""
    ids, places, shard = _distinct(run, piece.part, len(users.shards))
    ranks = gather(run, "user_ranks", piece.part, users.shards)
    rank = pa.chunked_array(
        [chunk for table in ranks for chunk in table["rank"].chunks], pa.int32()
    ).to_numpy()
    codes = (users.firsts[shard[first_of(places)]] + rank).astype(np.int32)
    table = pa.table({"code": codes[places]})
    scatter(run, table, shard, len(users.shards), "user_codes", piece.part)
    write_index(run, "user_index", ids.to_pylist(), codes, piece=piece.part)
    return Written(len(ids))
