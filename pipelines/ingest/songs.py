"""Ingest, first part: tracks, from the HDF5 tree, an aggregate file or the SQLite databases."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fusionrec import probes, schemas
from fusionrec.errors import SourceError
from fusionrec.features.audio import segment_statistics
from fusionrec.formats import files, hdf5, msd_sqlite, taste_profile
from fusionrec.formats.batch import Batch
from pipelines.config import Config
from pipelines.ingest.sources import (
    FileShard,
    ReadReport,
    non_empty,
    report,
    source_path,
    summed,
    totals,
)
from pipelines.runtime import metrics, sharding, tasks
from pipelines.runtime.shards import Shard, Written, shards_of_rows
from pipelines.runtime.stage import Counts, processor_lines, resumable
from pipelines.runtime.workspace import StageRun, part_name

_AT_ONCE = 250
"""Tracks in memory at once where their segments are read, about 100 kB each."""

NOTES = "notes"
"""Where the ingest stage keeps its :class:`CrashNotes` while it runs."""

Segments = Literal["none", "stats", "full"]
Folder = tuple[str, int, int, int]
"""A folder of the tree, the range of its files that is wanted, and how many it has."""


@dataclass(frozen=True)
class TreeShard(Shard):
    """Files of folders of the HDF5 tree."""

    path: str
    folders: tuple[Folder, ...]


@dataclass(frozen=True)
class SqliteShard(FileShard):
    """Rows of ``track_metadata.db``; `terms` is where ``artist_term.db`` lies, if anywhere."""

    terms: str | None


SongShard = TreeShard | FileShard
"""A plain :class:`FileShard` is one of an aggregate HDF5 file."""


@dataclass(frozen=True)
class SongsReport(ReadReport):
    """With the songs that have tags of each kind."""

    with_mbtags: int
    with_terms: int
    processor: dict[str, int]


def read_songs(config: Config, run: StageRun, limit: float) -> Counts:
    """Tracks to `songs`, and their segments: one track a song id, mismatched pairs left out."""
    shards = song_shards(config, run)
    reports = sharding.map_shards(
        run,
        resumable(
            run, "songs", partial(_read_song_shard, run, config.ingest.segments), SongsReport
        ),
        shards,
        description="reading songs",
    )
    processor = processor_lines(reports)
    total = totals(reports, limit, "songs", config.source.songs)
    if total.rows == 0:
        raise SourceError(
            f"{source_path(config, config.source.songs)}: no readable track among "
            f"{total.read:,} files or rows; point source.songs at the Million Song Dataset"
        )
    mismatches = config.source.mismatches
    catalogue = tasks.run_task(
        run, _catalogue, run, source_path(config, mismatches) if mismatches else None
    )
    finished = sharding.map_shards(
        run, partial(_keep_catalogued, run), shards, description="writing the catalogue"
    )
    return {
        "tracks": total.rows,
        "tracks_with_mbtags": sum(shard.with_mbtags for shard in reports),
        "tracks_with_terms": sum(shard.with_terms for shard in reports),
        "tracks_rejected": total.dropped,
        "song_files_or_rows": total.read,
        "song_files_read_directly": total.direct,
        **catalogue,
        "songs": sum(shard.rows for shard in finished),
        "songs_damaged_text": total.damaged_text,
        "song_rejects": total.reasons,
        "song_reader": processor,
    }


def song_shards(config: Config, run: StageRun) -> Sequence[SongShard]:
    """Where each shard of the song source lies: files of folders of the tree, or ranges of rows.

    The driver lists the tree folder by folder and keeps a folder's name and number of files:
    17,576 of them in the full tree. The tasks list the files.
    """
    path = source_path(config, config.source.songs)
    if not files.exists(path):
        raise SourceError(f"{path}: does not exist; set source.root and source.songs")
    if files.is_folder(path):
        return _tree_shards(run, path, config.ingest.files_per_shard)
    terms = config.source.artist_terms
    kind = os.path.splitext(path.partition("?")[0] if files.is_uri(path) else path)[1]
    if kind == ".db":
        rows = tasks.run_task(run, msd_sqlite.num_rows, path)
    elif kind in (".h5", ".hdf5"):
        rows = tasks.run_task(run, hdf5.num_rows, path)
    else:
        raise SourceError(f"{path}: source.songs must be a folder, a .h5 or a .db file")
    shards = shards_of_rows(rows, config.ingest.rows_per_shard)
    if kind == ".db":
        where = source_path(config, terms) if terms else None
        return [SqliteShard(s.part, path, s.start, s.stop, where) for s in shards]
    return [FileShard(s.part, path, s.start, s.stop) for s in shards]


def _tree_shards(run: StageRun, path: str, size: int) -> list[TreeShard]:
    if files.is_uri(path):
        # A request a folder: side by side.
        below = [tasks.submit(run, hdf5.track_counts, path, top) for top in hdf5.tops(path)]
        counts = sorted(count for found in tasks.gather(below) for count in found)
    else:
        counts = hdf5.track_counts(path)
    if not counts:
        raise SourceError(f"{path}: holds no .h5 file; set source.songs to the HDF5 tree")
    shards: list[list[Folder]] = []
    room = 0
    for folder, count in counts:
        start = 0
        while start < count:
            if room == 0:
                shards.append([])
                room = size
            stop = min(count, start + room)
            shards[-1].append((folder, start, stop, count))
            room -= stop - start
            start = stop
    return [TreeShard(part, path, tuple(folders)) for part, folders in enumerate(shards)]


def _read_song_shard(run: StageRun, segments: Segments, shard: SongShard) -> SongsReport:
    part = shard.part
    tables, rejects, statistics = [], [], []
    counts: list[ReadReport] = []
    with run.writing(schemas.SEGMENTS, "segments", part, wanted=segments == "full") as writer:
        for batch in _batches(shard, segments != "none", CrashNotes(run, part)):
            tables.append(batch.table)
            rejects.append(batch.rejects)
            if batch.segments is not None and segments == "full":
                writer.write_table(batch.segments)
            elif batch.segments is not None:
                statistics.append(segment_statistics(batch.segments))
            counts.append(report(batch))
            metrics.count("fusionrec_songs_ingested", batch.table.num_rows)
    songs = pa.concat_tables(tables)
    run.write(songs, "raw_songs", part)
    if statistics:
        run.write(pa.concat_tables(statistics), "segment_statistics", part)
    run.write(pa.concat_tables(rejects), "song_rejects", part)
    return SongsReport(
        **vars(summed(counts)),
        with_mbtags=non_empty(songs["mbtags"]),
        with_terms=non_empty(songs["terms"]),
        processor=probes.lines("HDF5 files"),
    )


class CrashNotes:
    """Remembers which file libhdf5 had open when a worker died.

    A shard whose worker dies is read anew by another worker; a file that two died on is left
    out then, instead of stopping the run.
    """

    def __init__(self, run: StageRun, part: int) -> None:
        self._run = run
        self._path = (NOTES, f"{part:05d}.json")
        self._deaths: dict[str, int] = {}
        if run.workspace.exists(run.stage, *self._path):
            note = run.read_json(*self._path)
            self._deaths = note["deaths"]
            if note["open"]:
                self._deaths[note["open"]] = self._deaths.get(note["open"], 0) + 1

    @contextlib.contextmanager
    def __call__(self, path: str) -> Iterator[bool]:
        """Whether `path` may be opened; for :func:`fusionrec.formats.hdf5.reader.read_tracks`."""
        if self._deaths.get(path, 0) >= 2:
            yield False
            return
        self._write(path)
        yield True
        self._write("")

    def _write(self, path: str) -> None:
        self._run.write_json({"open": path, "deaths": self._deaths}, *self._path)


def _batches(shard: SongShard, segments: bool, notes: CrashNotes) -> Iterator[Batch]:
    """A shard's tracks; few at a time where each has its segments with it."""
    path = shard.path
    if isinstance(shard, TreeShard):
        names = [name for folder in shard.folders for name in _files(path, *folder)]
        step = _AT_ONCE if segments else max(1, len(names))
        for i in range(0, len(names), step):
            yield hdf5.read_tracks(names[i : i + step], path, segments=segments, watch=notes)
        return
    start, stop = shard.start, shard.stop
    if isinstance(shard, SqliteShard):
        yield msd_sqlite.read_songs(path, shard.terms, start, stop)
        return
    step = _AT_ONCE if segments else stop - start
    for i in range(start, stop, step):
        yield hdf5.read_aggregate(path, i, min(stop, i + step), segments=segments)


def _files(path: str, folder: str, start: int, stop: int, count: int) -> list[str]:
    names = hdf5.track_files(path, folder)
    if len(names) != count:
        raise SourceError(
            f"{files.join(path, folder)}: had {count:,} .h5 files when this run began and has "
            f"{len(names):,} now; leave the source alone and run the command again"
        )
    return names[start:stop]


def _catalogue(run: StageRun, mismatches: str | None) -> Counts:
    """Decide which tracks leave: mismatched pairs, and all but one track of a song id."""
    columns = ["song_id", "track_id"]
    table = run.workspace.read(run.stage, "raw_songs", columns).to_pandas()
    rejected = 0
    wrong = np.zeros(len(table), bool)
    if mismatches is not None:
        batch = taste_profile.read_mismatches(mismatches)
        rejected = batch.rejects.num_rows
        run.write(batch.rejects, "mismatch_rejects")
        pairs = set(zip(*(batch.table[name].to_pylist() for name in columns), strict=True))
        wrong = np.fromiter(
            (pair in pairs for pair in zip(table.song_id, table.track_id, strict=True)),
            bool,
            len(table),
        )
    right = table[~wrong].sort_values("track_id", kind="stable")
    kept = right.drop_duplicates("track_id").drop_duplicates("song_id")
    run.write(pa.table({"track_id": pa.array(kept.track_id, pa.string())}), "kept")
    mismatched = set(table.song_id[wrong]) - set(kept.song_id)
    run.write(pa.table({"song_id": pa.array(sorted(mismatched), pa.string())}), "mismatched")
    return {
        "tracks_mismatched": int(wrong.sum()),
        "tracks_sharing_a_song_id": len(right) - len(kept),
        "mismatch_lines_rejected": rejected,
    }


def _keep_catalogued(run: StageRun, shard: Shard) -> Written:
    part = shard.part
    kept = run.workspace.read(run.stage, "kept")["track_id"].combine_chunks()
    raw = run.workspace.read_part(run.stage, "raw_songs", part_name(part))
    table = raw.filter(pc.is_in(raw["track_id"], value_set=kept))
    # A track listed twice within one part: the first reading stays.
    first = np.unique(table["track_id"].to_numpy(zero_copy_only=False), return_index=True)[1]
    table = table.take(np.sort(first))
    run.write(table, "songs", part)
    return Written(table.num_rows)
