"""Ingest: which tracks are songs, decided by pieces, so that no task holds the ids of all.

Tracks first come together by track id, then what is left of them by song id, each time in pieces by
a hash; last, every group of parts is told which of its rows stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from fusionrec import schemas
from fusionrec.formats import taste_profile
from fusionrec.formats.batch import Rejects
from fusionrec.hashing import piece_of
from pipelines.ingest.song_groups import SongGroup, song_groups
from pipelines.ingest.sources import LINE, Origin, kept_row
from pipelines.runtime import tasks
from pipelines.runtime.exchange import gather, scatter
from pipelines.runtime.shards import Shard, Written
from pipelines.runtime.stage import Counts, resumable
from pipelines.runtime.workspace import StageRun, part_name

TRACKS_A_PIECE = 1 << 19
"""Tracks that one task tells apart, on average: some 300 MB.

Another number would mix with what an unfinished run left: raise the stage's version with it.
"""

STAGING = ("sent_tracks", "sent_of_songs", "kept_rows", "kept_tracks", "kept_songs")

Key = Literal["track_id", "song_id"]
"""What songs are found by: the Million Song Dataset's lyrics by track, tables by song."""

_IDS = ["song_id", "track_id"]
_REPEATED = "track read before"
_SOURCE = "songs"


@dataclass(frozen=True)
class Catalogued:
    """How the songs lie.

    Attributes
    ----------
    pieces
        Into how many pieces the tracks fell, by a hash of their ids: `sent_tracks` has those that
        were read, `kept_tracks` those that are songs. And into how many the songs did, by a hash of
        theirs: `kept_songs`.
    groups
        Of the parts of `songs`.
    sizes
        Songs of each part.
    """

    pieces: int
    groups: tuple[SongGroup, ...]
    sizes: tuple[int, ...]

    def by_part(self) -> Catalogued:
        """The same with a group for each part, for rows so wide that those of a group are many.

        Only what is found by `song_id` can be told where its songs are by these.
        """
        parts = [part for group in self.groups for part in group.parts]
        firsts = [0, *accumulate(self.sizes)]
        groups = [SongGroup(n, firsts[n], (part,)) for n, part in enumerate(parts)]
        return replace(self, groups=tuple(groups))

    def group_of(self, parts: np.ndarray) -> np.ndarray:
        """The group of each of some parts."""
        return _group_of(self.groups, parts)


@dataclass(frozen=True)
class TracksReport:
    """Tracks of a piece that are left out."""

    mismatched: int
    repeated: int


@dataclass(frozen=True)
class GroupReport:
    """Songs of each part of a group."""

    rows: list[int]


def catalogue(
    run: StageRun,
    tracks: Sequence[int],
    mismatches: str | None,
    key: Key = "track_id",
    *,
    repeats: bool = False,
    origins: Sequence[Origin] | None = None,
) -> tuple[Counts, Catalogued]:
    """Write `songs`: which rows of `raw_songs` stay, one a song.

    Mismatched pairs leave, and all but the first track of a song id in the order of track ids;
    of one track's rows the first stays, in the order of parts and rows. Each is listed.

    Where songs are found by `song_id`, the first row of a song stays, whatever its track.

    Parameters
    ----------
    tracks
        The rows of each part of `raw_songs`.
    repeats
        A song has many rows by design: that they are left out is not listed.
    origins
        Of tables, whose rows have their lines: where each part's come from, so that what is left
        out is listed by file and row; None: under `songs`, by id, with the row of `raw_songs`.
    """
    rejected = tasks.run_task(run, _write_mismatches, run, mismatches) if mismatches else 0
    groups = tuple(song_groups(["raw_songs"], [tracks]))
    pieces = max(1, -(-sum(tracks) // TRACKS_A_PIECE))
    each = [Shard(piece) for piece in range(pieces)]
    what = "the catalogue"
    send = resumable(run, "sent_tracks", partial(_send, run, pieces, origins is not None), Written)
    tasks.map_tasks(run, send, groups, description=what)
    by_track = partial(_by_track, run, pieces, len(groups), key, repeats, origins)
    found = tasks.map_tasks(
        run, resumable(run, "by_track", by_track, TracksReport), each, description=what
    )
    by_song = partial(_by_song, run, pieces, groups, key, origins)
    sharing = tasks.map_tasks(
        run, resumable(run, "by_song", by_song, Written), each, description=what
    )
    keep = resumable(run, "songs_kept", partial(_keep, run, pieces), GroupReport)
    kept = tasks.map_tasks(run, keep, groups, description="writing the catalogue")
    sizes = tuple(rows for report in kept for rows in report.rows)
    counts: Counts = {
        "tracks_mismatched": sum(report.mismatched for report in found),
        "tracks_repeated": sum(report.repeated for report in found),
        "tracks_sharing_a_song_id": sum(report.rows for report in sharing),
        "mismatch_lines_rejected": rejected,
    }
    return counts, Catalogued(pieces, groups, sizes)


def _group_of(groups: Sequence[SongGroup], parts: np.ndarray) -> np.ndarray:
    firsts = [group.parts[0][1] for group in groups]
    found: np.ndarray = np.searchsorted(firsts, parts, "right") - 1
    return found


def _write_mismatches(run: StageRun, path: str) -> int:
    batch = taste_profile.read_mismatches(path)
    run.write(batch.rejects, "mismatch_rejects")
    run.write(batch.table, "mismatched_pairs")
    return int(batch.rejects.num_rows)


def _send(run: StageRun, pieces: int, lines: bool, group: SongGroup) -> Written:
    """Ids of a group's rows and where each stands."""
    tables = []
    for artifact, part in group.parts:
        wanted = [*_IDS, LINE] if lines else _IDS
        table = run.workspace.read_part(run.stage, artifact, part_name(part), wanted)
        table = table.append_column("part", pa.array(np.full(len(table), part, np.int32)))
        tables.append(table.append_column("row", pa.array(np.arange(len(table), dtype=np.int32))))
    table = pa.concat_tables(tables)
    scatter(run, table, piece_of(table["track_id"], pieces), pieces, "sent_tracks", group.part)
    return Written(table.num_rows)


def _exclude(
    rejects: Rejects,
    rows: pd.DataFrame,
    key: Key,
    reason: str,
    details: Iterable[str],
    origins: Sequence[Origin] | None,
) -> None:
    """List rows that are left out: of tables by their file and row, with the id in the detail."""
    if origins is None:
        for identity, detail in zip(rows[key], details, strict=True):
            rejects.add(_SOURCE, str(identity), reason, detail, "excluded")
        return
    for part, line, detail in zip(rows.part, rows[LINE], details, strict=True):
        origin = origins[part]
        rejects.add(origin.source, str(origin.number(line)), reason, detail, "excluded")


def _kept(
    identities: Iterable[str], stays: pd.DataFrame, origins: Sequence[Origin]
) -> Iterator[str]:
    """Of rows of tables that are left out: each one's id, and which row stays in its place."""
    for identity, part, line in zip(identities, stays.part, stays[LINE], strict=True):
        yield f"{identity}: {kept_row(origins[part], line)}"


def _by_track(
    run: StageRun,
    pieces: int,
    groups: int,
    key: Key,
    repeats: bool,
    origins: Sequence[Origin] | None,
    piece: Shard,
) -> TracksReport:
    """The first row of each track, and the pairs that are mismatched, by song."""
    sent = pa.concat_tables(gather(run, "sent_tracks", piece.part, range(groups)))
    table = sent.to_pandas()
    wrong = np.zeros(len(table), bool)
    if run.workspace.parts(run.stage, "mismatched_pairs"):
        known = run.workspace.read(run.stage, "mismatched_pairs")
        pairs = set(zip(*(known[name].to_pylist() for name in _IDS), strict=True))
        found = zip(table.song_id, table.track_id, strict=True)
        wrong = np.fromiter((pair in pairs for pair in found), bool, len(table))
    rejects = Rejects()
    mismatched = table[wrong]
    details = (f"of song {song}" for song in mismatched.song_id)
    _exclude(rejects, mismatched, "track_id", "known mismatch", details, origins)
    right = table[~wrong].sort_values(["track_id", "part", "row"])
    again = right.duplicated("track_id")
    first = right.groupby("track_id").song_id.transform("first")
    same_song = again & (key == "song_id") & (right.song_id == first)
    listed = same_song & (not repeats)
    for chosen, reason in ((listed, "song read before"), (again & ~same_song, _REPEATED)):
        found = right[chosen]
        places: Iterable[str] = (
            f"row {r} of shard {p}" for r, p in zip(found.row, found.part, strict=True)
        )
        if origins is not None and len(found):
            stays = right[~again].set_index("track_id").loc[found.track_id]
            places = _kept(found[key], stays, origins)
        _exclude(rejects, found, key, reason, places, origins)
    run.write(rejects.to_table(), "song_exclusions", piece.part)
    rows = pd.concat([right[~again].assign(wrong=False), mismatched.assign(wrong=True)])
    passed = pa.Table.from_pandas(
        rows, sent.schema.append(pa.field("wrong", pa.bool_())), preserve_index=False
    )
    where = piece_of(passed["song_id"], pieces)
    scatter(run, passed, where, pieces, "sent_of_songs", piece.part)
    return TracksReport(len(mismatched), int(again.sum()))


def _by_song(
    run: StageRun,
    pieces: int,
    groups: Sequence[SongGroup],
    key: Key,
    origins: Sequence[Origin] | None,
    piece: Shard,
) -> Written:
    """The first track of each song: to the group that it is of, and to the piece of its track."""
    sent = pa.concat_tables(gather(run, "sent_of_songs", piece.part, range(pieces)))
    table = sent.to_pandas()
    tracks = table[~table.wrong].sort_values(["part", "row"] if key == "song_id" else "track_id")
    again = tracks.duplicated("song_id")
    kept, sharing = tracks[~again], tracks[again]
    stays = dict(zip(kept.song_id, kept.track_id, strict=True))
    rejects = Rejects()
    details: Iterable[str] = (f"{song}: {stays[song]} is kept" for song in sharing.song_id)
    if origins is not None:
        details = _kept(sharing.song_id, kept.set_index("song_id").loc[sharing.song_id], origins)
    _exclude(rejects, sharing, key, "song of another track", details, origins)
    run.write(rejects.to_table(), "song_exclusions", pieces + piece.part)
    lost = sorted(set(table.song_id[table.wrong]) - set(kept.song_id))
    run.write(pa.table({"song_id": pa.array(lost, pa.string())}), "mismatched", piece.part)
    schema = pa.schema([sent.schema.field(name) for name in ("track_id", "part", "row")])
    places = pa.Table.from_pandas(kept[schema.names], schema, preserve_index=False)
    group = _group_of(groups, kept.part.to_numpy())
    rows = places.drop_columns(["track_id"])
    scatter(run, rows, group, len(groups), "kept_rows", piece.part)
    where = piece_of(places["track_id"], pieces)
    scatter(run, places, where, pieces, "kept_tracks", piece.part)
    if key == "song_id":
        ids = pa.table({"song_id": pa.array(kept.song_id, pa.string()), "part": places["part"]})
        run.write(ids, "kept_songs", piece.part)
    return Written(len(sharing))


def _keep(run: StageRun, pieces: int, group: SongGroup) -> GroupReport:
    """The rows of a group's parts that stay."""
    kept = pa.concat_tables(gather(run, "kept_rows", group.part, range(pieces)))
    parts, rows = (kept[name].to_numpy() for name in ("part", "row"))
    written = []
    for artifact, part in group.parts:
        raw = run.workspace.read_part(run.stage, artifact, part_name(part))
        table = raw.take(pa.array(np.sort(rows[parts == part]))).select(schemas.SONGS.names)
        run.write(table, "songs", part)
        written.append(table.num_rows)
    return GroupReport(written)


def places_of(run: StageRun, songs: Catalogued, piece: int, ids: pa.Array, key: Key) -> pa.Table:
    """Where ids of a piece are: `known` if one was read; its `part` of `songs`, if it is there.

    Of a song, those that are in the catalogue are known.
    """
    if key == "song_id":
        kept = run.workspace.read_part(run.stage, "kept_songs", part_name(piece))
        places = pc.index_in(ids, value_set=kept[key].combine_chunks())
        return pa.table({"known": pc.is_valid(places), "part": kept["part"].take(places)})
    read = gather(run, "sent_tracks", piece, range(len(songs.groups)))
    kept = pa.concat_tables(gather(run, "kept_tracks", piece, range(songs.pieces)))
    value_set = pa.concat_tables(read)[key].combine_chunks()
    known = pc.is_in(ids, value_set=value_set)
    places = pc.index_in(ids, value_set=kept[key].combine_chunks())
    return pa.table({"known": known, "part": kept["part"].take(places)})
