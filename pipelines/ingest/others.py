"""Ingest, fourth part: what is known of the songs that have plays and no place in the catalogue.

Their ids come from the plays. `source.other_songs` has their metadata, `source.artist_terms` and
`source.artist_similarity` what it says of their artists; an artist that the catalogue has, too, has
the catalogue's terms, tags and similar artists, which come with weights and counts.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fusionrec import schemas
from fusionrec.errors import SourceError
from fusionrec.formats import msd_sqlite
from fusionrec.formats.batch import Batch, Rejects
from pipelines.config import Config
from pipelines.ingest.reading import Tables, read_shards
from pipelines.ingest.sources import (
    ReadReport,
    artist_databases,
    non_empty,
    report,
    source_path,
    totals,
)
from pipelines.ingest.tables import is_tables
from pipelines.runtime import tasks
from pipelines.runtime.shards import Shard, shards_of
from pipelines.runtime.stage import Counts
from pipelines.runtime.workspace import StageRun, part_name

_OF_ARTISTS = (("terms", "term_weights"), ("mbtags", "mbtag_counts"), ("similar_artists",))
"""Lists that an artist's songs share, with what stands beside each."""


@dataclass(frozen=True)
class Databases:
    """Where the SQLite databases lie, if anywhere."""

    songs: str | None
    terms: str | None
    similarity: str | None


@dataclass(frozen=True)
class OthersReport(ReadReport):
    """Of the tracks looked up, with the songs that something is known of."""

    songs: int
    with_metadata: int
    mismatched: int
    with_artist: int
    of_catalogue_artists: int
    with_terms: int
    with_similar_artists: int


def describe_others(config: Config, run: StageRun, limit: float) -> tuple[Counts, list[int]]:
    """`other_songs`, a row for each of the `other_ids`, with nulls for what no source knows.

    Also how many each part has.
    """
    name = None if is_tables(config) else config.source.other_songs
    path = source_path(config, name) if name else None
    if path is not None:
        if os.path.splitext(path)[1] != ".db":
            raise SourceError(f"{path}: source.other_songs must be a .db file: track_metadata.db")
        tasks.run_task(run, _write_artists, run)
    of_artists = (None, None) if path is None else artist_databases(config)
    databases = Databases(path, *of_artists)
    reports, stream = read_shards(
        run,
        "other_songs",
        partial(_describe, run, databases),
        shards_of(run.workspace, run.stage, "other_ids"),
        ["other_songs", "other_song_rejects"],
        OthersReport,
        description="describing other songs",
    )
    total = totals(reports, limit, "other songs", name or "")
    counts: Counts = {
        "other_songs_with_metadata": sum(found.with_metadata for found in reports),
        "other_songs_mismatched": sum(found.mismatched for found in reports),
        "other_songs_with_artist": sum(found.with_artist for found in reports),
        "other_songs_of_catalogue_artists": sum(found.of_catalogue_artists for found in reports),
        "other_songs_with_terms": sum(found.with_terms for found in reports),
        "other_songs_with_similar_artists": sum(found.with_similar_artists for found in reports),
        "other_song_rejects": total.reasons,
        "stream": stream,
    }
    return counts, [found.songs for found in reports]


def _write_artists(run: StageRun) -> None:
    """The catalogue's artists with their lists, those of the first song of each: `artists`."""
    workspace, stage = run.workspace, run.stage
    columns = ["artist_id", *(name for names in _OF_ARTISTS for name in names)]
    known: set[str | None] = {None}
    tables: list[pa.Table] = []
    for part in workspace.parts(stage, "songs"):
        songs = workspace.read_part(stage, "songs", part, columns)
        new: list[int] = []
        for row, artist in enumerate(songs["artist_id"].to_pylist()):
            if artist not in known:
                known.add(artist)
                new.append(row)
        tables.append(songs.take(pa.array(new, pa.int64())))
    run.write(pa.concat_tables(tables), "artists")


def _describe(run: StageRun, databases: Databases, shard: Shard) -> tuple[Tables, OthersReport]:
    workspace, stage = run.workspace, run.stage
    ids = workspace.read_part(stage, "other_ids", part_name(shard.part))["song_id"]
    ids = ids.combine_chunks()
    batch, wrong, of_catalogue = _nothing(), 0, 0
    if databases.songs is not None:
        batch, wrong = _look_up(run, databases, ids.to_pylist())
        artists = pc.unique(batch.table["artist_id"]).drop_null()
        theirs = workspace.read(
            stage, "artists", filters=pc.field("artist_id").isin(artists)
        ).combine_chunks()
        batch, of_catalogue = _with_lists(batch, theirs)
    songs = batch.table.take(pc.index_in(ids, value_set=batch.table["song_id"].combine_chunks()))
    songs = songs.set_column(songs.column_names.index("song_id"), "song_id", ids)
    tables = {"other_songs": songs.cast(schemas.SONGS), "other_song_rejects": batch.rejects}
    return tables, OthersReport(
        **vars(report(batch)),
        songs=len(songs),
        with_metadata=batch.table.num_rows,
        mismatched=wrong,
        with_artist=len(songs) - songs["artist_id"].null_count,
        of_catalogue_artists=of_catalogue,
        with_terms=non_empty(songs["terms"]),
        with_similar_artists=non_empty(songs["similar_artists"]),
    )


def _nothing() -> Batch:
    return Batch(schemas.SONGS.empty_table(), schemas.REJECTS.empty_table())


def _look_up(run: StageRun, databases: Databases, ids: Iterable[str]) -> tuple[Batch, int]:
    """The first sound track of each song, and how many songs have mismatched ones only.

    What a mismatched track says is said of another song than the one that was played.
    """
    assert databases.songs is not None
    batch = msd_sqlite.read_songs_of(
        databases.songs,
        ids,
        artist_term_db=databases.terms,
        artist_similarity_db=databases.similarity,
    )
    pairs: set[tuple[str, str]] = set()
    if run.workspace.parts(run.stage, "mismatched_pairs"):
        wrong = run.workspace.read(run.stage, "mismatched_pairs")
        names = ("song_id", "track_id")
        pairs = set(zip(*(wrong[name].to_pylist() for name in names), strict=True))
    rejects = Rejects()
    kept: dict[str, int] = {}
    mismatched: set[str] = set()
    tracks = batch.table["track_id"].to_pylist()
    for row, song in enumerate(batch.table["song_id"].to_pylist()):
        track = tracks[row]
        if (song, track) in pairs:
            mismatched.add(song)
            rejects.add("other_songs", track, "known mismatch", f"of song {song}", "excluded")
        elif kept.setdefault(song, row) != row:
            detail = f"{song}: {tracks[kept[song]]} is kept"
            rejects.add("other_songs", track, "song of another track", detail, "excluded")
    table = batch.table.take(pa.array(list(kept.values()), pa.int64()))
    found = pa.concat_tables([batch.rejects, rejects.to_table()])
    return Batch(table, found, None, batch.read, batch.damaged_text), len(mismatched - set(kept))


def _with_lists(batch: Batch, artists: pa.Table) -> tuple[Batch, int]:
    """The songs with their artists' lists where these are known, null where no source has any.

    Also how many songs have an artist of the catalogue.
    """
    table = batch.table.combine_chunks()
    value_set = artists["artist_id"].combine_chunks()
    places = pc.index_in(table["artist_id"], value_set=value_set)
    rows = np.arange(len(table))
    beyond = len(table) + pc.fill_null(places, 0).to_numpy()
    shared = pc.is_valid(places).to_numpy()
    for names in _OF_ARTISTS:
        both = pa.concat_tables([table.select(names), artists.select(names)])
        lengths = pc.fill_null(pc.list_value_length(both[names[0]]), 0).to_numpy()
        chosen = rows
        if len(artists):
            chosen = np.where(shared & (lengths[beyond] > 0), beyond, rows)
        taken = both.take(pa.array(chosen, mask=lengths[chosen] == 0))
        for name in names:
            table = table.set_column(table.column_names.index(name), name, taken[name])
    changed = Batch(table, batch.rejects, None, batch.read, batch.damaged_text)
    return changed, int(shared.sum())
