"""Users' vectors of any plays, by what a model has stored of songs.

The stage `lists` makes them so in tasks, of all plays of its users; whoever has opened a workspace
makes them of the plays that are at hand, of users whom it has or has not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fusionrec.models.shares import HistorySongs, TasteUsers
from fusionrec.ranking.protocols import SongLists
from fusionrec.signals.explain import Layout
from fusionrec.signals.histories import Histories, Weighting
from fusionrec.signals.reduced import ReducedUsers, reduced_atoms, weightings
from pipelines.opened import updates
from pipelines.opened.strangers import StoredStrangers
from pipelines.runtime.rows import matrix_blocks, read_arrays
from pipelines.runtime.workspace import Workspace

Floats = NDArray[np.float32]

_ROTATION = ("rotation", "arrays.safetensors")
_TASTE = ("users", "arrays.safetensors")


@dataclass(frozen=True)
class Made:
    """Users' vectors.

    Attributes
    ----------
    V
        Of some users, float32 (users, d).
    own
        Who has a vector of their own, bool (users,): the model knows something that they played.
    nobody
        The vector of all others, (d,), by which the songs that will be most popular come first;
        None where there is none.
    """

    V: Floats
    own: NDArray[np.bool_]
    nobody: Floats | None = None


# --- by class probabilities ----------------------------------------------------------------


def of_classes(
    own: SongLists, known: NDArray[np.bool_], mean: Callable[[SongLists], Floats]
) -> Made:
    """Means of the songs' class probabilities.

    Parameters
    ----------
    own
        What each user played of the catalogue.
    known
        Songs of the catalogue that have probabilities, shape (S,).
    mean
        The means of lists of such songs, none of which is empty.
    """
    profiles = own.where(known[own.songs])
    played = profiles.sizes > 0
    some = mean(profiles.of(played))
    V = np.zeros((len(played), some.shape[1]), np.float32)
    V[played] = some
    return Made(V, played)


# --- by a blend ----------------------------------------------------------------------------


def songs_of_blend(workspace: Workspace) -> tuple[int, int]:
    """Songs of the catalogue, and those outside that the blend has beside them."""
    counts = workspace.require("blend")["counts"]
    others = counts["other_songs"] + counts["other_songs_hidden"]
    return workspace.require("ingest")["counts"]["songs"], others


def read_atoms(workspace: Workspace, layout: Layout, weighting: Weighting) -> Floats:
    """What each song adds to a user's vector by the signals of one weighting, (songs, d)."""
    rotation = read_arrays(workspace, "blend", *_ROTATION)["rotation"]
    songs = sum(songs_of_blend(workspace))
    blocks = matrix_blocks(workspace, "blend", "history", songs)
    return reduced_atoms(layout, rotation, weighting, blocks, songs)


def atoms_with_new(
    workspace: Workspace, layout: Layout, weighting: Weighting, songs: int
) -> Floats:
    """The same by the numbers of a workspace with an update, of which it has so many songs.

    Songs known by their plays alone that the blend does not have add nothing.
    """
    rotation = read_arrays(workspace, "blend", *_ROTATION)["rotation"]
    old, start = read_atoms(workspace, layout, weighting), updates.first(workspace)
    found = np.zeros((songs, rotation.shape[1]), np.float32)
    found[: len(old)] = old
    new = updates.blend_added(workspace, "history")
    found[start:] = reduced_atoms(layout, rotation, weighting, new, songs - start)
    return found


@dataclass(frozen=True)
class BlendUsers:
    """Sums over the songs played, and what no history gives.

    Attributes
    ----------
    sums
        What makes them.
    nobody
        Of a user without plays what no history gives, shape (E,).
    own, others
        Songs of the catalogue, and those outside that the blend has.
    strangers
        What makes that of who is told nothing.
    """

    sums: ReducedUsers
    nobody: Floats
    own: int
    others: int
    strangers: StoredStrangers

    @staticmethod
    def read(
        workspace: Workspace, layout: Layout, atoms: Mapping[Weighting, Floats] | None = None
    ) -> BlendUsers:
        """Of a workspace; `atoms`, by weighting, are read, too, if they are not given."""
        if atoms is None:
            atoms = {each: read_atoms(workspace, layout, each) for each in weightings(layout)}
        arrays = read_arrays(workspace, "blend", *_ROTATION)
        sums = ReducedUsers(atoms, arrays["rotation"][layout.told])
        nobody, songs = arrays["nobody"][layout.told], songs_of_blend(workspace)
        return BlendUsers(sums, nobody, *songs, StoredStrangers(workspace, nobody))

    def keeping_strangers(self) -> BlendUsers:
        """With all that makes strangers read at once when one comes, and kept for the next."""
        return replace(self, strangers=replace(self.strangers, whole=True))

    def told(self, own: SongLists, other: SongLists, stored: Floats) -> Floats:
        """What no history gives of users, (users, E).

        Parameters
        ----------
        own, other
            As of :meth:`vectors`.
        stored
            What the blend has of each of them, shape (users, E); a nobody's of who is none of its
            own, and is known by these plays.
        """
        return self.strangers.told(lambda: self._histories(own, other), stored)

    def vectors(self, own: SongLists, other: SongLists, told: Floats) -> Made:
        """Of users.

        Parameters
        ----------
        own, other
            What each played of the catalogue, and outside.
        told
            What no history gives, of each of them, shape (users, E).
        """
        V = self.sums.of_songs(self._histories(own, other))
        others = self.nobody[None]
        popular = self.sums.of_told(others)[0]
        known = V.any(axis=1) | (told != others).any(axis=1)
        return Made(V + self.sums.of_told(told), known, popular if popular.any() else None)

    def _histories(self, own: SongLists, other: SongLists) -> Histories:
        """By song, those of the catalogue first."""
        lists = [(own, 0), *([(other, self.own)] if self.others else [])]
        user, song, plays = (
            np.concatenate(each)
            for each in zip(
                *(
                    (np.repeat(np.arange(len(of.sizes)), of.sizes), of.songs + first, of.plays)
                    for of, first in lists
                ),
                strict=True,
            )
        )
        return Histories.of(user, song, plays, (len(own.sizes), self.own + self.others))


# --- by a network trained on taste ---------------------------------------------------------


@dataclass(frozen=True)
class TasteSongs:
    """Songs of a training on taste.

    Attributes
    ----------
    songs
        What each is in a history, float32 (S, d); zeros of one that is in none.
    cold
        Those that stand there with what their content predicts, bool (S,).
    """

    songs: Floats
    cold: NDArray[np.bool_]

    @staticmethod
    def read(workspace: Workspace, objective: str) -> TasteSongs:
        """Of a workspace, by the training's `objective`."""
        found = HistorySongs.of(
            objective,
            _matrix(workspace, "history"),
            lambda rows: _matrix(workspace, "vectors")[rows],
        )
        return TasteSongs(found.vectors, found.cold)

    def with_new(self, F: Floats, objective: str) -> TasteSongs:
        """With new songs behind, which are in a history what their content predicts.

        Parameters
        ----------
        F
            What they are ranked by, float32 (n, d); zeros of one without.
        """
        cold = np.asarray(F.any(axis=1)) & (objective == "factors")
        return TasteSongs(np.concatenate([self.songs, F]), np.concatenate([self.cold, cold]))

    @property
    def known(self) -> NDArray[np.bool_]:
        """Songs that say something of who played them, shape (S,)."""
        return np.asarray(self.songs.any(axis=1))

    def vectors(self, own: SongLists, users: TasteUsers) -> Made:
        """Of users, by what each played of the catalogue."""
        own = own.where(self.known[own.songs])
        V = np.zeros((len(own.sizes), self.songs.shape[1]), np.float32)
        for user in np.flatnonzero(own.sizes):
            rows = slice(own.indptr[user], own.indptr[user + 1])
            codes, plays = own.songs[rows], own.plays[rows]
            V[user] = users.vector(self.songs[codes], self.cold[codes], plays)
        return Made(V, own.sizes > 0)


def read_taste(workspace: Workspace) -> TasteUsers:
    """What makes a user's vector, of a training on taste."""
    about = workspace.read_json("train", "users", "about.json")
    return TasteUsers.of(about, read_arrays(workspace, "train", *_TASTE))


def _matrix(workspace: Workspace, artifact: str) -> Floats:
    songs = workspace.require("ingest")["counts"]["songs"]
    return np.concatenate([*matrix_blocks(workspace, "train", artifact, songs)])
