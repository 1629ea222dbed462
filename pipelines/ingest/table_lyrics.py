"""Ingest of tables: lyrics, as text or as words with their counts, matched to the songs.

Their words become bags of a vocabulary of the corpus's own; text stays beside them as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from fusionrec import schemas
from fusionrec.errors import SourceError
from fusionrec.formats.tables import columns_of, read_lyrics, table_files
from fusionrec.formats.tables.spec import TableSpec
from pipelines.config import Config
from pipelines.ingest.catalogue import Catalogued, Key
from pipelines.ingest.joining import Join, Matched, Seen, arrived, send_to_songs
from pipelines.ingest.lyrics import NONE, counts_of
from pipelines.ingest.reading import Tables, read_shards
from pipelines.ingest.song_groups import SongGroup
from pipelines.ingest.sources import ReadReport, origins, report, totals, with_lines
from pipelines.ingest.tables import Specs, TableShard, table_shards
from pipelines.ingest.vocabulary import STAGING as VOCABULARY
from pipelines.ingest.vocabulary import as_bags, pieces_of_words, send_words, write_vocabulary
from pipelines.runtime import tasks
from pipelines.runtime.shards import Shard, Written
from pipelines.runtime.stage import Counts, Json, resumable
from pipelines.runtime.workspace import StageRun, part_name

JOIN = Join("lyrics", "song_id", others="raw_other_lyrics")

STAGING = (*VOCABULARY, "raw_other_lyrics")


@dataclass(frozen=True)
class LyricsReport(ReadReport):
    """With the number of different words, and of lyrics that have a text."""

    words: int
    texts: int


@dataclass(frozen=True)
class LyricsRead:
    """Lyrics that were read and matched: the report of each shard, and what was found in it."""

    reports: list[LyricsReport]
    matched: list[Matched]
    total: ReadReport
    stream: Json

    @property
    def counts(self) -> Counts:
        """Of rows, and of those that are of no use."""
        return {
            "lyrics": self.total.rows,
            "lyrics_rejected": self.total.dropped,
            "lyrics_rejects": self.total.reasons,
            "stream": self.stream,
        }


def read_table_lyrics(
    config: Config, run: StageRun, limit: float, songs: Catalogued, specs: Specs
) -> Counts:
    """Lyrics to `lyrics` and `lyrics_text`, in parts aligned with those of `songs`.

    Those of no song go to `other_lyrics`.

    Raises
    ------
    SourceError, TooManyRejectsError
        The tables are not there, say otherwise than the songs which song is meant, or have no
        words, or too many rows that are of no use.
    """
    spec = specs.lyrics
    if spec is None:
        return NONE
    shards, columns = table_shards(config, run, spec, "source.tables.lyrics")
    join = replace(JOIN, key=tasks.run_task(run, key_of, spec, specs.songs))
    pieces = 0

    def seen_words(reports: Sequence[LyricsReport]) -> Seen:
        nonlocal pieces
        pieces = pieces_of_words(sum(found.words for found in reports))
        return partial(send_words, run, pieces)

    read = match_lyrics(run, limit, spec, shards, join, songs, seen=seen_words)
    words = write_vocabulary(run, pieces, len(shards), config.source.tables.vocabulary)
    if not words:
        raise SourceError(
            f"{', '.join(spec.paths)}: no lyrics have a word; mend source.tables.lyrics, or leave "
            "it out"
        )
    parts = [shard.part for shard in shards]
    collect = partial(_collect, run, join, parts, "text" in columns)
    for name, work, over in (
        ("lyrics_of_songs", collect, songs.groups),
        ("other_lyrics", partial(_count_others, run, join.key), shards),
    ):
        tasks.map_tasks(
            run, resumable(run, name, work, Written), over, description="counting words"
        )
    return {
        **read.counts,
        "lyrics_as_text": sum(found.texts for found in read.reports),
        "vocabulary": words,
        **counts_of(read.matched),
    }


def match_lyrics(
    run: StageRun,
    limit: float,
    spec: TableSpec,
    shards: Sequence[TableShard],
    join: Join,
    songs: Catalogued,
    seen: Callable[[Sequence[LyricsReport]], Seen] | None = None,
) -> LyricsRead:
    """Read lyrics to `raw_lyrics` and send each to the group of its song.

    Parameters
    ----------
    seen
        By what was read, what else is done with each row that is sent.

    Raises
    ------
    TooManyRejectsError
        More than `limit` of the rows are of no use.
    """
    reports, stream = read_shards(
        run,
        "lyrics",
        partial(read_shard, join.key),
        shards,
        ["raw_lyrics", "lyrics_rejects"],
        LyricsReport,
        description="reading lyrics",
    )
    total = totals(reports, limit, "lyrics", ", ".join(spec.paths))
    (matched,) = send_to_songs(
        run,
        join,
        [shards],
        songs,
        description="matching lyrics",
        origins=origins(shards, reports),
        seen=seen(reports) if seen else None,
    )
    return LyricsRead(reports, matched, total, stream)


def key_of(spec: TableSpec, songs: TableSpec | None) -> Key:
    """What the ids in lyrics are: tracks' if they have a column of them, else songs'.

    Raises
    ------
    SourceError
        Some files of lyrics have tracks' ids and others not, or the songs have none.
    """
    paths = table_files(spec)
    by_track = [path for path in paths if "track_id" in columns_of(path, spec)]
    if not by_track:
        return "song_id"
    tracks = songs is not None and all(
        "track_id" in columns_of(p, songs) for p in table_files(songs)
    )
    if not tracks or by_track != paths:
        where = "source.tables.songs has none" if not tracks else "other files of lyrics have none"
        raise SourceError(
            f"{by_track[0]}: has a column track_id, where {where}; rename it, or name the songs' "
            "ids in source.tables.lyrics.columns, as {song_id: track_id}"
        )
    return "track_id"


def read_shard(key: Key, shard: TableShard) -> tuple[Tables, LyricsReport]:
    """Lyrics of a shard: what they are found by, `words` with their `counts`, and `text`."""
    batch = read_lyrics(shard.path, shard.spec, shard.start, shard.stop)
    table = batch.table.rename_columns(
        [key if name == "track_id" else name for name in batch.table.column_names]
    )
    found = {"raw_lyrics": with_lines(batch, table), "lyrics_rejects": shard.rejects(batch)}
    words = pc.unique(pc.list_flatten(table["words"]))
    texts = len(table) - table["text"].null_count
    return found, LyricsReport(**vars(report(batch)), words=len(words), texts=texts)


def _vocabulary(run: StageRun) -> pa.Array:
    return run.workspace.read(run.stage, "vocabulary")["word"].combine_chunks()


def _collect(
    run: StageRun, join: Join, shards: Sequence[int], text: bool, group: SongGroup
) -> Written:
    """Write the lyrics of a group's parts, in the order of their songs."""
    vocabulary, written = _vocabulary(run), 0
    for part, songs, rows in arrived(run, join, group, shards):
        songs = songs.filter(pc.is_valid(songs["place"]))
        rows = rows.take(songs["place"])
        tracks = songs["track_id"].combine_chunks()
        run.write(as_bags(tracks, rows, vocabulary), "lyrics", part)
        if text:
            texts = rows["text"].combine_chunks()
            table = pa.Table.from_arrays([tracks, texts], schema=schemas.LYRICS_TEXT)
            run.write(table.filter(pc.is_valid(texts)), "lyrics_text", part)
        written += len(rows)
    return Written(written)


def _count_others(run: StageRun, key: Key, shard: Shard) -> Written:
    rows = run.workspace.read_part(run.stage, "raw_other_lyrics", part_name(shard.part))
    ids = rows[key].combine_chunks()
    run.write(as_bags(ids, rows, _vocabulary(run)), "other_lyrics", shard.part)
    return Written(len(rows))
