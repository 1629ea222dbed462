"""Ingest, third part: listening triplets, as codes of users and songs.

Plays of songs outside the catalogue are kept beside the others: no list will name these songs, but
what their listeners have in common can be learned from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fusionrec import schemas
from fusionrec.formats import taste_profile
from fusionrec.formats.batch import Rejects
from fusionrec.formats.text import byte_ranges
from pipelines.config import Config
from pipelines.ingest import by_user
from pipelines.ingest.sources import FileShard, ReadReport, report, source_path, totals
from pipelines.ingest.user_codes import Users, code_users, codes_of
from pipelines.runtime import sharding, tasks
from pipelines.runtime.shards import Shard
from pipelines.runtime.stage import Counts, resumable
from pipelines.runtime.workspace import StageRun, part_name, part_number

_OTHERS = pa.schema([("song_id", pa.string()), ("rows", pa.int64())])


@dataclass(frozen=True)
class PlaysReport(ReadReport):
    """With the users, and triplets on songs, on songs of mismatched tracks, and of no track."""

    users: int
    on_songs: int
    on_mismatched: int
    on_others: int


def read_plays(config: Config, run: StageRun, limit: float) -> Counts:
    """Triplets as codes: a user's row in `users`, a song's in `songs` or among the `other_ids`.

    Those on the catalogue go to `plays` and those on other songs to `other_plays`; those on songs
    that the catalogue lost, as all their tracks are mismatched, to neither.
    """
    ranges: list[tuple[str, int, int]] = []
    for path in config.source.plays:
        file = source_path(config, path)
        found = tasks.run_task(run, byte_ranges, file, config.ingest.bytes_per_shard)
        ranges += [(file, start, stop) for start, stop in found]
    shards = [FileShard(part, *found) for part, found in enumerate(ranges)]
    songs = tasks.submit(run, _song_ids, run)
    reports = sharding.map_shards(
        run,
        resumable(run, "plays", partial(_read_plays_shard, run, songs), PlaysReport),
        shards,
        description="reading plays",
    )
    total = totals(reports, limit, "plays", ", ".join(config.source.plays))
    users = code_users(run, shards, sum(found.users for found in reports))
    others = tasks.run_task(run, _write_others, run, config.ingest.rows_per_shard)
    on_songs = sum(found.on_songs for found in reports)
    on_mismatched = sum(found.on_mismatched for found in reports)
    on_others = sum(found.on_others for found in reports)
    by_user.plays_by_user(run, shards, partial(_coded, run, users), users, on_songs + on_others)
    return {
        "triplets": total.rows,
        "triplets_rejected": total.dropped,
        "triplets_on_corpus": on_songs + on_mismatched,
        "triplets_on_mismatched_songs": on_mismatched,
        "plays": on_songs,
        "users": len(users),
        "other_songs": others,
        "other_plays": on_others,
        "play_rejects": total.reasons,
    }


def _song_ids(run: StageRun) -> tuple[pa.Array, pa.Array]:
    songs = run.workspace.read(run.stage, "songs", ["song_id"])["song_id"].combine_chunks()
    wrong = run.workspace.read(run.stage, "mismatched")["song_id"].combine_chunks()
    return songs, wrong


def _read_plays_shard(run: StageRun, songs: Any, shard: FileShard) -> PlaysReport:
    batch = taste_profile.read_triplets(shard.path, shard.start, shard.stop)
    song_ids, wrong = tasks.gather([songs])[0]
    table = batch.table
    codes = pc.index_in(table["song_id"], value_set=song_ids).cast(pa.int32())
    known = pc.is_valid(codes)
    mismatched = pc.is_in(table["song_id"], value_set=wrong)
    strange = pc.and_not(pc.invert(known), mismatched)
    others = table["song_id"].filter(strange).combine_chunks().dictionary_encode()
    # Users and other songs are written once a shard, and their rows as positions among them.
    listeners = table["user_id"].combine_chunks().dictionary_encode()
    raw = pa.table({"user": listeners.indices, "song": codes, "plays": table["plays"]})
    run.write(raw.filter(known), "raw_plays", shard.part)
    run.write(pa.table({"user_id": listeners.dictionary}), "raw_users", shard.part)
    of_others = raw.filter(strange).set_column(1, "song", others.indices)
    run.write(of_others, "raw_other_plays", shard.part)
    rows = np.bincount(others.indices.to_numpy(), minlength=len(others.dictionary))
    counted = pa.table({"song_id": others.dictionary, "rows": rows}, schema=_OTHERS)
    run.write(counted, "raw_others", shard.part)
    run.write(batch.rejects, "play_rejects", shard.part)
    return PlaysReport(
        **vars(report(batch)),
        users=len(listeners.dictionary),
        on_songs=pc.sum(known).as_py() or 0,
        on_mismatched=pc.sum(mismatched).as_py() or 0,
        on_others=len(others),
    )


def _write_others(run: StageRun, size: int) -> int:
    """Ids of the songs outside the catalogue in their order, in parts of `size`: `other_ids`.

    Each shard's own get their codes, which are rows of all parts together, in `other_codes`. Each
    song is listed among what matches nothing.
    """
    workspace, stage = run.workspace, run.stage
    names = workspace.parts(stage, "raw_others")
    found = [workspace.read_part(stage, "raw_others", name) for name in names]
    table = pa.concat_tables([_OTHERS.empty_table(), *found])
    table = table.group_by("song_id").aggregate([("rows", "sum")])
    table = table.sort_by("song_id").combine_chunks()
    for part, start in enumerate(range(0, max(1, table.num_rows), size)):
        run.write(table.select(["song_id"]).slice(start, size), "other_ids", part)
    for name in names:
        here = workspace.read_part(stage, "raw_others", name)["song_id"]
        codes = pc.index_in(here, value_set=table["song_id"].combine_chunks()).cast(pa.int32())
        run.write(pa.table({"code": codes}), "other_codes", part_number(name))
    rejects = Rejects()
    for song, rows in zip(*(table[name].to_pylist() for name in table.column_names), strict=True):
        rejects.add("plays", song, "song id not in the corpus", f"{rows} rows", "unmatched")
    run.write(rejects.to_table(), "play_unmatched")
    return int(table.num_rows)


def _coded(run: StageRun, found: Users, shard: Shard) -> dict[str, pa.Table]:
    """A shard's plays, with codes of all users and songs."""
    workspace, stage, part = run.workspace, run.stage, part_name(shard.part)
    users = codes_of(run, found, shard.part)
    others = workspace.read_part(stage, "other_codes", part)["code"]
    tables = {}
    for artifact, codes in (("plays", None), ("other_plays", others)):
        raw = workspace.read_part(stage, f"raw_{artifact}", part)
        songs = raw["song"] if codes is None else codes.take(raw["song"])
        tables[artifact] = pa.table(
            {"user": users.take(raw["user"]), "song": songs, "plays": raw["plays"]},
            schema=schemas.PLAYS,
        )
    return tables
