"""Ingest: rows of any source come to their songs' parts, by way of the pieces that know the songs.

Three passes of plain tasks. A shard sends its ids to their pieces; a piece tells each shard which
of its ids come first, and where their songs are; a shard sends its rows to the groups of these
songs, from which :func:`arrived` takes them. No task holds all ids. What is of no song, and each
second row of a song, is listed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fusionrec.formats.batch import Rejects
from fusionrec.hashing import piece_of
from pipelines.ingest.catalogue import Catalogued, Key, places_of
from pipelines.ingest.song_groups import SongGroup
from pipelines.ingest.sources import LINE, FileShard, Origin, kept_row
from pipelines.runtime import tasks
from pipelines.runtime.exchange import first_of, gather, scatter
from pipelines.runtime.shards import Shard, Written
from pipelines.runtime.stage import resumable
from pipelines.runtime.workspace import StageRun, part_name


@dataclass(frozen=True)
class Join:
    """What finds its songs, and how.

    Attributes
    ----------
    name
        Of its artifacts: `raw_NAME` has the rows as they were read, `sent_NAME` those of songs;
        what is left out is listed in `unmatched_NAME`. None begins with it: `vectors_NAME` are
        those of a modality, which may have any name.
    key
        The column of ids, of the rows as of the songs.
    source
        What the rejects are listed under; None: the file of each row.
    others
        The artifact that rows of no known id become, in parts by shard; None for none.
    missing
        What the rejects say of such an id.
    """

    name: str
    key: Key
    source: str | None = None
    others: str | None = None
    missing: str = "not in the corpus"

    @property
    def staging(self) -> tuple[str, ...]:
        """Artifacts that only the join and its caller read."""
        name = self.name
        return (f"raw_{name}", f"ids_of_{name}", f"places_of_{name}", f"sent_{name}")

    @property
    def unmatched(self) -> str:
        """The artifact that lists what is left out."""
        return f"unmatched_{self.name}"


@dataclass(frozen=True)
class Matched:
    """Rows of a shard whose id was read, those of songs, those of no id, and second ones."""

    known: int
    songs: int
    others: int
    repeated: int


Seen = Callable[[pa.Table, int], None]
"""Is given each shard's rows that are the first of their id, whatever it is, and its number."""


def send_to_songs(
    run: StageRun,
    join: Join,
    sets: Sequence[Sequence[FileShard]],
    songs: Catalogued,
    *,
    description: str,
    origins: Sequence[Origin] | None = None,
    seen: Seen | None = None,
) -> list[list[Matched]]:
    """Send each row to the group of its song.

    Parameters
    ----------
    sets
        Shards of `raw_NAME`, numbered from 0 through all sets; within a set a song has one row,
        the first in the order of the shards: of tables in the order of their files, and within one
        in that of its rows.
    origins
        Of tables, whose rows have their lines: where each shard's come from, so that what is left
        out is listed by file and row.

    Returns
    -------
    What became of each shard's rows, by set.
    """
    shards = [shard for each in sets for shard in each]
    parts = [[shard.part for shard in each] for each in sets]
    ids, places, sent = join.staging[1:]

    def mapped(name: str, function: partial[Written], over: Sequence[Shard]) -> None:
        work = resumable(run, name, function, Written)
        tasks.map_tasks(run, work, over, description=description)

    mapped(ids, partial(_send_ids, run, join, songs.pieces, origins is not None), shards)
    pieces = [Shard(piece) for piece in range(songs.pieces)]
    mapped(places, partial(_find_places, run, join, songs, parts), pieces)
    work = resumable(run, sent, partial(_send_rows, run, join, songs, origins, seen), Matched)
    found = iter(tasks.map_tasks(run, work, shards, description=description))
    return [[next(found) for _ in each] for each in sets]


def arrived(
    run: StageRun, join: Join, group: SongGroup, shards: Iterable[int]
) -> Iterator[tuple[int, pa.Table, pa.Table]]:
    """What came to a group of songs from some shards, one part of the group after the other.

    Yields
    ------
    tuple
        The part's number; the ids of its songs (`song_id`, `track_id`) with `place`, the row of
        what came to each, null if nothing did; and these rows.
    """
    sent = gather(run, join.staging[3], group.part, shards)
    for _, part in group.parts:
        here = [table.filter(pc.equal(table["part"], part)) for table in sent]
        rows = pa.concat_tables(here).drop_columns(["part"]).combine_chunks()
        songs = run.workspace.read_part(
            run.stage, "songs", part_name(part), ["song_id", "track_id"]
        )
        places = pc.index_in(songs[join.key], value_set=rows[join.key].combine_chunks())
        yield part, songs.append_column("place", places), rows


def _send_ids(run: StageRun, join: Join, pieces: int, lines: bool, shard: FileShard) -> Written:
    raw, ids, *_ = join.staging
    wanted = [join.key, LINE] if lines else [join.key]
    table = run.workspace.read_part(run.stage, raw, part_name(shard.part), wanted)
    scatter(run, table, piece_of(table[join.key], pieces), pieces, ids, shard.part)
    return Written(table.num_rows)


def _find_places(
    run: StageRun, join: Join, songs: Catalogued, sets: Sequence[Sequence[int]], piece: Shard
) -> Written:
    """Tell each shard which of its ids come first in their set, and where their songs are."""
    found, shards = [], []
    for parts in sets:
        sent = gather(run, join.staging[1], piece.part, parts)
        rows = pa.concat_tables(sent).combine_chunks()
        ids = rows[join.key].combine_chunks()
        codes = ids.dictionary_encode().indices.to_numpy()
        shard = np.repeat(np.array(parts, np.int64), [table.num_rows for table in sent])
        places = places_of(run, songs, piece.part, ids, join.key)
        places = places.append_column("first", pa.array(first_of(codes)))
        if LINE in rows.column_names:  # where the row that stays is
            stays = np.unique(codes, return_index=True)[1][codes]
            places = places.append_column("stays_in", pa.array(shard[stays]))
            places = places.append_column("stays", rows[LINE].take(pa.array(stays)))
        found.append(places)
        shards.append(shard)
    table, where = pa.concat_tables(found), np.concatenate(shards)
    scatter(run, table, where, sum(map(len, sets)), join.staging[2], piece.part)
    return Written(table.num_rows)


def _send_rows(
    run: StageRun,
    join: Join,
    songs: Catalogued,
    origins: Sequence[Origin] | None,
    seen: Seen | None,
    shard: FileShard,
) -> Matched:
    """A shard's rows to the groups of their songs; those of no id to the others."""
    raw, _, told_as, sent = join.staging
    rows = run.workspace.read_part(run.stage, raw, part_name(shard.part))
    order = np.argsort(piece_of(rows[join.key], songs.pieces), kind="stable")
    told = pa.concat_tables(gather(run, told_as, shard.part, range(songs.pieces)))
    places = told.take(pa.array(np.argsort(order, kind="stable")))
    first = places["first"]
    known = pc.and_(first, places["known"])
    of_others = pc.and_not(first, known)
    again, others = rows.filter(pc.invert(first)), rows.filter(of_others)
    what = join.key.removesuffix("_id")
    rejects = Rejects()
    if origins is None:
        source = join.source or shard.source
        for identity in again[join.key].to_pylist():
            rejects.add(source, identity, f"{what} read before", action="excluded")
        for identity in others[join.key].to_pylist():
            rejects.add(source, identity, f"{what} id {join.missing}", action="unmatched")
    else:
        origin = origins[shard.part]
        stays = places.filter(pc.invert(first)).select(["stays_in", "stays"])
        columns = (again[join.key], again[LINE], *stays.columns)
        for identity, line, *kept in zip(*(each.to_pylist() for each in columns), strict=True):
            detail = f"{identity}: {kept_row(origins[kept[0]], kept[1])}"
            number = str(origin.number(line))
            rejects.add(origin.source, number, f"{what} read before", detail, "excluded")
        for identity, line in zip(*(others[n].to_pylist() for n in (join.key, LINE)), strict=True):
            number = str(origin.number(line))
            rejects.add(origin.source, number, f"{what} id {join.missing}", identity, "unmatched")
        rows, others = rows.drop_columns([LINE]), others.drop_columns([LINE])
    run.write(rejects.to_table(), join.unmatched, shard.part)
    if join.others is not None:
        run.write(others, join.others, shard.part)
    if seen is not None:
        seen(rows.filter(first), shard.part)
    matched = pc.and_(known, pc.is_valid(places["part"]))
    part = places["part"].filter(matched)
    of_songs = rows.filter(matched).append_column("part", part)
    group = songs.group_of(part.to_numpy())
    scatter(run, of_songs, group, len(songs.groups), sent, shard.part)
    count = rows.num_rows - again.num_rows - others.num_rows
    return Matched(count, of_songs.num_rows, others.num_rows, again.num_rows)
