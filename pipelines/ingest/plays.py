"""Ingest, third part: listening triplets, as codes of users and songs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fusionrec import schemas
from fusionrec.formats import taste_profile
from fusionrec.formats.batch import Rejects
from fusionrec.formats.text import byte_ranges
from pipelines.config import Config
from pipelines.ingest.sources import FileShard, ReadReport, report, source_path, totals
from pipelines.runtime import sharding, tasks
from pipelines.runtime.shards import Written
from pipelines.runtime.stage import Counts, resumable
from pipelines.runtime.workspace import StageRun, part_name, part_number


@dataclass(frozen=True)
class PlaysReport(ReadReport):
    """With the triplets on songs, and on songs of mismatched tracks."""

    on_songs: int
    on_mismatched: int


def read_plays(config: Config, run: StageRun, limit: float) -> Counts:
    """Triplets to `plays`, as codes: a user's row in `users`, a song's row in `songs`."""
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
    users = tasks.run_task(run, _write_users, run)
    sharding.map_shards(run, partial(_code_plays, run), shards, description="coding plays")
    unmatched = tasks.run_task(run, _write_unmatched, run)
    on_songs = sum(found.on_songs for found in reports)
    on_mismatched = sum(found.on_mismatched for found in reports)
    return {
        "triplets": total.rows,
        "triplets_rejected": total.dropped,
        "triplets_on_corpus": on_songs + on_mismatched,
        "triplets_on_mismatched_songs": on_mismatched,
        "plays": on_songs,
        "users": users,
        "play_songs_not_in_corpus": unmatched,
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
    strange = table["song_id"].filter(pc.and_not(pc.invert(known), mismatched))
    # Users are written once a shard, and their rows as positions among them.
    listeners = table["user_id"].combine_chunks().dictionary_encode()
    raw = pa.table({"user": listeners.indices, "song": codes, "plays": table["plays"]})
    run.write(raw.filter(known), "raw_plays", shard.part)
    run.write(pa.table({"user_id": listeners.dictionary}), "raw_users", shard.part)
    counted = pc.value_counts(strange.combine_chunks())
    run.write(
        pa.table({"song_id": counted.field("values"), "rows": counted.field("counts")}),
        "raw_unmatched",
        shard.part,
    )
    run.write(batch.rejects, "play_rejects", shard.part)
    return PlaysReport(
        **vars(report(batch)),
        on_songs=pc.sum(known).as_py() or 0,
        on_mismatched=pc.sum(mismatched).as_py() or 0,
    )


def _write_users(run: StageRun) -> int:
    """User ids in order of first appearance, so that codes run along the files.

    Each shard's own users get their codes in `user_codes`, in parts aligned with its plays.
    """
    workspace, stage = run.workspace, run.stage
    codes: dict[str, int] = {}
    for part in workspace.parts(stage, "raw_users"):
        here = workspace.read_part(stage, "raw_users", part)["user_id"].to_pylist()
        found = pa.array([codes.setdefault(user, len(codes)) for user in here], pa.int32())
        run.write(pa.table({"code": found}), "user_codes", part_number(part))
    run.write(
        pa.table({"user_id": pa.array(list(codes), pa.string())}, schema=schemas.USERS), "users"
    )
    return len(codes)


def _code_plays(run: StageRun, shard: FileShard) -> Written:
    part = part_name(shard.part)
    raw = run.workspace.read_part(run.stage, "raw_plays", part)
    codes = run.workspace.read_part(run.stage, "user_codes", part)["code"]
    table = pa.table(
        {"user": codes.take(raw["user"]), "song": raw["song"], "plays": raw["plays"]},
        schema=schemas.PLAYS,
    )
    run.write(table.sort_by([("user", "ascending"), ("song", "ascending")]), "plays", shard.part)
    return Written(table.num_rows)


def _write_unmatched(run: StageRun) -> int:
    table = run.workspace.read(run.stage, "raw_unmatched")
    rejects = Rejects()
    for row in (
        table.group_by("song_id").aggregate([("rows", "sum")]).sort_by("song_id").to_pylist()
    ):
        rejects.add(
            "plays",
            row["song_id"],
            "song id not in the corpus",
            f"{row['rows_sum']} rows",
            "unmatched",
        )
    run.write(rejects.to_table(), "play_unmatched")
    return len(rejects.rows)
