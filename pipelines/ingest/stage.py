"""Ingest: the official files, or tables, into Parquet, with every rejection listed and counted.

Shards of the source go through two operators of Ray Data, of which one reads them and the other
writes their parts (:mod:`pipelines.ingest.reading`). What brings shards together (tracks and songs
by id, lyrics, codes of users and songs, plays by user) does so by pieces, two passes of plain tasks
each (:mod:`pipelines.runtime.exchange`): a task holds a shard or a piece, of which there are the
more, the more there is. A small corpus is one piece.

Single tasks are left for a few things: the artists, where `source.other_songs` is named (45,000 of
them with their terms, tags and similar artists take about 150 MB), the mismatched pairs, which each
piece of the catalogue reads, the most frequent words of tables' lyrics, of which each piece tells
its own, and the rejects, which are copied part by part. The driver holds a report a shard; the
listing of a tree lies in a temporary file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fusionrec import schemas
from pipelines.config import Config
from pipelines.ingest.catalogue import STAGING as CATALOGUE
from pipelines.ingest.crashes import NOTES
from pipelines.ingest.listing import source_state
from pipelines.ingest.looking import look_into_tables
from pipelines.ingest.lookup import STAGING as LOOKUP
from pipelines.ingest.lookup import write_song_names
from pipelines.ingest.lyrics import JOIN as LYRICS
from pipelines.ingest.lyrics import read_lyrics
from pipelines.ingest.others import describe_others
from pipelines.ingest.plays import read_plays, read_raw_plays
from pipelines.ingest.song_codes import STAGING as SONG_CODES
from pipelines.ingest.songs import read_songs
from pipelines.ingest.table_lyrics import STAGING as TABLE_LYRICS
from pipelines.ingest.table_lyrics import read_table_lyrics
from pipelines.ingest.table_songs import STAGING as TABLE_SONGS
from pipelines.ingest.table_songs import read_table_songs, songs_played
from pipelines.ingest.tables import check_source, is_tables, reads_times, table_specs
from pipelines.ingest.user_codes import STAGING as USER_CODES
from pipelines.ingest.vectors import JOIN as VECTORS
from pipelines.ingest.vectors import read_vectors
from pipelines.runtime import metrics, tasks
from pipelines.runtime.stage import Counts, Json, Stage
from pipelines.runtime.workspace import StageRun, Workspace

STAGING = (
    "raw_songs",
    *CATALOGUE,
    "mismatched",
    "mismatched_pairs",
    *LYRICS.staging,
    *VECTORS.staging,
    *TABLE_LYRICS,
    *TABLE_SONGS,
    "raw_plays",
    "raw_users",
    *USER_CODES,
    "sent_plays",
    "sent_other_plays",
    "raw_played",
    *SONG_CODES,
    *LOOKUP,
    "other_ids",
    "artists",
)
"""What the parts leave behind, beside rejects."""

REJECTS = (
    "listing_rejects",
    "song_rejects",
    "song_exclusions",
    "mismatch_rejects",
    "vector_rejects",
    VECTORS.unmatched,
    "lyrics_rejects",
    LYRICS.unmatched,
    "play_rejects",
    "play_unmatched",
    "other_song_rejects",
)
"""What lists rejects, before they are one list."""

_REJECTS_AT_ONCE = 1 << 18


def work(config: Config, workspace: Workspace, run: StageRun) -> Counts:
    """Read songs, then lyrics, then plays, then what is known of the other songs played.

    Last comes what finds a song among them.
    """
    limit = config.ingest.max_reject_share
    each = (_tables if is_tables(config) else _official)(config, run, limit)
    streams = {name: of["stream"] for name, of in each.items() if "stream" in of}
    counts: dict[str, Json] = {}
    for found in each.values():
        counts |= {name: count for name, count in found.items() if name != "stream"}
    counts |= tasks.run_task(run, merge_rejects, run, REJECTS)
    run.write_json(counts, "report.json")
    return {**counts, "streams": streams}  # whose seconds are others each time: in no artifact


def _official(config: Config, run: StageRun, limit: float) -> dict[str, Counts]:
    """The Million Song Dataset's files."""
    songs, catalogued = read_songs(config, run, limit)
    lyrics = read_lyrics(config, run, limit, catalogued)
    plays = read_plays(config, run, limit, catalogued.sizes)
    others, other_sizes = describe_others(config, run, limit)
    write_song_names(run, (catalogued.sizes, other_sizes))
    return {"songs": songs, "lyrics": lyrics, "plays": plays, "other_songs": others}


def _tables(config: Config, run: StageRun, limit: float) -> dict[str, Counts]:
    """Tables of one's own. Where none has the songs, these are the ones that are played."""
    specs = table_specs(config)
    tasks.run_task(run, look_into_tables, specs)
    read = None
    if specs.songs is not None:
        songs, catalogued, _ = read_table_songs(config, run, limit, specs.songs)
    else:
        read = read_raw_plays(config, run, limit)
        songs, catalogued = songs_played(config, run, read)
    vectors = read_vectors(config, run, limit, catalogued, specs.features)
    lyrics = read_table_lyrics(config, run, limit, catalogued, specs)
    plays = read_plays(config, run, limit, catalogued.sizes, read)
    others, other_sizes = describe_others(config, run, limit)
    write_song_names(run, (catalogued.sizes, other_sizes))
    each = {"songs": songs, "vectors": vectors, "lyrics": lyrics, "plays": plays}
    alignment = {"alignment": _alignment(each)}
    return {**each, "other_songs": others, "alignment": alignment}


def _alignment(each: Mapping[str, Counts]) -> Counts:
    """How far tables fit together: what one names that the songs lack, and what comes twice."""
    songs, vectors, lyrics, plays = each.values()
    return {
        "songs_repeated": songs.get("songs_repeated", 0),
        "songs_in_plays_without_metadata": plays["other_songs"],
        "lyrics_of_unknown_songs": lyrics.get("lyrics_of_other_tracks", 0),
        "lyrics_repeated": lyrics.get("lyrics_repeated", 0),
        "vectors_of_unknown_songs": vectors.get("vectors_of_unknown_songs", {}),
        "vectors_repeated": vectors.get("vectors_repeated", {}),
    }


def merge_rejects(run: StageRun, artifacts: Sequence[str]) -> Counts:
    """What these list to `rejects`, and how many of each action there are."""
    actions = dict.fromkeys(schemas.REJECT_ACTIONS, 0)
    for number, (artifact, table) in enumerate(_rejects(run, artifacts)):
        run.write(table, "rejects", number)
        for row in pc.value_counts(table["action"].combine_chunks()).to_pylist():
            actions[row["values"]] += row["counts"]
        for row in pc.value_counts(table["reason"].combine_chunks()).to_pylist():
            metrics.count("fusionrec_rejects", row["counts"], source=artifact, reason=row["values"])
    return {"rejects": actions}


def _rejects(run: StageRun, artifacts: Sequence[str]) -> Iterator[tuple[str, pa.Table]]:
    """What was rejected of each source, in tables of some :data:`_REJECTS_AT_ONCE` rows."""
    for artifact in artifacts:
        tables = [schemas.REJECTS.empty_table()]
        rows = 0
        for part in run.workspace.parts(run.stage, artifact):
            tables.append(run.workspace.read_part(run.stage, artifact, part))
            rows += tables[-1].num_rows
            if rows >= _REJECTS_AT_ONCE:
                yield artifact, pa.concat_tables(tables)
                tables, rows = [schemas.REJECTS.empty_table()], 0
        yield artifact, pa.concat_tables(tables)


_OF_TABLES = {"format", "tables"}


def _settings(config: Config) -> dict[str, Any]:
    """What the source's format reads; of the other formats nothing."""
    source, ingest = config.source, config.ingest
    if is_tables(config):
        return {
            "source": source.model_dump(include={"root", *_OF_TABLES}),
            "times": reads_times(config),
            "ingest": ingest.model_dump(include={"rows_per_shard", "bytes_per_shard"}),
        }
    return {
        "source": source.model_dump(exclude=_OF_TABLES),
        "ingest": ingest.model_dump(exclude={"max_reject_share"}),
    }


STAGE = Stage(
    name="ingest",
    needs=lambda config: (),
    settings=_settings,
    work=work,
    source=source_state,
    check=check_source,
    version=6,
    staging=(*STAGING, *REJECTS, NOTES),
    published=("report.json",),
)
