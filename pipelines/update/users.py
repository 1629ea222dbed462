"""Users with new plays: all that each of them played, old and new, and their vectors of that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fusionrec import schemas
from fusionrec.ranking.protocols import SongLists
from fusionrec.signals.explain import Layout
from fusionrec.signals.reduced import ReducedUsers, reduced_atoms, weightings
from fusionrec.tables import matrix
from pipelines.blend.vectors import read_told
from pipelines.config import Config
from pipelines.ingest.by_user import plays_of_users, user_parts
from pipelines.lists.known import ByClasses, ByTaste, Played
from pipelines.opened.strangers import StoredStrangers
from pipelines.opened.users import BlendUsers, Made, TasteSongs, read_atoms
from pipelines.recommend.ranking import StoredSongs
from pipelines.runtime import tasks
from pipelines.runtime.exchange import gather
from pipelines.runtime.rows import read_arrays, rows_name
from pipelines.runtime.shards import RowsShard, shards_of
from pipelines.runtime.stage import resumable
from pipelines.runtime.workspace import StageRun, Workspace, part_name
from pipelines.train.plays import USER
from pipelines.update.numbering import ADOPTERS, SENT, SONGS, Numbers, adopted_songs
from pipelines.update.songs import HISTORY, VECTORS

PLAYED = ("plays_of_users", "other_plays_of_users")
"""All plays of users with new ones, schema :data:`fusionrec.schemas.PLAYS`, by user and song, in
parts as the lists: those of songs, of which new ones are numbered behind the run's, and those of
songs that are known by their plays alone."""

LISTENERS = "new_listeners"
"""Songs that users play now who did not before, and by how many, in parts as the lists."""
_USERS_A_GROUP = 5_000


@dataclass(frozen=True)
class PlayedReport:
    """Users of a shard whose plays are not what they were."""

    users: int


def bring_plays_together(
    workspace: Workspace,
    run: StageRun,
    numbers: Numbers,
    shards: Sequence[RowsShard],
) -> list[PlayedReport]:
    """Write `plays_of_users` and the other ones, and the songs' new listeners, a part a shard."""
    sent = [shard.part for shard in shards_of(run.workspace, run.stage, "plays")]
    old = shards_of(workspace, "ingest", "other_plays") if numbers.adopted else []
    parts = {SENT: sent, ADOPTERS: [shard.part for shard in old]}
    work = partial(_bring, workspace, run, numbers, parts)
    return tasks.map_tasks(
        run,
        resumable(run, PLAYED[0], work, PlayedReport),
        shards,
        description="plays of users",
    )


def _bring(
    workspace: Workspace,
    run: StageRun,
    numbers: Numbers,
    parts: Mapping[str, Sequence[int]],
    shard: RowsShard,
) -> PlayedReport:
    new = pa.concat_tables(
        [
            pa.schema([*schemas.PLAYS, ("other", pa.bool_())]).empty_table(),
            *gather(run, SENT, shard.part, parts[SENT]),
        ]
    )
    adopters = [
        table["user"].to_numpy() for table in gather(run, ADOPTERS, shard.part, parts[ADOPTERS])
    ]
    touched = np.unique(np.concatenate([new["user"].to_numpy(), *adopters]))
    known = touched[touched < numbers.users]
    old = plays_of_users(workspace, known)
    other = _other_plays(workspace, known)
    songs, now = adopted_songs(run)
    is_adopted = np.isin(other["song"].to_numpy(), songs)
    moved = other.filter(pa.array(is_adopted))
    moved_songs = now[np.searchsorted(songs, moved["song"].to_numpy())].astype(np.int32)
    moved = moved.set_column(1, "song", pa.array(moved_songs))
    of_other = new["other"]
    columns = new.select(schemas.PLAYS.names)
    own = [old, moved, columns.filter(pa.compute.invert(of_other))]
    others = [other.filter(pa.array(~is_adopted)), columns.filter(of_other)]
    for artifact, tables in zip(PLAYED, (own, others), strict=True):
        run.write(_in_order(pa.concat_tables(tables)), artifact, shard.part, group=100_000)
    run.write(_new_listeners(old, pa.concat_tables(own)), LISTENERS, shard.part)
    return PlayedReport(len(touched))


def _other_plays(workspace: Workspace, users: NDArray[np.int32]) -> pa.Table:
    found = [schemas.PLAYS.empty_table()]
    for name in user_parts(users):
        table = workspace.read_part("ingest", "other_plays", name)
        kept = np.isin(table["user"].to_numpy(), users)
        found.append(table.filter(pa.array(kept)))
    return pa.concat_tables(found)


def _pairs(table: pa.Table) -> NDArray[np.int64]:
    user, song = (table[name].to_numpy().astype(np.int64) for name in ("user", "song"))
    return np.unique(user << 32 | song)


def _new_listeners(before: pa.Table, now: pa.Table) -> pa.Table:
    """How many of the users play a song now who did not before, for songs that have any."""
    added = np.setdiff1d(_pairs(now), _pairs(before), assume_unique=True)
    songs, counts = np.unique(added & 0xFFFFFFFF, return_counts=True)
    return pa.table({"song": songs.astype(np.int32), "listeners": counts.astype(np.int32)})


def _in_order(table: pa.Table) -> pa.Table:
    user, song = (table[name].to_numpy().astype(np.int64) for name in ("user", "song"))
    return table.take(pa.array(np.argsort(user << 32 | song, kind="stable"))).combine_chunks()


def new_listeners(run: StageRun, songs: int) -> NDArray[np.int64]:
    """Of all songs, old and new, users who play one now and did not before; shape (songs,)."""
    found = np.zeros(songs, np.int64)
    for name in run.workspace.parts(run.stage, LISTENERS):
        table = run.workspace.read_part(run.stage, LISTENERS, name)
        np.add.at(found, table["song"].to_numpy(), table["listeners"].to_numpy())
    return found


# --- their vectors -------------------------------------------------------------------------


@dataclass(frozen=True)
class Touched:
    """Users of a shard whose vectors are made anew.

    Attributes
    ----------
    codes
        Their numbers, int32, ascending, n of them.
    own, other
        All that they played, a row for each: of songs, and of those known by plays alone.
    """

    codes: NDArray[np.int32]
    own: SongLists
    other: SongLists

    @staticmethod
    def read(run: StageRun, numbers: Numbers, shard: RowsShard) -> Touched:
        """With all new users, of whom some played songs only that nobody knows."""
        tables = [run.workspace.read_part(run.stage, n, part_name(shard.part)) for n in PLAYED]
        new = np.arange(max(shard.start, numbers.users), max(shard.stop, numbers.users))
        each = [table["user"].to_numpy() for table in tables]
        codes = np.unique(np.concatenate([*each, new])).astype(np.int32)
        lists = []
        for table in tables:
            user, song, plays = (table[name].to_numpy() for name in schemas.PLAYS.names)
            row = np.searchsorted(codes, user).astype(np.int32)
            lists.append(SongLists.of_plays(row, song, plays, len(codes)))
        return Touched(codes, *lists)

    @property
    def played(self) -> Played:
        """As what makes vectors has it."""
        return Played(0, len(self.codes), self.own, self.other)


class Known(Protocol):
    """What makes users' vectors, in a worker."""

    def vectors(self, workspace: Workspace, touched: Touched) -> Made:
        """Those of some users."""


def known_by(
    config: Config, workspace: Workspace, run: StageRun, songs: StoredSongs, numbers: Numbers
) -> Known:
    """What makes them by the config's model, with new songs behind those of the run."""
    if config.recommend.model == "blend":
        layout = Layout.of_json(workspace.read_json("blend", "blend.json"))
        atoms = {
            weighting: tasks.submit(run, _atoms, workspace, run, layout, weighting, numbers.added)
            for weighting in weightings(layout)
        }
        return _Blend(atoms, layout, numbers)
    if config.recommend.model == "network":
        about = workspace.read_json("train", USER[0], "about.json")
        read = tasks.submit(run, _taste, workspace, run, about["objective"])
        return _AsBefore(ByTaste(read))
    return _AsBefore(ByClasses(songs, config.recommend.weighting))


@dataclass(frozen=True)
class _AsBefore:
    """By a model that makes a user's vector of the songs played alone."""

    known: ByClasses | ByTaste

    def vectors(self, workspace: Workspace, touched: Touched) -> Made:
        """See :class:`Known`."""
        return self.known.vectors(workspace, touched.played)


@dataclass(frozen=True)
class _Blend:
    """Sums over the songs played, and what no history gives; `atoms` are references."""

    atoms: Mapping[Any, Any]
    layout: Layout
    numbers: Numbers

    def vectors(self, workspace: Workspace, touched: Touched) -> Made:
        """See :class:`Known`."""
        read = {weighting: tasks.gather([atoms])[0] for weighting, atoms in self.atoms.items()}
        arrays = read_arrays(workspace, "blend", "rotation", "arrays.safetensors")
        sums = ReducedUsers(read, arrays["rotation"][self.layout.told])
        nobody = arrays["nobody"][self.layout.told]
        every = len(next(iter(read.values())))
        strangers = StoredStrangers(workspace, nobody)
        users = BlendUsers(sums, nobody, self.numbers.songs, every - self.numbers.songs, strangers)
        own, other = self._moved(touched, users.others - self.numbers.added)
        stored = _told(workspace, touched.codes, self.numbers, nobody)
        return users.vectors(own, other, users.told(own, other, stored))

    def _moved(self, touched: Touched, others: int) -> tuple[SongLists, SongLists]:
        """New songs behind those that are known by plays alone, as the atoms are.

        A blend without `other_plays` has none of the latter.
        """
        own, other = touched.own, touched.other
        if not others:
            other = other.where(np.zeros(len(other.songs), bool))
        new = own.songs >= self.numbers.songs
        moved = own.where(new)
        user = [np.repeat(np.arange(len(of.sizes)), of.sizes) for of in (other, moved)]
        behind = SongLists.of_plays(
            np.concatenate(user).astype(np.int32),
            np.concatenate([other.songs, moved.songs - self.numbers.songs + others]),
            np.concatenate([other.plays, moved.plays]),
            len(own.sizes),
        )
        return own.where(~new), behind


def _told(
    workspace: Workspace, codes: NDArray[np.int32], numbers: Numbers, nobody: NDArray[np.float32]
) -> NDArray[np.float32]:
    """What no history gives of users, ascending codes: of new ones as of a user without plays."""
    told = np.tile(nobody, (len(codes), 1))
    known = codes < numbers.users
    some = codes[known]
    if len(some):
        start, stop = int(some[0]), int(some[-1]) + 1
        told[known] = read_told(workspace, start, stop)[some - start]
    return told


def _atoms(
    workspace: Workspace, run: StageRun, layout: Layout, weighting: Any, songs: int
) -> NDArray[np.float32]:
    """What each song adds: of the catalogue, those known by plays alone, and `songs` new ones."""
    rotation = read_arrays(workspace, "blend", "rotation", "arrays.safetensors")["rotation"]
    parts = [shard.part for shard in shards_of(run.workspace, run.stage, SONGS)]
    new = (
        read_arrays(run.workspace, run.stage, HISTORY, rows_name(part))["rows"] for part in parts
    )
    added = reduced_atoms(layout, rotation, weighting, new, songs)
    return np.concatenate([read_atoms(workspace, layout, weighting), added])


def _taste(workspace: Workspace, run: StageRun, objective: str) -> TasteSongs:
    """A new song is in a history what its content predicts: nobody's plays have told of it."""
    new = matrix(run.workspace.read(run.stage, VECTORS, ["vector"])["vector"])
    return TasteSongs.read(workspace, objective).with_new(new, objective)
