"""Ingest of tables: the words that lyrics are counted by, found without all of them in one place.

A shard says in how many of its lyrics each word is, to the words' pieces; a piece adds up and keeps
its most frequent; one task takes the most frequent of these.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fusionrec import schemas
from fusionrec.formats.musixmatch_lines import MAX_COUNT
from fusionrec.hashing import piece_of
from pipelines.runtime import tasks
from pipelines.runtime.exchange import gather, scatter
from pipelines.runtime.shards import Shard, Written
from pipelines.runtime.stage import resumable
from pipelines.runtime.workspace import StageRun, part_name

WORDS_A_PIECE = 1 << 19
"""Words that one task counts, on average, those of each shard counted: some 100 MB.

Another number would mix with what an unfinished run left: raise the stage's version with it.
"""

STAGING = ("sent_words", "frequent_words")

_ORDER = [("songs", "descending"), ("word", "ascending")]


def pieces_of_words(words: int) -> int:
    """Into how many pieces words fall, of which there are so many, those of each shard counted."""
    return max(1, -(-words // WORDS_A_PIECE))


def send_words(run: StageRun, pieces: int, lyrics: pa.Table, part: int) -> None:
    """Tell the pieces in how many of a shard's lyrics each word is.

    Parameters
    ----------
    lyrics
        With a column `words`, of lists of words.
    """
    words = lyrics["words"].combine_chunks()
    found = pc.list_flatten(words).dictionary_encode()
    row = pc.list_parent_indices(words).to_numpy().astype(np.int64)
    # A word counts once for each song, however often it is named there.
    pairs = np.unique(row << 32 | found.indices.to_numpy())
    songs = np.bincount(pairs & 0xFFFFFFFF, minlength=len(found.dictionary)).astype(np.int64)
    table = pa.table({"word": found.dictionary, "songs": songs})
    scatter(run, table, piece_of(table["word"], pieces), pieces, "sent_words", part)


def write_vocabulary(run: StageRun, pieces: int, shards: int, size: int) -> int:
    """Write `vocabulary`: the words of the most lyrics, ties in the order of words.

    Parameters
    ----------
    shards
        That :func:`send_words` was called for, from 0 on.
    size
        Words at most.

    Returns
    -------
    How many there are.
    """
    count = resumable(run, "frequent_words", partial(_most_frequent, run, shards, size), Written)
    each = [Shard(piece) for piece in range(pieces)]
    tasks.map_tasks(run, count, each, description="counting words")
    return tasks.run_task(run, _merge, run, pieces, size)


def _most_frequent(run: StageRun, shards: int, size: int, piece: Shard) -> Written:
    sent = pa.concat_tables(gather(run, "sent_words", piece.part, range(shards)))
    added = sent.group_by("word").aggregate([("songs", "sum")])
    table = pa.table({"word": added["word"], "songs": added["songs_sum"]})
    table = table.sort_by(_ORDER).slice(0, size)
    run.write(table, "frequent_words", piece.part)
    return Written(table.num_rows)


def _merge(run: StageRun, pieces: int, size: int) -> int:
    found = [
        run.workspace.read_part(run.stage, "frequent_words", part_name(piece))
        for piece in range(pieces)
    ]
    table = pa.concat_tables(found).sort_by(_ORDER).slice(0, size)
    run.write(table.select(["word"]).cast(schemas.VOCABULARY), "vocabulary")
    return int(table.num_rows)


def as_bags(tracks: pa.Array, lyrics: pa.Table, vocabulary: pa.Array) -> pa.Table:
    """Lyrics counted by the vocabulary, schema :data:`fusionrec.schemas.LYRICS`.

    Parameters
    ----------
    tracks
        Of each row, the track id.
    lyrics
        With columns `words` and `counts`, lists of equal length.
    vocabulary
        Words that are not in it are left out.
    """
    words, counts = (lyrics[name].combine_chunks() for name in ("words", "counts"))
    row = pc.list_parent_indices(words).to_numpy().astype(np.int64)
    count = pc.list_flatten(counts).to_numpy()
    place = pc.index_in(pc.list_flatten(words), value_set=vocabulary)
    kept = pc.is_valid(place).to_numpy(zero_copy_only=False)
    key = row[kept] << 32 | place.drop_null().to_numpy().astype(np.int64)
    pairs, at = np.unique(key, return_inverse=True)
    total = np.bincount(at, count[kept], len(pairs))
    bounds = np.searchsorted(pairs >> 32, np.arange(len(lyrics) + 1)).astype(np.int32)
    lists = [
        pa.ListArray.from_arrays(pa.array(bounds), pa.array(values.astype(np.int16)))
        for values in (pairs & 0xFFFFFFFF, np.minimum(total, MAX_COUNT))
    ]
    none = pa.nulls(len(lyrics), pa.int32())
    return pa.Table.from_arrays([tracks, none, *lists], schema=schemas.LYRICS)
