"""Ingest, second part: musiXmatch bags, matched to the songs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fusionrec import schemas
from fusionrec.errors import SourceError
from fusionrec.formats import musixmatch
from fusionrec.formats.batch import Rejects
from fusionrec.formats.text import byte_ranges
from fusionrec.hashing import piece_of
from pipelines.config import Config
from pipelines.config.sources import IngestConfig
from pipelines.ingest.catalogue import Catalogued, places_of
from pipelines.ingest.reading import Tables, read_shards
from pipelines.ingest.song_groups import SongGroup
from pipelines.ingest.sources import FileShard, ReadReport, report, source_path, totals
from pipelines.runtime import tasks
from pipelines.runtime.exchange import first_of, gather, scatter
from pipelines.runtime.shards import Shard, Written
from pipelines.runtime.stage import Counts, resumable
from pipelines.runtime.workspace import StageRun, part_name

STAGING = ("raw_lyrics", "lyric_tracks", "lyric_places", "sent_lyrics")


@dataclass(frozen=True)
class Matched:
    """Bags of a shard whose track was read, those of songs, those of no track, and second ones."""

    tracks: int
    songs: int
    others: int
    repeated: int


def read_lyrics(config: Config, run: StageRun, limit: float, songs: Catalogued) -> Counts:
    """Bags to `lyrics`, in parts aligned with those of `songs`; the others to `other_lyrics`."""
    paths = [source_path(config, path) for path in config.source.lyrics]
    if not paths:
        return {"lyrics": 0, "tracks_with_lyrics": 0, "songs_with_lyrics": 0, "lyrics_rejects": {}}
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


def _join_lyrics(run: StageRun, shards: Sequence[Shard], songs: Catalogued) -> Counts:
    """Bags come to their songs' parts, by way of the pieces that know where the tracks are."""

    def mapped(name: str, function: partial[Written], over: Sequence[Shard]) -> None:
        work = resumable(run, name, function, Written)
        tasks.map_tasks(run, work, over, description="matching lyrics")

    mapped("lyric_tracks", partial(_send_tracks, run, songs.pieces), shards)
    pieces = [Shard(piece) for piece in range(songs.pieces)]
    mapped("lyric_places", partial(_find_places, run, songs, len(shards)), pieces)
    found = tasks.map_tasks(
        run,
        resumable(run, "sent_lyrics", partial(_send_lyrics, run, songs), Matched),
        shards,
        description="matching lyrics",
    )
    mapped("lyrics_of_songs", partial(_collect, run, len(shards)), songs.groups)
    return {
        "tracks_with_lyrics": sum(of.tracks for of in found),
        "songs_with_lyrics": sum(of.songs for of in found),
        "lyrics_of_other_tracks": sum(of.others for of in found),
        "lyrics_repeated": sum(of.repeated for of in found),
    }


def _tracks(run: StageRun, part: int) -> pa.ChunkedArray:
    return run.workspace.read_part(run.stage, "raw_lyrics", part_name(part), ["track_id"])[
        "track_id"
    ]


def _send_tracks(run: StageRun, pieces: int, shard: Shard) -> Written:
    tracks = _tracks(run, shard.part)
    table = pa.table({"track_id": tracks})
    scatter(run, table, piece_of(tracks, pieces), pieces, "lyric_tracks", shard.part)
    return Written(len(tracks))


def _find_places(run: StageRun, songs: Catalogued, shards: int, piece: Shard) -> Written:
    """Tell each shard which of its tracks were not read before, and where they are."""
    sent = gather(run, "lyric_tracks", piece.part, range(shards))
    tracks = pa.concat_tables(sent)["track_id"].combine_chunks()
    first = first_of(tracks.dictionary_encode().indices.to_numpy())
    places = places_of(run, songs, piece.part, tracks).append_column("first", pa.array(first))
    shard = np.repeat(np.arange(shards), [table.num_rows for table in sent])
    scatter(run, places, shard, shards, "lyric_places", piece.part)
    return Written(len(tracks))


def _send_lyrics(run: StageRun, songs: Catalogued, shard: Shard) -> Matched:
    """A shard's bags to the groups of their songs; those of no track to `other_lyrics`."""
    lyrics = run.workspace.read_part(run.stage, "raw_lyrics", part_name(shard.part))
    order = np.argsort(piece_of(lyrics["track_id"], songs.pieces), kind="stable")
    told = pa.concat_tables(gather(run, "lyric_places", shard.part, range(songs.pieces)))
    places = told.take(pa.array(np.argsort(order, kind="stable")))
    first = places["first"]
    known = pc.and_(first, places["known"])
    again, others = lyrics.filter(pc.invert(first)), lyrics.filter(pc.and_not(first, known))
    rejects = Rejects()
    for track in again["track_id"].to_pylist():
        rejects.add("lyrics", track, "track read before", action="excluded")
    run.write(others, "other_lyrics", shard.part)
    for track in others["track_id"].to_pylist():
        rejects.add("lyrics", track, "track id not in the corpus", action="unmatched")
    run.write(rejects.to_table(), "lyrics_unmatched", shard.part)
    matched = pc.and_(known, pc.is_valid(places["part"]))
    where = places.filter(matched)
    bags = lyrics.filter(matched)
    for name in ("part", "row"):
        bags = bags.append_column(name, where[name])
    group = songs.group_of(where["part"].to_numpy())
    scatter(run, bags, group, len(songs.groups), "sent_lyrics", shard.part)
    tracks = lyrics.num_rows - again.num_rows - others.num_rows
    return Matched(tracks, bags.num_rows, others.num_rows, again.num_rows)


def _collect(run: StageRun, shards: int, group: SongGroup) -> Written:
    """Write the bags of a group's parts, in the order of their songs."""
    bags = pa.concat_tables(gather(run, "sent_lyrics", group.part, range(shards)))
    bags = bags.sort_by([("part", "ascending"), ("row", "ascending")]).combine_chunks()
    parts = bags["part"].to_numpy()
    bags = bags.drop_columns(["part", "row"])
    for _, part in group.parts:
        start, stop = np.searchsorted(parts, [part, part + 1]).tolist()
        run.write(bags.slice(start, stop - start), "lyrics", part)
    return Written(bags.num_rows)
