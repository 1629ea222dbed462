"""Ingest, second part: musiXmatch bags, matched to the songs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pyarrow as pa

from fusionrec import schemas
from fusionrec.errors import SourceError
from fusionrec.formats import musixmatch
from fusionrec.formats.text import byte_ranges
from pipelines.config import Config
from pipelines.config.sources import IngestConfig
from pipelines.ingest.catalogue import Catalogued
from pipelines.ingest.joining import Join, Matched, arrived, send_to_songs
from pipelines.ingest.reading import Tables, read_shards
from pipelines.ingest.song_groups import SongGroup
from pipelines.ingest.sources import FileShard, ReadReport, report, source_path, totals
from pipelines.runtime import tasks
from pipelines.runtime.shards import Written
from pipelines.runtime.stage import Counts, resumable
from pipelines.runtime.workspace import StageRun

NONE: Counts = {
    "lyrics": 0,
    "tracks_with_lyrics": 0,
    "songs_with_lyrics": 0,
    "lyrics_rejects": {},
}
"""Of a source without lyrics."""

JOIN = Join("lyrics", "track_id", "lyrics", "other_lyrics")


def read_lyrics(config: Config, run: StageRun, limit: float, songs: Catalogued) -> Counts:
    """Bags to `lyrics`, in parts aligned with those of `songs`; the others to `other_lyrics`."""
    paths = [source_path(config, path) for path in config.source.lyrics]
    if not paths:
        return NONE
    ranges: list[tuple[str, int, int]] = []
    for path in paths:
        found = tasks.run_task(run, _lyrics_ranges, path, config.ingest)
        ranges += [(path, start, stop) for start, stop in found]
    if not ranges:
        raise SourceError(
            f"{', '.join(paths)}: holds no lyrics; mend source.lyrics, or leave it out"
        )
    shards = [FileShard(part, *found) for part, found in enumerate(ranges)]
    vocabulary = tasks.run_task(run, _write_vocabulary, run, paths)
    reports, stream = read_shards(
        run,
        "lyrics",
        _read_lyrics_shard,
        shards,
        ["raw_lyrics", "lyrics_rejects"],
        ReadReport,
        description="reading lyrics",
    )
    total = totals(reports, limit, "lyrics", ", ".join(config.source.lyrics))
    return {
        "lyrics": total.rows,
        "lyrics_rejected": total.dropped,
        "vocabulary": vocabulary,
        **_join_lyrics(run, shards, songs),
        "lyrics_rejects": total.reasons,
        "stream": stream,
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


def _read_lyrics_shard(shard: FileShard) -> tuple[Tables, ReadReport]:
    read = musixmatch.read_lyrics_db if shard.path.endswith(".db") else musixmatch.read_lyrics
    batch = read(shard.path, shard.start, shard.stop)
    return {"raw_lyrics": batch.table, "lyrics_rejects": batch.rejects}, report(batch)


def _join_lyrics(run: StageRun, shards: Sequence[FileShard], songs: Catalogued) -> Counts:
    """Bags come to their songs' parts."""
    (found,) = send_to_songs(run, JOIN, [shards], songs, description="matching lyrics")
    parts = [shard.part for shard in shards]
    collect = resumable(run, "lyrics_of_songs", partial(_collect, run, parts), Written)
    tasks.map_tasks(run, collect, songs.groups, description="matching lyrics")
    return counts_of(found)


def counts_of(found: Sequence[Matched]) -> Counts:
    """What became of all shards' lyrics."""
    return {
        "tracks_with_lyrics": sum(of.known for of in found),
        "songs_with_lyrics": sum(of.songs for of in found),
        "lyrics_of_other_tracks": sum(of.others for of in found),
        "lyrics_repeated": sum(of.repeated for of in found),
    }


def _collect(run: StageRun, shards: Sequence[int], group: SongGroup) -> Written:
    """Write the bags of a group's parts, in the order of their songs."""
    written = 0
    for part, songs, bags in arrived(run, JOIN, group, shards):
        run.write(bags.take(songs["place"].drop_null()), "lyrics", part)
        written += bags.num_rows
    return Written(written)
