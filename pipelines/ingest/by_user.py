"""Ingest: plays in parts by user, so that what is asked of some users is read of one part or two.

A part of `users`, `plays` and `other_plays` has the users of :data:`USERS_A_PART` codes, and their
plays by user and song. The triplets' shards are brought into this form by two passes of tasks, each
of which holds a shard, or the plays of a piece of users.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fusionrec import schemas
from pipelines.ingest.user_codes import Users, ids_of
from pipelines.runtime import tasks
from pipelines.runtime.exchange import gather, scatter
from pipelines.runtime.shards import Shard, Written
from pipelines.runtime.stage import resumable
from pipelines.runtime.workspace import StageRun, Workspace, part_name

USERS_A_PART = 1 << 14
"""Users of a part: some 800,000 plays at 48 a user. Another number is another form of the ingest's
result."""

PLAYS_A_PIECE = 1 << 22
"""Plays that one task puts in order, on average: some 300 MB at most.

Another number would mix with what an unfinished run left: raise the stage's version with it.
"""

ARTIFACTS = ("plays", "other_plays")


@dataclass(frozen=True)
class Sent:
    """The rows of a shard's tables, and the pieces that it has any for."""

    rows: dict[str, int]
    pieces: list[int]


@dataclass(frozen=True)
class Piece(Shard):
    """A range of parts, and the shards that have plays for it."""

    start: int
    stop: int
    shards: tuple[int, ...]


def plays_by_user(
    run: StageRun,
    shards: Sequence[Shard],
    coded: Callable[[Shard], dict[str, pa.Table]],
    users: Users,
    plays: int,
) -> dict[str, int]:
    """Write `users`, `plays` and `other_plays`.

    Parameters
    ----------
    coded
        The two tables of a shard, by name, schema :data:`fusionrec.schemas.PLAYS`.
    plays
        How many there are at most, by which the pieces are made.

    Returns
    -------
    The rows of both.
    """
    parts = -(-len(users) // USERS_A_PART)
    width = max(1, -(-parts // max(1, -(-plays // PLAYS_A_PIECE))))
    count = max(1, -(-parts // width))
    sent = tasks.map_tasks(
        run,
        resumable(run, "sent_plays", partial(_send, run, coded, width * USERS_A_PART, count), Sent),
        shards,
        description="coding plays",
    )
    senders: list[list[int]] = [[] for _ in range(count)]
    for shard, report in zip(shards, sent, strict=True):
        for piece in report.pieces:
            senders[piece].append(shard.part)
    bounds = [min(max(parts, 1), piece * width) for piece in range(count + 1)]
    pieces = [
        Piece(piece, start, stop, tuple(senders[piece]))
        for piece, (start, stop) in enumerate(pairwise(bounds))
    ]
    tasks.map_tasks(
        run,
        resumable(run, "plays_by_user", partial(_collect, run, users), Written),
        pieces,
        description="plays by user",
    )
    return {name: sum(report.rows[name] for report in sent) for name in ARTIFACTS}


def _send(
    run: StageRun,
    coded: Callable[[Shard], dict[str, pa.Table]],
    width: int,
    count: int,
    shard: Shard,
) -> Sent:
    touched = np.zeros(count, bool)
    tables = coded(shard)
    for name, table in tables.items():
        pieces = table["user"].to_numpy() // width
        touched[pieces] = True
        scatter(run, table, pieces, count, f"sent_{name}", shard.part)
    rows = {name: table.num_rows for name, table in tables.items()}
    return Sent(rows, np.flatnonzero(touched).tolist())


def _collect(run: StageRun, users: Users, piece: Piece) -> Written:
    written = 0
    for part in range(piece.start, piece.stop):
        start = part * USERS_A_PART
        run.write(ids_of(run, users, start, start + USERS_A_PART), "users", part)
    for name in ARTIFACTS:
        found = gather(run, f"sent_{name}", piece.part, piece.shards)
        table = pa.concat_tables([schemas.PLAYS.empty_table(), *found]).combine_chunks()
        user, song = (table[column].to_numpy() for column in ("user", "song"))
        # Stable: plays of one song by one user stay in the order of the files.
        order = np.argsort(user.astype(np.int64) << 32 | song, kind="stable")
        table, user = table.take(pa.array(order)), user[order]
        firsts = np.arange(piece.start, piece.stop + 1) * USERS_A_PART
        bounds = np.searchsorted(user, firsts).tolist()
        for number, (start, stop) in enumerate(pairwise(bounds)):
            run.write(table.slice(start, stop - start), name, piece.start + number)
        written += table.num_rows
    return Written(written)


def plays_of(workspace: Workspace, start: int, stop: int, artifact: str = "plays") -> pa.Table:
    """Plays on the catalogue of the users from `start` to before `stop`, by user and song.

    Those on songs outside of it, if the artifact is `other_plays`.
    """
    filters = [("user", ">=", start), ("user", "<", stop)]
    return pa.concat_tables(
        [
            workspace.read_part("ingest", artifact, name, filters=filters)
            for name in _parts_of(start, stop)
        ]
    )


def user_ids_of(workspace: Workspace, start: int, stop: int) -> pa.ChunkedArray:
    """Ids of these users."""
    names = _parts_of(start, stop)
    ids = [workspace.read_part("ingest", "users", name)["user_id"] for name in names]
    first = start // USERS_A_PART * USERS_A_PART
    found = pa.chunked_array([chunk for each in ids for chunk in each.chunks], pa.string())
    return found.slice(start - first, stop - start)


def _parts_of(start: int, stop: int) -> list[str]:
    first, last = start // USERS_A_PART, (max(stop, start + 1) - 1) // USERS_A_PART
    return [part_name(part) for part in range(first, last + 1)]


def plays_of_users(workspace: Workspace, users: np.ndarray) -> pa.Table:
    """Plays on the catalogue of some users, whose codes ascend; parts without any are not read."""
    found = [schemas.PLAYS.empty_table()]
    for part in np.unique(users // USERS_A_PART).tolist():
        table = workspace.read_part("ingest", "plays", part_name(part))
        chosen = pc.is_in(table["user"], value_set=pa.array(users, pa.int32()))
        found.append(table.filter(chosen))
    return pa.concat_tables(found)
