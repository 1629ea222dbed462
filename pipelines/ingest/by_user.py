"""Ingest: plays in parts by user, so that what is asked of some users is read of one part or two.

A part of `users`, `plays` and `other_plays` has the users of :data:`USERS_A_PART` codes, and their
plays by user and song. Where the source says when plays were, `play_times` and `other_play_times`
have the time of each of their rows, in the same parts. The triplets' shards are brought into this
form by two passes of tasks, each of which holds a shard, or the plays of a piece of users.

What is read here is all that the source has. Whatever learns from plays, or is judged by them,
reads them by :mod:`pipelines.known_plays`.
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
from fusionrec.errors import WorkspaceError
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
TIMES = {"plays": "play_times", "other_plays": "other_play_times"}
"""Where the times of their rows are."""

_TIME = schemas.PLAY_TIMES.names[0]


@dataclass(frozen=True)
class Sent:
    """The rows of a shard's tables, the pieces that it has any for, and whether they have times."""

    rows: dict[str, int]
    pieces: list[int]
    timed: bool


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
    """Write `users`, `plays` and `other_plays`, and the times of plays where the source has any.

    Parameters
    ----------
    coded
        The two tables of a shard, by name, schema :data:`fusionrec.schemas.PLAYS`; with a column
        `time` (int64, null where unknown) where the shard's source has times.
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
    timed = any(report.timed for report in sent)
    pieces = [
        Piece(piece, start, stop, tuple(senders[piece]))
        for piece, (start, stop) in enumerate(pairwise(bounds))
    ]
    tasks.map_tasks(
        run,
        resumable(run, "plays_by_user", partial(_collect, run, users, timed), Written),
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
    timed = any(_TIME in table.column_names for table in tables.values())
    return Sent(rows, np.flatnonzero(touched).tolist(), timed)


def _collect(run: StageRun, users: Users, timed: bool, piece: Piece) -> Written:
    columns = [*schemas.PLAYS, *(schemas.PLAY_TIMES if timed else ())]
    none = pa.schema(columns).empty_table()
    written = 0
    for part in range(piece.start, piece.stop):
        start = part * USERS_A_PART
        run.write(ids_of(run, users, start, start + USERS_A_PART), "users", part)
    for name in ARTIFACTS:
        found = gather(run, f"sent_{name}", piece.part, piece.shards)
        # Of several files, some may have no times: null.
        table = pa.concat_tables([none, *found], promote_options="default").combine_chunks()
        user, song = (table[column].to_numpy() for column in ("user", "song"))
        # Stable: plays of one song by one user stay in the order of the files.
        order = np.argsort(user.astype(np.int64) << 32 | song, kind="stable")
        table, user = table.take(pa.array(order)), user[order]
        firsts = np.arange(piece.start, piece.stop + 1) * USERS_A_PART
        bounds = np.searchsorted(user, firsts).tolist()
        for number, (start, stop) in enumerate(pairwise(bounds)):
            rows, part = table.slice(start, stop - start), piece.start + number
            run.write(rows.select(schemas.PLAYS.names), name, part)
            if timed:
                run.write(rows.select(schemas.PLAY_TIMES.names), TIMES[name], part)
        written += table.num_rows
    return Written(written)


def has_times(workspace: Workspace) -> bool:
    """Whether the source says when plays were."""
    return bool(workspace.parts("ingest", TIMES["plays"]))


def timed_plays(workspace: Workspace, artifact: str, name: str) -> pa.Table:
    """A part of `plays` or `other_plays` with the time of each row, columns of both schemas.

    Raises
    ------
    WorkspaceError
        The two are not of the same rows.
    """
    plays = workspace.read_part("ingest", artifact, name)
    times = workspace.read_part("ingest", TIMES[artifact], name)
    if plays.num_rows != times.num_rows:
        raise WorkspaceError(
            f"{workspace.path('ingest', TIMES[artifact], name)}: {times.num_rows} rows for "
            f"{plays.num_rows} of {artifact}: the result is damaged; delete its folder and run "
            "ingest again"
        )
    return plays.append_column(_TIME, times[_TIME])


def plays_of(workspace: Workspace, start: int, stop: int, artifact: str = "plays") -> pa.Table:
    """Plays on the catalogue of the users from `start` to before `stop`, by user and song.

    Those on songs outside of it, if the artifact is `other_plays`.
    """
    filters = [("user", ">=", start), ("user", "<", stop)]
    return pa.concat_tables(
        [
            workspace.read_part("ingest", artifact, name, filters=filters)
            for name in parts_of(start, stop)
        ]
    )


def user_ids_of(workspace: Workspace, start: int, stop: int) -> pa.ChunkedArray:
    """Ids of these users."""
    names = parts_of(start, stop)
    ids = [workspace.read_part("ingest", "users", name)["user_id"] for name in names]
    first = start // USERS_A_PART * USERS_A_PART
    found = pa.chunked_array([chunk for each in ids for chunk in each.chunks], pa.string())
    return found.slice(start - first, stop - start)


def parts_of(start: int, stop: int) -> list[str]:
    """The parts that have these users."""
    first, last = start // USERS_A_PART, (max(stop, start + 1) - 1) // USERS_A_PART
    return [part_name(part) for part in range(first, last + 1)]


def plays_of_users(workspace: Workspace, users: np.ndarray) -> pa.Table:
    """Plays on the catalogue of some users, whose codes ascend; parts without any are not read."""
    found = [schemas.PLAYS.empty_table()]
    for name in user_parts(users):
        table = workspace.read_part("ingest", "plays", name)
        chosen = pc.is_in(table["user"], value_set=pa.array(users, pa.int32()))
        found.append(table.filter(chosen))
    return pa.concat_tables(found)


def user_parts(users: np.ndarray) -> list[str]:
    """The parts that have these users, each once."""
    return [part_name(part) for part in np.unique(users // USERS_A_PART).tolist()]
