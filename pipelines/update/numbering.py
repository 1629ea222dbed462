"""Who and what of the new files the run knows, and the numbers of who and what is new.

Songs and users of the run keep their numbers; new ones follow them, songs in the order of their
files, users in that of their plays. A song that the run knew by its plays alone and that is
described now is a new song, and its plays of before are plays of it (`adopted`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fusionrec import schemas
from fusionrec.formats.batch import Rejects
from pipelines.ingest.sources import LINE, Origin
from pipelines.runtime import tasks
from pipelines.runtime.exchange import scatter
from pipelines.runtime.rows import (
    NAMES_A_PART,
    find,
    read_arrays,
    rows_name,
    texts_of,
    write_index,
)
from pipelines.runtime.shards import Shard, shards_of
from pipelines.runtime.stage import resumable
from pipelines.runtime.workspace import StageRun, Workspace, part_name
from pipelines.update.reading import Read

SONGS, USERS = "songs_added", "users_added"
"""New songs, schema :data:`fusionrec.schemas.SONGS`, in parts; and new users, in one."""

SONG_INDEX, SONG_NAMES, USER_INDEX = "song_index", "song_names", "index_of_users_added"
"""What finds new songs by id and by number, both counted from 0, and new users."""

SONG_REJECTS, PLAY_REJECTS = "songs_of_the_run", "plays_of_other_songs"
REJECTS = (SONG_REJECTS, PLAY_REJECTS)
SENT, ADOPTERS = "sent_new_plays", "sent_adopters"
STAGING = (SENT, ADOPTERS, "numbers", "adopted")

_KNOWN = "song of the last run"
_ARRAYS = "arrays.safetensors"


@dataclass(frozen=True)
class Numbers:
    """How songs and users are numbered.

    Attributes
    ----------
    songs, added
        Those of the run, and new ones, whose numbers follow.
    known
        Songs of new files that the run has.
    adopted
        New songs that the run knew by their plays.
    users, added_users
        Those of the run, and new ones.
    """

    songs: int
    added: int
    known: int
    adopted: int
    users: int
    added_users: int

    @property
    def all_songs(self) -> int:
        """Old and new."""
        return self.songs + self.added

    @property
    def all_users(self) -> int:
        """Old and new."""
        return self.users + self.added_users


@dataclass(frozen=True)
class _Songs:
    added: int
    known: int
    adopted: int


@dataclass(frozen=True)
class _Users:
    added: int


def number(workspace: Workspace, run: StageRun, read: Read) -> Numbers:
    """Number what was read, and write `songs_added` and `users_added` with what finds them."""
    counts = workspace.require("ingest")["counts"]
    each = partial(_number_songs, workspace, run, counts["songs"], read.origins)
    of_songs = resumable(run, "number_songs", each, _Songs)
    songs = tasks.run_task(run, of_songs, Shard(0))
    users = _Users(0)
    if read.plays:
        count = partial(_number_users, workspace, run, counts["users"], counts["songs"])
        users = tasks.run_task(run, resumable(run, "number_users", count, _Users), Shard(0))
    return Numbers(
        counts["songs"], songs.added, songs.known, songs.adopted, counts["users"], users.added
    )


def _number_songs(
    workspace: Workspace, run: StageRun, count: int, origins: Sequence[Origin] | None, _: Shard
) -> _Songs:
    """Of each song that was read its number, as the songs of the run have theirs."""
    numbers, adopted, added, named = [np.zeros(0, np.int64)], [], 0, []
    rejects = Rejects()
    for shard in shards_of(run.workspace, run.stage, "songs"):
        table = run.workspace.read_part(run.stage, "songs", part_name(shard.part))
        ids = table["song_id"].to_pylist()
        found = find(workspace, "ingest", "song_index", ids)
        known = (found >= 0) & (found < count)
        if origins is not None and known.any():
            again = table["song_id"].filter(pa.array(known))
            _list_known(run, again, shard.part, origins[shard.part], rejects)
        new = np.flatnonzero(~known)
        codes = found.copy()
        codes[new] = count + added + np.arange(len(new))
        numbers.append(codes)
        was_other = new[found[new] >= count]
        adopted.append(np.stack([found[was_other] - count, codes[was_other]], axis=1))
        rows = table.take(pa.array(new))
        run.write(rows, SONGS, shard.part)
        named.append(rows.select(schemas.SONG_NAMES))
        added += len(new)
    run.write(rejects.to_table(), SONG_REJECTS)
    names = pa.concat_tables([schemas.SONGS.empty_table().select(schemas.SONG_NAMES), *named])
    write_index(run, SONG_INDEX, names["song_id"].to_pylist())
    for part, start in enumerate(range(0, len(names), NAMES_A_PART)):
        some = names.slice(start, NAMES_A_PART)
        run.write_arrays(texts_of(some), SONG_NAMES, rows_name(part))
    every = np.concatenate(numbers)
    pairs = np.concatenate([np.zeros((0, 2), np.int64), *adopted])
    pairs = pairs[np.argsort(pairs[:, 0])].astype(np.int32)
    run.write_arrays({"songs": every.astype(np.int32)}, "numbers", "songs.safetensors")
    other, song = (np.ascontiguousarray(column) for column in pairs.T)
    run.write_arrays({"other": other, "song": song}, "adopted", _ARRAYS)
    return _Songs(added, len(every) - added, len(pairs))


def _list_known(
    run: StageRun, ids: pa.ChunkedArray, part: int, origin: Origin, rejects: Rejects
) -> None:
    """List songs that the run has by file and row, with the id in the detail."""
    raw = run.workspace.read_part(run.stage, "raw_songs", part_name(part), ["song_id", LINE])
    first = pc.index_in(ids, value_set=raw["song_id"].combine_chunks())  # the row that is kept
    for song, line in zip(ids.to_pylist(), raw[LINE].take(first).to_pylist(), strict=True):
        rejects.add(origin.source, str(origin.number(line)), _KNOWN, song, "excluded")


def _number_users(workspace: Workspace, run: StageRun, count: int, songs: int, _: Shard) -> _Users:
    """Of each user that was read their number; and of each song that no new file describes."""
    ids = run.workspace.read(run.stage, "users")["user_id"]
    codes = find(workspace, "ingest", "user_index", ids.to_pylist())
    new = np.flatnonzero(codes < 0)
    codes[new] = count + np.arange(len(new))
    added = pa.table([ids.take(pa.array(new))], schema=schemas.USERS)
    run.write(added, USERS)
    write_index(run, USER_INDEX, added["user_id"].to_pylist())
    others = run.workspace.read(run.stage, "found_others")
    names = others["song_id"].to_pylist()
    found = find(workspace, "ingest", "song_index", names)
    rejects = Rejects()
    for row in np.flatnonzero((found < 0) | (found >= songs)).tolist():
        detail = f"{others['rows'][row]} rows"
        rejects.add("plays", names[row], "song id not in the corpus", detail, "unmatched")
    run.write(rejects.to_table(), PLAY_REJECTS)
    run.write_arrays({"users": codes.astype(np.int32)}, "numbers", "users.safetensors")
    run.write_arrays({"others": found.astype(np.int32)}, "numbers", "others.safetensors")
    return _Users(len(new))


# --- plays, by the shards of the lists ------------------------------------------------------


@dataclass(frozen=True)
class Sent:
    """New plays of a part: of songs, of songs that the run knows by plays alone, and of neither."""

    plays: int
    other: int
    unknown: int


def send_plays(
    workspace: Workspace, run: StageRun, numbers: Numbers, width: int, shards: int
) -> list[Sent]:
    """Send new plays to the shards of `width` users that their users are in.

    Also who played songs, before, that are described now.
    """
    parts = shards_of(run.workspace, run.stage, "plays")
    work = resumable(run, SENT, partial(_send, run, numbers, width, shards), Sent)
    found = tasks.map_tasks(run, work, parts, description="new plays")
    if numbers.adopted:
        each = shards_of(workspace, "ingest", "other_plays")
        tell = partial(_send_adopters, workspace, run, width, shards)
        tasks.map_tasks(run, resumable(run, ADOPTERS, tell, _Users), each, description="old plays")
    return found


def _send(run: StageRun, numbers: Numbers, width: int, count: int, shard: Shard) -> Sent:
    name, users = part_name(shard.part), _array(run, "users")
    tables, rows = [], []
    for artifact, kind in (("plays", "songs"), ("other_plays", "others")):
        table = run.workspace.read_part(run.stage, artifact, name)
        user, song, plays = (table[column].to_numpy() for column in schemas.PLAYS.names)
        code = _array(run, kind)[song]
        # Among all songs of the run, those that it knew by plays alone stand behind the others.
        other = (code >= numbers.songs) & (kind == "others")
        code = np.where(other, code - numbers.songs, code)
        kept = code >= 0
        columns = {"user": users[user].astype(np.int32), "song": code.astype(np.int32)}
        found = pa.table({**columns, "plays": plays, "other": other}).filter(pa.array(kept))
        tables.append(found)
        rows.append((int((kept & ~other).sum()), int((kept & other).sum()), int((~kept).sum())))
    both = pa.concat_tables(tables)
    scatter(run, both, both["user"].to_numpy() // width, count, SENT, shard.part)
    return Sent(*(sum(each) for each in zip(*rows, strict=True)))


def _array(run: StageRun, kind: str) -> np.ndarray:
    return read_arrays(run.workspace, run.stage, "numbers", f"{kind}.safetensors")[kind]


def adopted_songs(run: StageRun) -> tuple[np.ndarray, np.ndarray]:
    """Songs that the run knew by plays alone, ascending, and the number that each has now."""
    found = read_arrays(run.workspace, run.stage, "adopted", _ARRAYS)
    return found["other"], found["song"]


def _send_adopters(
    workspace: Workspace, run: StageRun, width: int, count: int, shard: Shard
) -> _Users:
    plays = workspace.read_part("ingest", "other_plays", part_name(shard.part), ["user", "song"])
    others, _ = adopted_songs(run)
    users = np.unique(plays["user"].to_numpy()[np.isin(plays["song"].to_numpy(), others)])
    table = pa.table({"user": users.astype(np.int32)})
    scatter(run, table, users // width, count, ADOPTERS, shard.part)
    return _Users(len(users))
