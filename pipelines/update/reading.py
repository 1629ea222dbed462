"""New files read as ingest reads them: songs, vectors, lyrics and plays, and what is rejected.

What ingest makes of the files is numbered by them alone; who and what of it the run before knows is
found later (:mod:`pipelines.update.numbering`). Lyrics keep their words: the vocabulary that they
are counted by is that of the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from fusionrec import schemas
from fusionrec.formats.tables.spec import TableSpec
from pipelines.config import Config
from pipelines.ingest import stage as ingest
from pipelines.ingest.catalogue import Catalogued, catalogue
from pipelines.ingest.joining import Join, arrived
from pipelines.ingest.plays import RawPlays, read_plays, read_raw_plays
from pipelines.ingest.song_groups import SongGroup
from pipelines.ingest.sources import Origin
from pipelines.ingest.table_lyrics import JOIN, key_of, match_lyrics
from pipelines.ingest.table_songs import read_table_songs, songs_played
from pipelines.ingest.tables import table_shards
from pipelines.ingest.vectors import JOIN as VECTORS
from pipelines.ingest.vectors import read_vectors
from pipelines.runtime import tasks
from pipelines.runtime.shards import Written
from pipelines.runtime.stage import Counts, Json, resumable
from pipelines.runtime.workspace import StageRun, Workspace
from pipelines.update.sources import NewTables

LYRICS = "read_lyrics"
"""Of the songs' parts, those that have lyrics: `song_id`, `words` with `counts`, and `text`."""

STAGING = (
    *ingest.STAGING,
    *("songs", "lyrics", "users", "user_index", "plays", "other_plays"),
    *("play_times", "other_play_times", LYRICS),
)
"""What is left by ingest's parts, and only read here: rejects aside."""


@dataclass(frozen=True)
class Read:
    """What was read.

    Attributes
    ----------
    sizes
        Songs of each part of `songs`; those of the run are among them.
    modalities
        Vectors of one's own that were read.
    plays
        Whether any were.
    counts
        As ingest has them, by kind.
    origins
        Where the rows of each part of `raw_songs` come from; None where songs are those played.
    """

    sizes: tuple[int, ...]
    modalities: tuple[str, ...]
    plays: bool
    counts: dict[str, Counts]
    origins: tuple[Origin, ...] | None


def read_new(config: Config, workspace: Workspace, run: StageRun, new: NewTables) -> Read:
    """Read all new files."""
    limit, tables = config.ingest.max_reject_share, new.tables
    plays: RawPlays | None = None
    if "plays" in tables:
        plays = read_raw_plays(config, run, limit, tables["plays"])
    songs, catalogued, places = _songs(config, run, limit, new, plays)
    counts: dict[str, Counts] = {"songs": songs}
    before = "features."
    features = {n.removeprefix(before): spec for n, spec in tables.items() if n.startswith(before)}
    if features:
        known = workspace.require("ingest")["counts"]["vectors"]
        lengths = {name: known[name]["dimension"] for name in features}
        counts["vectors"] = read_vectors(
            config, run, limit, catalogued, features, lengths, join=_of_new(VECTORS)
        )
    if "lyrics" in tables:
        counts["lyrics"] = _lyrics(config, run, limit, new, tables["lyrics"], catalogued)
    if plays is not None:
        counts["plays"] = read_plays(config, run, limit, catalogued.sizes, plays)
    return Read(catalogued.sizes, tuple(features), plays is not None, counts, places)


def _of_new(join: Join) -> Join:
    """Of a song of the run, what is new is not looked at: its vector stays as it is."""
    return replace(join, missing="of no new song")


def _songs(
    config: Config, run: StageRun, limit: float, new: NewTables, plays: RawPlays | None
) -> tuple[Counts, Catalogued, tuple[Origin, ...] | None]:
    """Songs of new files; where no table has songs, those that are played."""
    if "songs" in new.tables:
        spec = new.tables["songs"]
        shards, _ = table_shards(config, run, spec, "source.tables.songs")
        counts, songs, places = read_table_songs(config, run, limit, spec, shards)
        return counts, songs, tuple(places)
    if new.whole.songs is None and plays is not None:
        return *songs_played(config, run, plays), None
    tasks.run_task(run, _no_song, run)
    counts, songs = catalogue(run, [0], None, "song_id")
    return {**counts, "songs": 0}, songs, None


def _no_song(run: StageRun) -> None:
    run.write(schemas.SONGS.empty_table(), "raw_songs")


def _lyrics(
    config: Config,
    run: StageRun,
    limit: float,
    new: NewTables,
    spec: TableSpec,
    songs: Catalogued,
) -> Counts:
    shards, _ = table_shards(config, run, spec, "source.tables.lyrics")
    assert new.whole.lyrics is not None
    key = tasks.run_task(run, key_of, new.whole.lyrics, new.whole.songs)
    join = replace(_of_new(JOIN), key=key)
    read = match_lyrics(run, limit, spec, shards, join, songs)
    work = resumable(run, LYRICS, partial(_collect, run, join, [s.part for s in shards]), Written)
    tasks.map_tasks(run, work, songs.groups, description="lyrics of songs")
    return {
        **read.counts,
        "songs_with_lyrics": sum(found.songs for found in read.matched),
        "lyrics_of_other_songs": sum(found.others for found in read.matched),
    }


def _collect(run: StageRun, join: Join, shards: Sequence[int], group: SongGroup) -> Written:
    """Write the lyrics of a group's parts, in the order of their songs, as they were read."""
    written = 0
    for part, songs, rows in arrived(run, join, group, shards):
        songs = songs.filter(pc.is_valid(songs["place"]))
        rows = rows.take(songs["place"])
        columns = {name: rows[name] for name in ("words", "counts", "text")}
        run.write(pa.table({"song_id": songs["song_id"], **columns}), LYRICS, part)
        written += len(rows)
    return Written(written)


def counts_of(read: Read) -> dict[str, Json]:
    """All counts, without how the reading went."""
    found: dict[str, Json] = {}
    for of in read.counts.values():
        found |= {name: count for name, count in of.items() if name != "stream"}
    return found
