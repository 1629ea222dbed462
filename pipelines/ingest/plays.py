"""Ingest, third part: listening triplets or tables of plays, as codes of users and songs.

Plays of songs outside the catalogue are kept beside the others: no list will name these songs, but
what their listeners have in common can be learned from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fusionrec import schemas
from fusionrec.errors import SourceError
from fusionrec.formats import taste_profile
from fusionrec.formats.tables import TableSpec
from fusionrec.formats.tables import read_plays as read_table
from fusionrec.formats.text import byte_ranges
from pipelines.config import Config
from pipelines.ingest.by_user import ARTIFACTS, plays_by_user
from pipelines.ingest.reading import Tables, read_shards
from pipelines.ingest.song_codes import PLAYED, Songs, code_songs, samples_of, song_codes_of
from pipelines.ingest.sources import FileShard, ReadReport, report, source_path, totals
from pipelines.ingest.tables import TableShard, is_tables, table_shards, table_specs
from pipelines.ingest.user_codes import Users, code_users, codes_of
from pipelines.runtime import tasks
from pipelines.runtime.shards import Shard
from pipelines.runtime.stage import Counts
from pipelines.runtime.workspace import StageRun, part_name

_TIME = schemas.PLAY_TIMES.names[0]


@dataclass(frozen=True)
class PlaysReport(ReadReport):
    """With the triplets' users and songs, and songs that stand for these in their order."""

    users: int
    songs: int
    samples: list[str]


@dataclass(frozen=True)
class RawPlays:
    """Plays as they were read, in `raw_plays`: their shards, what is said of each, and of all."""

    shards: Sequence[FileShard]
    reports: Sequence[PlaysReport]
    total: ReadReport
    stream: dict[str, Any]


def read_raw_plays(
    config: Config, run: StageRun, limit: float, spec: TableSpec | None = None
) -> RawPlays:
    """Read triplets, or tables of plays; users and songs once a shard.

    Parameters
    ----------
    spec
        Of tables; that of the config, if none is given.

    Raises
    ------
    SourceError, TooManyRejectsError
        A file is not there, or too much of what is in it is of no use.
    """
    if is_tables(config):
        spec = spec or table_specs(config).plays
        named = spec.paths
        shards: Sequence[FileShard] = table_shards(config, run, spec, "source.tables.plays")[0]
    else:
        named = config.source.plays
        shards = _shards_of_triplets(config, run)
    reports, stream = read_shards(
        run,
        "plays",
        _read_plays_shard,
        shards,
        ["raw_plays", "raw_users", "raw_played", "play_rejects"],
        PlaysReport,
        description="reading plays",
    )
    total = totals(reports, limit, "plays", ", ".join(named))
    if is_tables(config) and not total.rows:
        raise SourceError(
            f"{', '.join(named)}: no readable play among {total.read:,} rows; mend "
            "source.tables.plays"
        )
    return RawPlays(shards, reports, total, stream)


def _shards_of_triplets(config: Config, run: StageRun) -> list[FileShard]:
    ranges: list[tuple[str, int, int]] = []
    for path in config.source.plays:
        file = source_path(config, path)
        found = tasks.run_task(run, byte_ranges, file, config.ingest.bytes_per_shard)
        ranges += [(file, start, stop) for start, stop in found]
    return [FileShard(part, *found) for part, found in enumerate(ranges)]


def read_plays(
    config: Config,
    run: StageRun,
    limit: float,
    sizes: Sequence[int],
    read: RawPlays | None = None,
) -> Counts:
    """Plays as codes: a user's row in `users`, a song's in `songs` or among the `other_ids`.

    Those on the catalogue go to `plays` and those on other songs to `other_plays`; those on songs
    that the catalogue lost, as all their tracks are mismatched, to neither.

    Parameters
    ----------
    sizes
        Songs of each part of the catalogue.
    read
        What :func:`read_raw_plays` returned, if they were read before.
    """
    read = read or read_raw_plays(config, run, limit)
    shards, reports, total = read.shards, read.reports, read.total
    users = code_users(run, shards, sum(found.users for found in reports))
    songs = code_songs(
        run,
        shards,
        sum(found.songs for found in reports),
        [found.samples for found in reports],
        sizes,
        config.ingest.rows_per_shard,
    )
    rows = plays_by_user(run, shards, partial(_coded, run, users, songs), users, total.rows)
    on_songs, on_others = rows["plays"], rows["other_plays"]
    on_mismatched = total.rows - on_songs - on_others
    return {
        "triplets": total.rows,
        "triplets_rejected": total.dropped,
        "triplets_on_corpus": on_songs + on_mismatched,
        "triplets_on_mismatched_songs": on_mismatched,
        "plays": on_songs,
        "users": len(users),
        "other_songs": int(songs.others[-1]),
        "other_plays": on_others,
        "play_rejects": total.reasons,
        "stream": read.stream,
    }


def _read_plays_shard(shard: FileShard) -> tuple[Tables, PlaysReport]:
    """Users and songs once a shard, and its rows as positions among them."""
    if isinstance(shard, TableShard):
        batch = read_table(shard.path, shard.spec, shard.start, shard.stop)
        rejects = shard.rejects(batch)
    else:
        batch = taste_profile.read_triplets(shard.path, shard.start, shard.stop)
        rejects = batch.rejects
    table = batch.table
    listeners = table["user_id"].combine_chunks().dictionary_encode()
    played = table["song_id"].combine_chunks().dictionary_encode()
    order = pc.sort_indices(played.dictionary)
    place = np.empty(len(order), np.int32)
    place[order.to_numpy()] = np.arange(len(order), dtype=np.int32)
    songs = place[played.indices.to_numpy()]
    raw = pa.table({"user": listeners.indices, "song": songs, "plays": table["plays"]})
    if _TIME in table.column_names:
        raw = raw.append_column(_TIME, table[_TIME])
    ids = played.dictionary.take(order)
    rows = np.bincount(songs, minlength=len(ids))
    tables = {
        "raw_plays": raw,
        "raw_users": pa.table({"user_id": listeners.dictionary}),
        "raw_played": pa.table({"song_id": ids, "rows": rows}, schema=PLAYED),
        "play_rejects": rejects,
    }
    return tables, PlaysReport(
        **vars(report(batch)),
        users=len(listeners.dictionary),
        songs=len(ids),
        samples=samples_of(ids),
    )


def _coded(run: StageRun, users: Users, songs: Songs, shard: Shard) -> dict[str, pa.Table]:
    """A shard's plays, with codes of all users and songs, and with their times if it has any."""
    raw = run.workspace.read_part(run.stage, "raw_plays", part_name(shard.part))
    user = codes_of(run, users, shard.part).take(raw["user"])
    codes = song_codes_of(run, songs, shard.part)
    tables, timed = {}, schemas.PLAY_TIMES.names[0] in raw.column_names
    for artifact, of_songs in zip(ARTIFACTS, codes, strict=True):
        song = of_songs[raw["song"].to_numpy()]
        arrays = [user, pa.array(song, pa.int32()), raw["plays"]]
        table = pa.Table.from_arrays(arrays, schema=schemas.PLAYS)
        if timed:
            (field,) = schemas.PLAY_TIMES
            table = table.append_column(field, raw[field.name].cast(field.type))
        tables[artifact] = table.filter(pa.array(song >= 0))
    return tables
