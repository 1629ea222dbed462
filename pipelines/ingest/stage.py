"""Ingest: the official files into Parquet, with every rejection listed and counted.

Shards of the source go through two operators of Ray Data, of which one reads them and the other
writes their parts (:mod:`pipelines.ingest.reading`). What brings shards together (tracks and songs
by id, lyrics, codes of users and songs, plays by user) does so by pieces, two passes of plain tasks
each (:mod:`pipelines.runtime.exchange`): a task holds a shard or a piece, of which there are the
more, the more there is. A small corpus is one piece.

Three single tasks are left: the artists, where `source.other_songs` is named (45,000 of them with
their terms, tags and similar artists take about 150 MB), the mismatched pairs, which every piece of
the catalogue reads, and the rejects, which are copied part by part. The driver holds a report a
shard; the listing of a tree lies in a temporary file.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from fusionrec import schemas
from pipelines.config import Config
from pipelines.ingest.catalogue import STAGING as CATALOGUE
from pipelines.ingest.crashes import NOTES
from pipelines.ingest.listing import source_state
from pipelines.ingest.lookup import STAGING as LOOKUP
from pipelines.ingest.lookup import write_song_names
from pipelines.ingest.lyrics import JOIN as LYRICS
from pipelines.ingest.lyrics import read_lyrics
from pipelines.ingest.others import describe_others
from pipelines.ingest.plays import read_plays
from pipelines.ingest.song_codes import STAGING as SONG_CODES
from pipelines.ingest.songs import read_songs
from pipelines.ingest.user_codes import STAGING as USER_CODES
from pipelines.runtime import metrics, tasks
from pipelines.runtime.stage import Counts, Stage
from pipelines.runtime.workspace import StageRun, Workspace

_STAGING = (
    "raw_songs",
    *CATALOGUE,
    "mismatched",
    "mismatched_pairs",
    *LYRICS.staging,
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
_REJECTS = (
    "listing_rejects",
    "song_rejects",
    "song_exclusions",
    "mismatch_rejects",
    "lyrics_rejects",
    "lyrics_unmatched",
    "play_rejects",
    "play_unmatched",
    "other_song_rejects",
)


_REJECTS_AT_ONCE = 1 << 18


def work(config: Config, workspace: Workspace, run: StageRun) -> Counts:
    """Read songs, then lyrics, then plays, then what is known of the other songs played.

    Last comes what finds a song among them.
    """
    limit = config.ingest.max_reject_share
    songs, catalogued = read_songs(config, run, limit)
    lyrics = read_lyrics(config, run, limit, catalogued)
    plays = read_plays(config, run, limit, catalogued.sizes)
    others, other_sizes = describe_others(config, run, limit)
    write_song_names(run, (catalogued.sizes, other_sizes))
    each = {"songs": songs, "lyrics": lyrics, "plays": plays, "other_songs": others}
    streams = {name: of["stream"] for name, of in each.items() if "stream" in of}
    counts = {**songs, **lyrics, **plays, **others}
    del counts["stream"]
    counts |= tasks.run_task(run, _merge_rejects, run)
    run.write_json(counts, "report.json")
    return {**counts, "streams": streams}  # whose seconds are others each time: in no artifact


def _merge_rejects(run: StageRun) -> Counts:
    actions = dict.fromkeys(schemas.REJECT_ACTIONS, 0)
    for number, (artifact, table) in enumerate(_rejects(run)):
        run.write(table, "rejects", number)
        for row in pc.value_counts(table["action"].combine_chunks()).to_pylist():
            actions[row["values"]] += row["counts"]
        for row in pc.value_counts(table["reason"].combine_chunks()).to_pylist():
            metrics.count("fusionrec_rejects", row["counts"], source=artifact, reason=row["values"])
    return {"rejects": actions}


def _rejects(run: StageRun) -> Iterator[tuple[str, pa.Table]]:
    """What was rejected of each source, in tables of some :data:`_REJECTS_AT_ONCE` rows."""
    for artifact in _REJECTS:
        tables = [schemas.REJECTS.empty_table()]
        rows = 0
        for part in run.workspace.parts(run.stage, artifact):
            tables.append(run.workspace.read_part(run.stage, artifact, part))
            rows += tables[-1].num_rows
            if rows >= _REJECTS_AT_ONCE:
                yield artifact, pa.concat_tables(tables)
                tables, rows = [schemas.REJECTS.empty_table()], 0
        yield artifact, pa.concat_tables(tables)


STAGE = Stage(
    name="ingest",
    needs=lambda config: (),
    settings=lambda config: {
        "source": config.source.model_dump(),
        "ingest": config.ingest.model_dump(exclude={"max_reject_share"}),
    },
    work=work,
    source=source_state,
    version=4,
    staging=(*_STAGING, *_REJECTS, NOTES),
    published=("report.json",),
)
