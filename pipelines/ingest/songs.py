"""Ingest, first part: tracks, from the HDF5 tree, an aggregate file or the SQLite databases."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from fusionrec import probes, schemas
from fusionrec.errors import SourceError
from fusionrec.features.audio import segment_statistics
from fusionrec.formats import files, hdf5, msd_sqlite
from fusionrec.formats.batch import Batch
from pipelines.config import Config
from pipelines.ingest.catalogue import Catalogued, catalogue
from pipelines.ingest.crashes import CrashNotes
from pipelines.ingest.listing import take_listing
from pipelines.ingest.reading import Tables, read_shards
from pipelines.ingest.sources import (
    FileShard,
    ReadReport,
    artist_databases,
    non_empty,
    report,
    source_path,
    summed,
    totals,
)
from pipelines.runtime import metrics, tasks
from pipelines.runtime.shards import Shard, shards_of_rows
from pipelines.runtime.stage import Counts, processor_lines
from pipelines.runtime.workspace import StageRun, part_name

_AT_ONCE = 250
"""Tracks in memory at once where their segments are read, about 100 kB each."""

_WRITERS = 16
"""Parts of the listing written at a time: on a remote filesystem each is a request."""

Segments = Literal["none", "stats", "full"]


@dataclass(frozen=True)
class TreeShard(Shard):
    """Files of the HDF5 tree at `path`: those of its part of the listing."""

    path: str


@dataclass(frozen=True)
class SqliteShard(FileShard):
    """Rows of ``track_metadata.db``, and where the databases of artists lie, if anywhere."""

    terms: str | None
    similarity: str | None


SongShard = TreeShard | FileShard
"""A plain :class:`FileShard` is one of an aggregate HDF5 file."""


@dataclass(frozen=True)
class SongsReport(ReadReport):
    """With the songs that have tags of each kind."""

    with_mbtags: int
    with_terms: int
    processor: dict[str, int]

    @classmethod
    def of(cls, found: ReadReport, songs: pa.Table, processor: dict[str, int]) -> SongsReport:
        """Of a shard's songs; `processor` is what reading them told of the worker's."""
        with_mbtags, with_terms = (non_empty(songs[name]) for name in ("mbtags", "terms"))
        return cls(
            **vars(found), with_mbtags=with_mbtags, with_terms=with_terms, processor=processor
        )


def counts_of_tags(reports: Sequence[SongsReport]) -> Counts:
    """How many songs have tags of each kind."""
    return {
        "tracks_with_mbtags": sum(shard.with_mbtags for shard in reports),
        "tracks_with_terms": sum(shard.with_terms for shard in reports),
    }


def read_songs(config: Config, run: StageRun, limit: float) -> tuple[Counts, Catalogued]:
    """Tracks to `songs`, and their segments: one track a song id, mismatched pairs left out.

    Also how they lie.
    """
    shards, refused = song_shards(config, run)
    attempt = uuid.uuid4().hex
    reports, stream = read_shards(
        run,
        "songs",
        partial(_read_song_shard, run, config.ingest.segments, attempt),
        shards,
        ["raw_songs", "segment_statistics", "song_rejects"],
        SongsReport,
        description="reading songs",
    )
    processor = processor_lines(reports)
    total = totals([refused, *reports], limit, "songs", config.source.songs)
    if total.rows == 0:
        raise SourceError(
            f"{source_path(config, config.source.songs)}: no readable track among "
            f"{total.read:,} files or rows; point source.songs at the Million Song Dataset"
        )
    mismatches = config.source.mismatches
    excluded, songs = catalogue(
        run,
        [shard.rows for shard in reports],
        source_path(config, mismatches) if mismatches else None,
    )
    counts: Counts = {
        "tracks": total.rows,
        **counts_of_tags(reports),
        "tracks_rejected": total.dropped,
        "song_files_or_rows": total.read,
        "song_files_read_directly": total.direct,
        **excluded,
        "songs": sum(songs.sizes),
        "songs_damaged_text": total.damaged_text,
        "song_rejects": total.reasons,
        "song_reader": processor,
        "stream": stream,
    }
    return counts, songs


def song_shards(config: Config, run: StageRun) -> tuple[Sequence[SongShard], ReadReport]:
    """Where each shard of the song source lies, and the report of what is no shard's.

    A shard is a range of rows, or of a tree's listing, which becomes the artifact `listing`: a
    part a shard, so that tasks list no folders.
    """
    path = source_path(config, config.source.songs)
    if not files.exists(path):
        raise SourceError(f"{path}: does not exist; set source.root and source.songs")
    if files.is_folder(path):
        return _tree_shards(run, take_listing(path), config.ingest.files_per_shard)
    kind = os.path.splitext(path.partition("?")[0] if files.is_uri(path) else path)[1]
    if kind == ".db":
        rows = tasks.run_task(run, msd_sqlite.num_rows, path)
    elif kind in (".h5", ".hdf5"):
        rows = tasks.run_task(run, hdf5.num_rows, path)
    else:
        raise SourceError(f"{path}: source.songs must be a folder, a .h5 or a .db file")
    shards = shards_of_rows(rows, config.ingest.rows_per_shard)
    none = report(Batch(schemas.SONGS.empty_table(), schemas.REJECTS.empty_table()))
    if kind == ".db":
        of_artists = artist_databases(config)
        return [SqliteShard(s.part, path, s.start, s.stop, *of_artists) for s in shards], none
    return [FileShard(s.part, path, s.start, s.stop) for s in shards], none


def _tree_shards(
    run: StageRun, listing: hdf5.Listing, size: int
) -> tuple[list[TreeShard], ReadReport]:
    table, rejects = listing.table, listing.rejects
    if not table.num_rows:
        passed = f" that can be read ({rejects.num_rows} passed over)" if rejects.num_rows else ""
        raise SourceError(
            f"{listing.root}: holds no .h5 file{passed}; set source.songs to the HDF5 tree"
        )
    parts = range(-(-table.num_rows // size))

    def write(first: int) -> None:
        for part in parts[first::_WRITERS]:
            run.write(table.slice(part * size, size), "listing", part)

    with ThreadPoolExecutor(_WRITERS) as pool:
        for _ in pool.map(write, range(_WRITERS)):
            pass  # to raise what a writer raised
    run.write(rejects, "listing_rejects")
    dropped = rejects.filter(pc.equal(rejects["action"], "dropped"))
    refused = report(Batch(schemas.SONGS.empty_table(), rejects, read=dropped.num_rows))
    return [TreeShard(part, listing.root) for part in parts], refused


def _read_song_shard(
    run: StageRun, segments: Segments, attempt: str, shard: SongShard
) -> tuple[Tables, SongsReport]:
    """A shard's tracks; whole segments go to their part at once, a batch after the other.

    All those of a shard would be 100 MB of a tree's, and 2 GB of an aggregate file's.
    """
    part = shard.part
    tables, rejects, statistics = [], [], []
    counts: list[ReadReport] = []
    with run.writing(schemas.SEGMENTS, "segments", part, wanted=segments == "full") as writer:
        notes = CrashNotes(run, part, attempt)
        for batch in _batches(run, shard, segments != "none", notes):
            tables.append(batch.table)
            rejects.append(batch.rejects)
            if batch.segments is not None and segments == "full":
                writer.write_table(batch.segments)
            elif batch.segments is not None:
                statistics.append(segment_statistics(batch.segments))
            counts.append(report(batch))
            metrics.count("fusionrec_songs_ingested", batch.table.num_rows)
    songs = pa.concat_tables(tables)
    found = {"raw_songs": songs, "song_rejects": pa.concat_tables(rejects)}
    if statistics:
        found["segment_statistics"] = pa.concat_tables(statistics)
    return found, SongsReport.of(summed(counts), songs, probes.lines("HDF5 files"))


def _batches(run: StageRun, shard: SongShard, segments: bool, notes: CrashNotes) -> Iterator[Batch]:
    """A shard's tracks; few at a time where each has its segments with it."""
    path = shard.path
    if isinstance(shard, TreeShard):
        listed = run.workspace.read_part(run.stage, "listing", part_name(shard.part))
        names = hdf5.full_paths(path, listed)
        step = _AT_ONCE if segments else len(names)
        for i in range(0, len(names), step):
            batch = hdf5.read_tracks(names[i : i + step], path, segments=segments, watch=notes)
            _check_none_is_gone(path, batch)
            yield batch
        return
    start, stop = shard.start, shard.stop
    if isinstance(shard, SqliteShard):
        yield msd_sqlite.read_songs(
            path, shard.terms, start, stop, artist_similarity_db=shard.similarity
        )
        return
    step = _AT_ONCE if segments else stop - start
    for i in range(start, stop, step):
        yield hdf5.read_aggregate(path, i, min(stop, i + step), segments=segments)


def _check_none_is_gone(path: str, batch: Batch) -> None:
    gone = batch.rejects.filter(pc.equal(batch.rejects["reason"], hdf5.MISSING))
    if gone.num_rows:
        raise SourceError(
            f"{files.join(path, gone['source'][0].as_py())}: was there when this run began and is "
            "gone now; leave the source alone and run the command again"
        )
