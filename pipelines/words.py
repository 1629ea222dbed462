"""TF-IDF weights of words, by which pretrain and embed choose a song's most significant ones."""

from __future__ import annotations

from functools import partial, reduce
from operator import add

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fusionrec.features.lyrics import tfidf
from pipelines.config import Config
from pipelines.runtime.shards import Shard, shards_of
from pipelines.runtime.workspace import StageRun, Workspace, part_name


def training_lyrics(workspace: Workspace, part: str) -> pa.Table:
    """The bags of one part's training songs."""
    songs = workspace.read_part("ingest", "songs", part, ["track_id"])["track_id"]
    split = workspace.read_part("split", "split", part, ["part"])["part"]
    train = songs.filter(pc.equal(split, "train")).combine_chunks()
    lyrics = workspace.read_part("ingest", "lyrics", part)
    return lyrics.filter(pc.is_in(lyrics["track_id"], value_set=train))


def lyrics_weights(config: Config, run: StageRun) -> np.ndarray:
    """TF-IDF weights of the words, fitted on the training songs' bags by map-reduce."""
    from pipelines.runtime import sharding  # brings Ray with it

    shards = shards_of(run.workspace, "ingest", "lyrics")
    words = run.workspace.read("ingest", "vocabulary").num_rows
    reports = sharding.map_shards(
        run, partial(_count, run.workspace, words), shards, description="document frequencies"
    )
    return tfidf.word_weights(reduce(add, reports), config.embed.lyrics.tfidf)


def stored_weights(workspace: Workspace, scheme: tfidf.Scheme) -> np.ndarray:
    """The same of a finished workspace, in this process: the counts are whole numbers."""
    words = workspace.read("ingest", "vocabulary").num_rows
    shards = shards_of(workspace, "ingest", "lyrics")
    return tfidf.word_weights(reduce(add, (_count(workspace, words, s) for s in shards)), scheme)


def _count(workspace: Workspace, words: int, shard: Shard) -> tfidf.Statistics:
    return tfidf.count(training_lyrics(workspace, part_name(shard.part)), words)
