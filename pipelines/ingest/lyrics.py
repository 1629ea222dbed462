"""Ingest, second part: musiXmatch bags, matched to the songs."""

from __future__ import annotations

from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fusionrec import schemas
from fusionrec.errors import SourceError
from fusionrec.formats import musixmatch
from fusionrec.formats.batch import Rejects
from fusionrec.formats.text import byte_ranges
from pipelines.config import Config
from pipelines.config.sources import IngestConfig
from pipelines.ingest.sources import FileShard, ReadReport, report, source_path, totals
from pipelines.runtime import sharding, tasks
from pipelines.runtime.stage import Counts, resumable
from pipelines.runtime.workspace import StageRun, part_number


def read_lyrics(config: Config, run: StageRun, limit: float) -> Counts:
    """Bags to `lyrics`, in parts aligned with those of `songs`; the others to `other_lyrics`."""
    paths = [source_path(config, path) for path in config.source.lyrics]
    if not paths:
        return {"lyrics": 0, "tracks_with_lyrics": 0, "songs_with_lyrics": 0, "lyrics_rejects": {}}
    ranges: list[tuple[str, int, int]] = []
    for path in paths:
        found = tasks.run_task(run, _lyrics_ranges, path, config.ingest)
        ranges += [(path, start, stop) for start, stop in found]
    shards = [FileShard(part, *found) for part, found in enumerate(ranges)]
    vocabulary = tasks.run_task(run, _write_vocabulary, run, paths)
    reports = sharding.map_shards(
        run,
        resumable(run, "lyrics", partial(_read_lyrics_shard, run), ReadReport),
        shards,
        description="reading lyrics",
    )
    total = totals(reports, limit, "lyrics", ", ".join(config.source.lyrics))
    return {
        "lyrics": total.rows,
        "lyrics_rejected": total.dropped,
        "vocabulary": vocabulary,
        **tasks.run_task(run, _join_lyrics, run),
        "lyrics_rejects": total.reasons,
    }


def _lyrics_ranges(path: str, config: IngestConfig) -> list[tuple[int, int]]:
    if path.endswith(".db"):
        tracks = musixmatch.num_lyrics_db(path)
        step = config.rows_per_shard
        return [(i, min(tracks, i + step)) for i in range(0, tracks, step)]
    return byte_ranges(path, config.bytes_per_shard)


def _write_vocabulary(run: StageRun, paths: list[str]) -> int:
    words = musixmatch.read_vocabulary(paths[0])
    for path in paths[1:]:
        if musixmatch.read_vocabulary(path) != words:
            raise SourceError(
                f"{path}: its vocabulary differs from that of {paths[0]}; "
                "source.lyrics must name files of one release"
            )
    run.write(pa.table({"word": words}, schema=schemas.VOCABULARY), "vocabulary")
    return len(words)


def _read_lyrics_shard(run: StageRun, shard: FileShard) -> ReadReport:
    read = musixmatch.read_lyrics_db if shard.path.endswith(".db") else musixmatch.read_lyrics
    batch = read(shard.path, shard.start, shard.stop)
    run.write(batch.table, "raw_lyrics", shard.part)
    run.write(batch.rejects, "lyrics_rejects", shard.part)
    return report(batch)


def _join_lyrics(run: StageRun) -> Counts:
    workspace, stage = run.workspace, run.stage
    lyrics = workspace.read(stage, "raw_lyrics")
    first = np.unique(lyrics["track_id"].to_numpy(zero_copy_only=False), return_index=True)[1]
    again = np.setdiff1d(np.arange(lyrics.num_rows), first)
    rejects = Rejects()
    for track in lyrics["track_id"].take(again).to_pylist():
        rejects.add("lyrics", track, "track read before", action="excluded")
    lyrics = lyrics.take(np.sort(first))
    raw_tracks = workspace.read(stage, "raw_songs", ["track_id"])["track_id"].combine_chunks()
    known = pc.is_in(lyrics["track_id"], value_set=raw_tracks)
    matched = 0
    for part in workspace.parts(stage, "songs"):
        tracks = workspace.read_part(stage, "songs", part, ["track_id"])["track_id"]
        rows = pc.index_in(tracks, value_set=lyrics["track_id"].combine_chunks()).drop_null()
        matched += len(rows)
        run.write(lyrics.take(rows), "lyrics", part_number(part))
    others = lyrics.filter(pc.invert(known))
    run.write(others, "other_lyrics")
    for track in others["track_id"].to_pylist():
        rejects.add("lyrics", track, "track id not in the corpus", action="unmatched")
    run.write(rejects.to_table(), "lyrics_unmatched")
    return {
        "tracks_with_lyrics": lyrics.num_rows - others.num_rows,
        "songs_with_lyrics": matched,
        "lyrics_of_other_tracks": others.num_rows,
        "lyrics_repeated": len(again),
    }
