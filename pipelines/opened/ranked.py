"""All that a finished workspace ranks by, held in memory: songs' vectors, and what makes users'."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fusionrec.errors import ConfigError, DataError
from fusionrec.ranking.on_cpu import coded
from fusionrec.ranking.packing import PackedSongs
from fusionrec.ranking.protocols import SongLists
from fusionrec.ranking.users import Weighting, user_vectors
from fusionrec.signals.explain import Layout
from fusionrec.signals.reduced import weightings
from fusionrec.tables import matrix
from pipelines.config.lists import NAMED, PARTS
from pipelines.opened import updates
from pipelines.opened.catalogue import Catalogue
from pipelines.opened.given import (
    as_table,
    flags_of,
    ids_of,
    listed_ids,
    vectors_of,
    warn_of_unknown,
)
from pipelines.opened.users import (
    BlendUsers,
    Made,
    TasteSongs,
    atoms_with_new,
    of_classes,
    read_taste,
    songs_of_blend,
)
from pipelines.runtime.workspace import Workspace, part_name

log = logging.getLogger("fusionrec")

Candidates: TypeAlias = str | Iterable[Any] | pa.Table
"""Songs to choose from: a name, ids, or a table or data frame of ids with vectors."""

VECTORS = {
    "genre": ("train", "song_vectors", "probabilities"),
    "network": ("train", "song_vectors", "vector"),
    "blend": ("blend", "songs", "vector"),
}
"""By model, the stage, the artifact and the column of the songs' vectors."""


@dataclass(frozen=True)
class Songs:
    """All songs of the catalogue.

    Attributes
    ----------
    ids
        Arrow strings, S of them; where there is an update, null of songs that are known by their
        plays alone, which stand between those of the run and new ones.
    F
        Their vectors, float32 (S, d); zeros of one without.
    known
        Those with a vector, bool (S,).
    """

    ids: pa.Array
    F: NDArray[np.float32]
    known: NDArray[np.bool_]

    @staticmethod
    def read(workspace: Workspace, model: str) -> Songs:
        """By a model."""
        stage, artifact, column = VECTORS[model]
        ids = workspace.read("ingest", "songs", ["song_id"])["song_id"].combine_chunks()
        table = workspace.read(stage, artifact, ["song_id", column])
        found = matrix(table[column])
        rows = pc.index_in(table["song_id"].combine_chunks(), value_set=ids).to_numpy()
        F, known = np.zeros((len(ids), found.shape[1]), np.float32), np.zeros(len(ids), bool)
        F[rows], known[rows] = found, True
        return Songs(ids, F, known)


@dataclass(frozen=True)
class Offered:
    """Songs to choose from.

    Attributes
    ----------
    ids
        N of them, with vectors.
    packed
        The vectors.
    listeners
        A function that counts who played each, float32 (N, 1): 0 for one of no catalogue.
    """

    ids: pa.Array
    packed: PackedSongs
    listeners: Callable[[], NDArray[np.float32]]


@dataclass(frozen=True)
class Ranked:
    """What a workspace ranks by.

    Attributes
    ----------
    workspace
        With the results that belong together.
    model
        genre, network or blend.
    weighting
        Of a profile's songs, under genre.
    """

    workspace: Workspace
    model: str
    weighting: Weighting

    # --- songs ---------------------------------------------------------------------------

    @cached_property
    def catalogue(self) -> Catalogue:
        """Songs by number and name."""
        return Catalogue(self.workspace)

    @cached_property
    def songs(self) -> Songs:
        """All songs."""
        found = Songs.read(self.workspace, self.model)
        if not updates.has(self.workspace):
            return found
        # By the numbers of the catalogue: of those between, which no list has, there is nothing,
        # not the ids either: of a song that is described now, the new row is the song's.
        count = updates.first(self.workspace) - len(found.ids)
        between, new = pa.nulls(count, found.ids.type), updates.Added.read(self.workspace)
        ids = pa.concat_arrays([found.ids, between, new.ids])
        none = np.zeros((len(between), found.F.shape[1]), np.float32)
        F = np.concatenate([found.F, none, new.F])
        return Songs(ids, F, np.concatenate([found.known, none.any(axis=1), new.present]))

    @cached_property
    def listeners(self) -> NDArray[np.int64]:
        """Users who played each song, (S,)."""
        if updates.has(self.workspace):
            return updates.listeners(self.workspace)
        return listeners(self.workspace, len(self.songs.ids))

    @cached_property
    def _part(self) -> NDArray[np.object_]:
        part = self.workspace.read("split", "split", ["part"])["part"]
        found = np.asarray(part.to_numpy(zero_copy_only=False), object)
        return np.concatenate([found, np.full(len(self.songs.ids) - len(found), None, object)])

    def candidates(self, chosen: Candidates, *, again: bool = False) -> Offered:
        """See :meth:`pipelines.opened.recommender.Recommender.recommend`.

        Those of a name are kept: what is asked for `again`, or a second time, is ranked by codes,
        too, which take a quarter of the vectors' bytes and a while to make.
        """
        if isinstance(chosen, str):
            offered = self._by_name.get(chosen)
            again = again or offered is not None
            offered = offered or self._offered(self.named(chosen))
            if again:
                offered = replace(offered, packed=coded(offered.packed))
            self._by_name[chosen] = offered
        elif (table := as_table(chosen, "candidates")) is not None:
            offered = self._of_table(table)
        else:
            ids = listed_ids(chosen, "candidates")
            rows = pc.index_in(ids, value_set=self.songs.ids)
            some = np.zeros(len(self.songs.ids), bool)
            some[rows.drop_null().to_numpy()] = True
            warn_of_unknown("the candidates", ids.filter(pc.is_null(rows)), self.workspace.uri)
            offered = self._offered(some)
        if not len(offered.ids):
            raise DataError(
                f"candidates: none of them has a vector of the model {self.model!r}: choose "
                "others, or candidates='all'"
            )
        return offered

    @cached_property
    def _by_name(self) -> dict[str, Offered]:
        return {}

    def _offered(self, some: NDArray[np.bool_]) -> Offered:
        """Songs of the catalogue, by a mask (S,); those without a vector are left out."""
        rows = np.flatnonzero(some & self.songs.known)
        return Offered(
            self.songs.ids.take(pa.array(rows)),
            PackedSongs.of(self.songs.F[rows]),
            lambda: self.listeners[rows].astype(np.float32)[:, None],
        )

    def _of_table(self, table: pa.Table) -> Offered:
        """Candidates that come with their vectors; those without are left out.

        Raises
        ------
        DataError
            They are of another length, or an id is there twice.
        """
        ids = ids_of(table, "song_id", "candidates").combine_chunks()
        if "vector" not in table.column_names:
            have = ", ".join(table.column_names)
            raise DataError(f"candidates: have the columns {have}: give song_id and vector")
        used = np.ones(len(ids), bool)
        if "present" in table.column_names:
            used = flags_of(table["present"], "candidates", "present")
        F, present = vectors_of(
            table["vector"],
            self.songs.F.shape[1],
            *("candidates", "vector"),
            "as those that song_vectors and vectors give of this workspace",
            used,
        )
        if (without := int((used & ~present).sum())) > 0:
            log.warning("the candidates: %s have no vector, and are left out", f"{without:,}")
        ids, F = ids.filter(pa.array(present)), F[present]
        if len(ids.unique()) < len(ids):
            raise DataError("candidates: a song_id is there twice: leave one of its rows out")
        return Offered(ids, PackedSongs.of(F), lambda: self._listeners_of(ids))

    def _listeners_of(self, ids: pa.Array) -> NDArray[np.float32]:
        """Of songs of the catalogue and others, float32 (N, 1)."""
        rows = pc.index_in(ids, value_set=self.songs.ids).fill_null(-1).to_numpy()
        found = np.where(rows >= 0, self.listeners[rows], 0)
        return found.astype(np.float32)[:, None]

    def named(self, name: str) -> NDArray[np.bool_]:
        """The songs of a name, as `lists.candidates` has them, a mask (S,).

        Raises
        ------
        ConfigError
            There is none of this name.
        """
        if name == "all":
            return np.ones(len(self.songs.ids), bool)
        if name == "new":
            return np.asarray(self.listeners == 0)
        if name in PARTS:
            return np.asarray(self._part == name)
        raise ConfigError(
            f"candidates: {name!r} is none of {', '.join(NAMED)}; song ids are given as a list"
        )

    # --- users ---------------------------------------------------------------------------

    def users(self, own: SongLists, other: SongLists, codes: NDArray[np.int64]) -> Made:
        """Users' vectors.

        Parameters
        ----------
        own, other
            What each played of the catalogue, and of other songs.
        codes
            Numbers of users of the workspace, (users,); -1 of who is none of them.
        """
        if self.model == "blend":
            return self._blend.vectors(own, other, self.told(own, other, codes))
        if self.model == "network":
            return self.taste.vectors(own, read_taste(self.workspace))
        return of_classes(own, self.songs.known, self._mean)

    @cached_property
    def others(self) -> int:
        """Songs outside the catalogue that say something of who played them."""
        return self._blend.others if self.model == "blend" else 0

    @cached_property
    def in_histories(self) -> NDArray[np.bool_]:
        """Songs that a user's history may have, (S,): not those that the model leaves aside.

        They are those outside the catalogue, which are between its songs and new ones, where they
        had no part in a blend.
        """
        found = np.ones(len(self.songs.ids), bool)
        if self.model == "blend" and updates.has(self.workspace):
            own, others = songs_of_blend(self.workspace)
            found[own + others : updates.first(self.workspace)] = False
        return found

    @cached_property
    def says(self) -> NDArray[np.bool_]:
        """Songs, those outside the catalogue behind, that say something of who played them."""
        if self.model == "network":
            return self.taste.known
        if self.model == "genre":
            return self.songs.known
        found = np.zeros(len(self.songs.ids) + self.others, bool)
        for atoms in self._blend.sums.atoms.values():
            found |= atoms.any(axis=1)
        learned = self._blend.strangers.learned
        found[: len(learned)] |= learned
        return found

    @cached_property
    def layout(self) -> Layout:
        """Of a blend."""
        return Layout.of_json(self.workspace.read_json("blend", "blend.json"))

    @cached_property
    def _blend(self) -> BlendUsers:
        workspace, layout = self.workspace, self.layout
        if not updates.has(workspace):
            return BlendUsers.read(workspace, layout).keeping_strangers()
        songs = len(self.songs.ids)
        atoms = {
            each: atoms_with_new(workspace, layout, each, songs) for each in weightings(layout)
        }
        users = BlendUsers.read(workspace, layout, atoms).keeping_strangers()
        return replace(users, own=songs, others=0)

    @cached_property
    def taste(self) -> TasteSongs:
        """Of a network that was trained on taste."""
        about = self.workspace.read_json("train", "users", "about.json")
        found = TasteSongs.read(self.workspace, about["objective"])
        if not updates.has(self.workspace):
            return found
        between = np.zeros((len(updates.other_ids(self.workspace)), found.songs.shape[1]), "f4")
        new = np.concatenate([between, updates.Added.read(self.workspace).F])
        return found.with_new(new, about["objective"])

    def _mean(self, lists: SongLists) -> NDArray[np.float32]:
        return user_vectors(lists.indptr, lists.songs, lists.plays, self.songs.F, self.weighting)

    def told(
        self, own: SongLists, other: SongLists, codes: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """What no history gives of users of a blend, (users, E); the same parameters.

        As the blend has it of its own users; of others it is made of these plays.
        """
        return self._blend.told(own, other, self._stored(codes))

    def _stored(self, codes: NDArray[np.int64]) -> NDArray[np.float32]:
        """What the blend has of them; a nobody's of who is none of its own."""
        found = np.tile(self._blend.nobody, (len(codes), 1))
        known = np.flatnonzero(codes >= 0)
        if not len(known):
            return found
        part = codes // self.workspace.read_json("blend", "blend.json")["users_a_part"]
        for number in np.unique(part[known]).tolist():
            rows = known[part[known] == number]
            where: Any = [("user", "in", codes[rows].tolist())]
            name = part_name(number)
            table = self.workspace.read_part("blend", "users", name, ["user", "told"], where)
            lists = table["told"].combine_chunks()
            values = lists.flatten().to_numpy().reshape(len(lists), -1)
            place = pc.index_in(pa.array(codes[rows], pa.int32()), value_set=table["user"])
            found[rows] = values[place.to_numpy()]
        return found


def listeners(workspace: Workspace, songs: int) -> NDArray[np.int64]:
    """Users who played each song of the catalogue, shape (songs,)."""
    found = np.zeros(songs, np.int64)
    for name in workspace.parts("ingest", "plays"):
        table = workspace.read_part("ingest", "plays", name, ["user", "song"])
        user, song = (table[column].to_numpy() for column in ("user", "song"))
        # By user and song: what a user is said twice to have played lies side by side.
        again = (np.diff(user, prepend=-1) == 0) & (np.diff(song, prepend=-1) == 0)
        found += np.bincount(song[~again], minlength=songs)
    return found
