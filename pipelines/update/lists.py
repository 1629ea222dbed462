"""Lists of everybody brought up to date.

Whoever has no new plays has the vector of before: the list is the old one and the best of the new
songs, merged. Users with new plays, and new users, are ranked for among all songs by vectors of all
their plays; and so are those of whom the model knows nothing, by listeners of before and now.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fusionrec import probes, schemas
from fusionrec.ranking.limited import TopLists
from fusionrec.ranking.lists import listed_columns
from fusionrec.ranking.protocols import SongLists
from fusionrec.tables import matrix
from pipelines.config import Config
from pipelines.ingest.by_user import plays_of_users
from pipelines.lists.candidates import Offered, artists_of, filtered
from pipelines.lists.lines import write_lines
from pipelines.lists.stage import LISTENERS, PREDICTED, ranked, texts
from pipelines.recommend.ranking import StoredSongs, held
from pipelines.recommend.stage import USERS_A_GROUP
from pipelines.recommend.vectors import read_block, read_catalogue, song_blocks
from pipelines.runtime import metrics, tasks
from pipelines.runtime.rows import read_arrays
from pipelines.runtime.shards import RowsShard
from pipelines.runtime.stage import resumable
from pipelines.runtime.workspace import StageRun, Workspace, part_name
from pipelines.update.numbering import SONGS, USERS, Numbers
from pipelines.update.old_lists import OldLists, moved, with_new_songs
from pipelines.update.songs import VECTORS
from pipelines.update.users import Known, Touched, new_listeners

LISTS = "lists"


@dataclass(frozen=True)
class UpdatedReport:
    """Users of a shard: those whose lists were merged, and those ranked for anew; `fallback` are
    those without a vector of their own, `with_new` lists with a new song.
    """

    users: int
    merged: int
    anew: int
    fallback: int
    with_new: int
    processor: dict[str, int]


def submit_offered(
    config: Config, workspace: Workspace, run: StageRun, numbers: Numbers
) -> StoredSongs:
    """All songs, old and new, as references; those that may be listed are the candidates."""
    offered = tasks.submit(run, _offered, config, workspace, run, numbers)
    names = song_blocks(config, workspace)
    if len(names) == 1:
        blocks: tuple[Any, ...] = (tasks.submit(run, _both, config, workspace, run, names[0]),)
    else:
        old = (tasks.submit(run, read_block, config, workspace, each) for each in names)
        blocks = (*old, tasks.submit(run, _new, run))
    return StoredSongs(offered, blocks, run.gpus)


def _new(run: StageRun) -> NDArray[np.float32]:
    return matrix(run.workspace.read(run.stage, VECTORS, ["vector"])["vector"])


def _both(
    config: Config, workspace: Workspace, run: StageRun, names: list[str]
) -> NDArray[np.float32]:
    return np.concatenate([read_block(config, workspace, names), _new(run)])


def _offered(config: Config, workspace: Workspace, run: StageRun, numbers: Numbers) -> Offered:
    old, asked = read_catalogue(config.recommend.model, workspace), config.lists
    table = run.workspace.read(run.stage, VECTORS, ["song_id", "present"])
    present = table["present"].to_numpy(zero_copy_only=False)
    has_vector = np.concatenate([old.has_vector, present])
    kept = has_vector.copy()
    if asked.years is not None or asked.tags is not None:
        both = ((workspace, "ingest", "songs"), (run.workspace, run.stage, SONGS))
        kept &= np.concatenate(
            [filtered(of, asked.years, asked.tags, *where) for of, *where in both]
        )
    before = read_arrays(workspace, "lists", *LISTENERS)["listeners"].astype(np.int64)
    listeners = new_listeners(run, numbers.all_songs)
    listeners[: numbers.songs] += before
    candidates = np.flatnonzero(kept).astype(np.int32)
    catalogue = replace(
        old,
        song_ids=pa.concat_arrays([old.song_ids, table["song_id"].combine_chunks()]),
        part=np.concatenate([old.part, np.full(numbers.added, None, object)]),
        has_vector=has_vector,
        candidates=candidates,
    )
    artists = artists_of(
        pa.chunked_array(
            [
                *workspace.read("ingest", "songs", ["artist_id"])["artist_id"].chunks,
                *run.workspace.read(run.stage, SONGS, ["artist_id"])["artist_id"].chunks,
            ],
            pa.string(),
        )
    )
    return Offered(catalogue, listeners, artists[candidates], {})


def update_lists(
    config: Config,
    workspace: Workspace,
    run: StageRun,
    numbers: Numbers,
    songs: StoredSongs,
    known: Known,
    shards: list[RowsShard],
) -> list[UpdatedReport]:
    """Write `lists`, in parts as those of before; the last of them may go on."""
    about = workspace.read_json("lists", "about.json")
    predicted = about["fallback_by"] == PREDICTED
    work = partial(_update, config, workspace, run, numbers, songs, known, predicted)
    return tasks.map_tasks(
        run,
        resumable(run, LISTS, work, UpdatedReport),
        shards,
        description="lists brought up to date",
        num_gpus=run.gpus,
    )


def _update(
    config: Config,
    workspace: Workspace,
    run: StageRun,
    numbers: Numbers,
    songs: StoredSongs,
    known: Known,
    predicted: bool,
    shard: RowsShard,
) -> UpdatedReport:
    offered: Offered = held(songs.offers)
    top, start, users = config.lists.top, shard.start, shard.stop - shard.start
    old = OldLists.read(workspace, numbers, shard, top)
    touched = Touched.read(run, numbers, shard)
    rows = touched.codes - start
    own = np.zeros(users, bool)
    before = 0 if old is None else len(old.own)
    listed = pa.array([], pa.string()) if old is None else old.songs
    found = TopLists.empty(users, top)
    stays = np.ones(users, bool)
    stays[rows] = False
    if old is not None:
        own[:before] = old.own
        kept = stays[:before] & (old.own | predicted)
        found.put(np.flatnonzero(kept), with_new_songs(config, old, kept, offered, songs, numbers))
    # Candidates' columns stand behind the places of the old lists' songs.
    behind = len(listed)

    def put(to: NDArray[np.integer[Any]], lists: TopLists) -> None:
        found.put(to, moved(lists, behind))

    made = known.vectors(workspace, touched)
    own[rows] = made.own
    V, by_vector = made.V, made.own
    if made.nobody is not None:
        V[~made.own] = made.nobody
        by_vector = np.ones(len(V), bool)
    exclude = _heard(config, touched.own, offered)
    put(rows[by_vector], ranked(config, offered, V[by_vector], exclude.of(by_vector), songs))
    if not predicted:
        others = np.concatenate([np.flatnonzero(stays & ~own), rows[~by_vector]])
        of_old = _old_plays(workspace, numbers, np.flatnonzero(stays & ~own) + start)
        heard = [_heard(config, of_old, offered), exclude.of(~by_vector)]
        put(others, _by_listeners(config, offered, heard, songs))
    first = int(np.searchsorted(offered.candidates, numbers.songs))
    with_new = int((found.indices >= behind + first).any(axis=1).sum())
    pool = pa.concat_arrays([listed, offered.catalogue.song_ids.take(pa.array(offered.candidates))])
    columns = listed_columns(found.indices, found.scores, found.counts, np.arange(len(pool)), pool)
    ids = _ids(run, numbers, shard, old)
    codes = pa.array(np.arange(start, shard.stop), pa.int32())
    table = pa.Table.from_arrays([ids, codes, *columns, pa.array(~own)], schema=schemas.LISTS)
    run.write(table, LISTS, shard.part, group=USERS_A_GROUP)
    for kind in texts(config):
        write_lines(run, table, kind, shard.part)
    metrics.count("fusionrec_users_ranked", users)
    anew = len(rows) + (0 if predicted else int((stays & ~own).sum()))
    return UpdatedReport(
        users, users - anew, anew, int((~own).sum()), with_new, probes.lines("ranking")
    )


def _heard(config: Config, own: SongLists, offered: Offered) -> SongLists:
    """Columns of the songs that users played, which are not on their lists."""
    columns = own.to_columns(offered.candidates, len(offered.listeners))
    return columns.where(np.zeros(len(columns.songs), bool)) if config.lists.repeat else columns


def _old_plays(workspace: Workspace, numbers: Numbers, codes: NDArray[np.intp]) -> SongLists:
    table = plays_of_users(workspace, codes)
    user, song, plays = (table[name].to_numpy() for name in schemas.PLAYS.names)
    rows = np.searchsorted(codes, user).astype(np.int32)
    return SongLists.of_plays(rows, song, plays, len(codes))


def _by_listeners(
    config: Config, offered: Offered, heard: list[SongLists], songs: StoredSongs
) -> TopLists:
    """Lists of users of whom the model knows nothing: nearly all of them have the same."""
    sizes = np.concatenate([of.sizes for of in heard])
    found = TopLists.empty(len(sizes), config.lists.top)
    alike = sizes == 0
    if alike.any():
        nothing = SongLists(np.zeros(2, np.int64), np.empty(0, np.int32), np.empty(0, np.int64))
        one = ranked(config, offered, None, nothing, songs)
        found.put(np.flatnonzero(alike), one)
    some = [of.of(of.sizes > 0) for of in heard]
    exclude = SongLists(
        np.concatenate([[0], np.cumsum(sizes[~alike])]).astype(np.int64),
        np.concatenate([of.songs for of in some]),
        np.concatenate([of.plays for of in some]),
    )
    found.put(np.flatnonzero(~alike), ranked(config, offered, None, exclude, songs))
    return found


def _ids(run: StageRun, numbers: Numbers, shard: RowsShard, old: OldLists | None) -> pa.Array:
    ids = [] if old is None else [old.ids]
    if shard.stop > numbers.users:
        first = max(shard.start, numbers.users)
        added = run.workspace.read_part(run.stage, USERS, part_name(0))["user_id"]
        some = added.slice(first - numbers.users, shard.stop - first)
        ids.append(some.combine_chunks())
    return pa.concat_arrays(ids)
