"""Ingest: the official files into Parquet, with every rejection listed and counted.

Shards of the source are read in parallel by Ray Data, and each task writes its own
parts. What is not per shard runs in single tasks, never on the driver; at a million
songs and a million users the largest hold

- the catalogue task: (song_id, track_id) of every track, about 100 MB;
- the lyrics join: the musiXmatch bags, 237,662 x 80 pairs, about 100 MB;
- the users task: a dictionary of all user ids, and 128 bits of a hash of each, about 200 MB;
- the names task: what all songs are called and 128 bits of a hash of each id, about 250 MB;
- the artists task, where `source.other_songs` is named: 45,000 artists with their terms, tags and
  similar artists, about 150 MB;
- the song ids broadcast through the object store, 40 MB.

The driver holds the listing of the tree (50 MB at a million files) and a report a shard.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from fusionrec import schemas
from pipelines.config import Config
from pipelines.ingest.catalogue import STAGING as CATALOGUE
from pipelines.ingest.crashes import NOTES
from pipelines.ingest.listing import source_state
from pipelines.ingest.lookup import STAGING as LOOKUP
from pipelines.ingest.lookup import write_song_names
from pipelines.ingest.lyrics import STAGING as LYRICS
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
    *LYRICS,
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
    counts = {**songs, **lyrics, **plays, **others}
    counts |= tasks.run_task(run, _merge_rejects, run)
    run.write_json(counts, "report.json")
    return counts


def _merge_rejects(run: StageRun) -> Counts:
    actions = dict.fromkeys(schemas.REJECT_ACTIONS, 0)
    for number, artifact in enumerate(_REJECTS):
        tables = [
            run.workspace.read_part(run.stage, artifact, part)
            for part in run.workspace.parts(run.stage, artifact)
        ]
        table = pa.concat_tables([schemas.REJECTS.empty_table(), *tables])
        run.write(table, "rejects", number)
        for row in pc.value_counts(table["action"].combine_chunks()).to_pylist():
            actions[row["values"]] += row["counts"]
        for row in pc.value_counts(table["reason"].combine_chunks()).to_pylist():
            metrics.count("fusionrec_rejects", row["counts"], source=artifact, reason=row["values"])
    return {"rejects": actions}


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
