"""A workspace of as many users as asked for, as the stages write it, without a file to read.

Everything is made up from numbers: what a user played follows from the user's own, so that every
artifact can be written part by part, in tasks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from blend import layout
from ids_scale import ids

from fusionrec import schemas
from fusionrec.hashing import mix, piece_of
from fusionrec.signals.blend import WIDTH
from fusionrec.signals.registry import SIGNALS
from fusionrec.tables import vectors
from pipelines.blend.vectors import ROTATION, USERS_A_GROUP
from pipelines.blend.vectors import USERS_A_PART as USERS_OF_BLEND_A_PART
from pipelines.ingest import lookup
from pipelines.ingest.by_user import USERS_A_PART
from pipelines.ingest.user_codes import IDS_A_PIECE
from pipelines.runtime import tasks
from pipelines.runtime.rows import ROWS_A_PART, rows_name, write_index
from pipelines.runtime.shards import RowsShard, Shard, Written, shards_of_rows
from pipelines.runtime.workspace import StageRun, Workspace, part_name

PLAYED = 48
"""Songs a user, on average, as in the Taste Profile."""

MOST_PLAYED = 4_000
SONGS_A_PART = 20_000
SONGS_AN_ARTIST = 10
_SONGS, _ARTISTS, _USERS, _DRAWN = (np.uint64(n << 40) for n in (1, 2, 3, 4))


def user_ids(start: int, stop: int) -> list[str]:
    """Ids of a range of users, 40 characters as the Taste Profile's."""
    return ids(np.arange(start, stop), "0" * 24, int(_USERS))


def played(start: int, stop: int, songs: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What users of a range played: users, songs and plays, by user and song; one in 48 nothing.

    The first songs are played most, by far.
    """
    users = np.arange(start, stop)
    sizes = np.log(_uniform(users, 0)) / np.log1p(-1 / PLAYED)
    sizes = np.minimum(sizes, MOST_PLAYED).astype(np.int64)
    user = np.repeat(users, sizes)
    nth = np.arange(len(user)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    song = (songs * _uniform(user, 1 + nth) ** 3).astype(np.int64)
    keys = np.unique(user << 32 | song)
    user, song = keys >> 32, keys & 0xFFFFFFFF
    plays = 1 + (np.log(_uniform(user, song + MOST_PLAYED)) / np.log(0.65)).astype(np.int64)
    return tuple(each.astype(np.int32) for each in (user, song, plays))


def _uniform(users: np.ndarray, nth: np.ndarray | int) -> np.ndarray:
    """The nth number of each user, above 0 and below 1."""
    of_user = mix(users.astype(np.uint64) + _DRAWN)
    return ((mix(of_user + np.asarray(nth, np.uint64)) >> np.uint64(12)) + 0.5) * 2.0**-52


def write(place: str, users: int, songs: int, rank: int) -> Workspace:
    """All that `lists` reads under `recommend.model=blend`, and what finds a user's list.

    Parameters
    ----------
    place
        A new folder. Ray has been started.
    rank
        Dimensions that are ranked by.
    """
    workspace = Workspace(place)
    parts = shards_of_rows(songs, SONGS_A_PART)
    by_user = shards_of_rows(users, USERS_A_PART)
    with _begun(workspace, "ingest", {}) as (run, counts):
        tasks.map_tasks(run, partial(_write_songs, run), parts, description="songs")
        lookup.write_song_names(run, ([part.stop - part.start for part in parts], ()))
        none = run.workspace.read_part("ingest", "songs", part_name(0)).slice(0, 0)
        run.write(none, "other_songs", 0)
        for artifact in lookup.STAGING:
            workspace.at({"ingest": run.key}).delete("ingest", artifact)
        write_plays = partial(_write_plays, run, songs)
        written = tasks.map_tasks(run, write_plays, by_user, description="plays")
        pieces = max(1, -(-users // IDS_A_PIECE))
        write_one = partial(_write_user_index, run, users, pieces)
        each = [Shard(piece) for piece in range(pieces)]
        tasks.map_tasks(run, write_one, each, description="index of users")
        counts |= {"users": users, "songs": songs, "plays": sum(each.rows for each in written)}
        counts["other_songs"] = 0
    with _begun(workspace, "split", {}) as (run, _):
        tasks.map_tasks(run, partial(_write_split, run), parts, description="split")
    with _begun(workspace, "blend", {"blend": {"other_plays": False}}) as (run, counts):
        tasks.map_tasks(run, partial(_write_vectors, run, rank), parts, description="F")
        tasks.run_task(run, _write_model, run, songs, rank)
        shards = shards_of_rows(users, USERS_OF_BLEND_A_PART)
        write_users = partial(_write_blend_users, run, songs, rank)
        tasks.map_tasks(run, write_users, shards, description="users of the blend")
        counts |= {"dimensions": rank, "other_songs": 0, "other_songs_hidden": 0}
    return workspace


@contextlib.contextmanager
def _begun(
    workspace: Workspace, stage: str, settings: dict[str, object]
) -> Iterator[tuple[StageRun, dict[str, int]]]:
    """A result of a stage to be written, made of the current ones, and its counts to be."""
    keys = workspace.current() if workspace.exists() else {}
    run = workspace.at(keys).begin(stage, {"settings": settings})
    assert run is not None
    counts: dict[str, int] = {}
    yield run, counts
    workspace.point({stage: run.commit(counts)["key"]})


def _song_ids(shard: RowsShard) -> pa.Array:
    return pa.array(ids(np.arange(shard.start, shard.stop), "SO", int(_SONGS)))


def _artist_ids(shard: RowsShard) -> pa.Array:
    artists = np.arange(shard.start, shard.stop) // SONGS_AN_ARTIST
    return pa.array(ids(artists, "AR", int(_ARTISTS)))


def _write_songs(run: StageRun, shard: RowsShard) -> Written:
    song = _song_ids(shard)
    schema = schemas.SONGS
    columns = {name: pa.nulls(len(song), schema.field(name).type) for name in schema.names}
    for name in schemas.SONG_NAMES:
        columns[name] = pc.binary_join_element_wise(song, f"the {name}", " ")
    columns |= {"song_id": song, "artist_id": _artist_ids(shard)}
    run.write(pa.table(columns, schema=schema), "songs", shard.part)
    return Written(len(song))


def _write_plays(run: StageRun, songs: int, shard: RowsShard) -> Written:
    """A part of `users`, `plays` and `other_plays`, of which there are none."""
    users = pa.table({"user_id": user_ids(shard.start, shard.stop)}, schema=schemas.USERS)
    run.write(users, "users", shard.part)
    rows = pa.Table.from_arrays(
        [pa.array(each) for each in played(shard.start, shard.stop, songs)], schema=schemas.PLAYS
    )
    run.write(rows, "plays", shard.part)
    run.write(schemas.PLAYS.empty_table(), "other_plays", shard.part)
    return Written(rows.num_rows)


def _write_user_index(run: StageRun, users: int, pieces: int, piece: Shard) -> Written:
    known, numbers = [], []
    for shard in shards_of_rows(users, IDS_A_PIECE):
        found = np.array(user_ids(shard.start, shard.stop))
        here = np.flatnonzero(piece_of(pa.array(found), pieces) == piece.part)
        known += found[here].tolist()
        numbers.append(here + shard.start)
    write_index(run, "user_index", known, np.concatenate(numbers), piece=piece.part)
    return Written(len(known))


def _write_split(run: StageRun, shard: RowsShard) -> Written:
    fold = np.arange(shard.start, shard.stop) % 5
    part = np.where(fold == 0, "test", "train")
    columns = [_song_ids(shard), _artist_ids(shard), pa.array(part), pa.array(fold, pa.int32())]
    run.write(pa.Table.from_arrays(columns, schema=schemas.SPLIT), "split", shard.part)
    return Written(len(fold))


def _write_vectors(run: StageRun, rank: int, shard: RowsShard) -> Written:
    rows = shard.stop - shard.start
    F = np.random.default_rng(shard.part).standard_normal((rows, rank), np.float32)
    table = pa.Table.from_arrays([_song_ids(shard), vectors(F)], schema=schemas.blend_songs(rank))
    run.write(table, "songs", shard.part)
    return Written(rows)


def _write_model(run: StageRun, songs: int, rank: int) -> Written:
    """What makes users' vectors of their plays."""
    shape, rng = layout(rank), np.random.default_rng(0)
    block = rng.standard_normal((min(songs, ROWS_A_PART), WIDTH * rank), np.float32)
    for part, start in enumerate(range(0, songs, ROWS_A_PART)):
        run.write_arrays({"rows": block[: songs - start]}, "history", rows_name(part))
    rotation = rng.standard_normal((WIDTH * rank, rank), np.float32) / np.sqrt(WIDTH * rank)
    nobody = np.zeros(WIDTH * rank, np.float32)
    nobody[shape.told] = _nobody(len(shape.told))
    run.write_arrays({"rotation": rotation.astype(np.float32), "nobody": nobody}, *ROTATION)
    description = {
        **shape.as_json(),
        "modalities": {name: SIGNALS[name].modality for name in shape.slices},
        "own": songs,
        "users_a_part": USERS_OF_BLEND_A_PART,
    }
    run.write_json(description, "blend.json")
    return Written(songs)


def _nobody(told: int) -> np.ndarray:
    """What no history gives, of who has none."""
    return np.random.default_rng(1).standard_normal(told, np.float32)


def _write_blend_users(run: StageRun, songs: int, rank: int, shard: RowsShard) -> Written:
    start, stop = shard.start, shard.stop
    rng, rows = np.random.default_rng(shard.part), stop - start
    user, song, plays = played(start, stop, songs)
    offsets = np.searchsorted(user, np.arange(start, stop + 1)).astype(np.int32)
    schema, told = schemas.blend_users(rank), len(layout(rank).told)
    drawn = rng.standard_normal((rows, told), np.float32)
    drawn[np.diff(offsets) == 0] = _nobody(told)
    columns = [
        pa.array(np.arange(start, stop), pa.int32()),
        vectors(rng.standard_normal((rows, rank), np.float32)),
        pa.ListArray.from_arrays(np.arange(rows + 1, dtype=np.int32) * told, drawn.ravel()),
        pa.ListArray.from_arrays(offsets, song),
        pa.ListArray.from_arrays(offsets, plays.astype(np.float32)),
    ]
    table = pa.Table.from_arrays(columns, schema=schema)
    run.write(table, "users", shard.part, group=USERS_A_GROUP)
    return Written(rows)
