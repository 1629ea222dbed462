"""Users' vectors of all that they played, by any model: nothing is hidden, nobody is graded.

Under `genre` a user is the mean of the songs' classes, weighted by `recommend.weighting`. Under
`blend`, the sum of what each song played adds, those outside the catalogue among them
(`blend.other_plays`), and what no history gives, which is as the blend has it of the plays outside
the test part. Under `network` with `train.objective: ranking`, the mean of the songs played by the
network's attention; with `factors`, the least squares by the songs' factors, where a song without
factors, which nobody played outside the test part, stands with what its content predicts.

Of a user all of whose plays the model was to see, none of a test song, of a song in no part of the
split or of one kept with the test part, they are, to rounding, what `blend` or `network` has
stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from fusionrec.models.shares import TasteUsers
from fusionrec.ranking.protocols import SongLists
from fusionrec.ranking.users import Weighting
from fusionrec.signals.explain import Layout
from fusionrec.signals.histories import Histories
from fusionrec.signals.reduced import ReducedUsers, reduced_atoms, weightings
from pipelines.blend.vectors import ROTATION, read_told
from pipelines.config import Config
from pipelines.ingest.by_user import plays_of
from pipelines.recommend.ranking import StoredSongs, held
from pipelines.runtime import tasks
from pipelines.runtime.rows import matrix_blocks, read_arrays
from pipelines.runtime.workspace import StageRun, Workspace
from pipelines.train.plays import HISTORY, USER, VECTORS, read_vectors


@dataclass(frozen=True)
class Played:
    """All plays of the users from `start` to before `stop`.

    Attributes
    ----------
    own, other
        By songs of the catalogue, and by those outside, a row for each user.
    """

    start: int
    stop: int
    own: SongLists
    other: SongLists

    @staticmethod
    def read(workspace: Workspace, start: int, stop: int) -> Played:
        """Of the ingest."""
        lists = []
        for artifact in ("plays", "other_plays"):
            table = plays_of(workspace, start, stop, artifact)
            user, song, plays = (table[name].to_numpy() for name in ("user", "song", "plays"))
            lists.append(SongLists.of_plays(user - start, song, plays, stop - start))
        return Played(start, stop, *lists)


@dataclass(frozen=True)
class Made:
    """Users' vectors.

    Attributes
    ----------
    V
        Of a range of users, float32 (users, d).
    own
        Who has a vector of their own, bool (users,): the model knows something that they played.
    nobody
        The vector of all others, (d,), by which the songs that will be most popular come first;
        None where there is none.
    """

    V: np.ndarray
    own: np.ndarray
    nobody: np.ndarray | None = None


class Known(Protocol):
    """What makes users' vectors, in a worker."""

    def vectors(self, workspace: Workspace, played: Played) -> Made:
        """Those of a range of users."""


def known_by(config: Config, workspace: Workspace, run: StageRun, songs: StoredSongs) -> Known:
    """What makes users' vectors by the config's model, read into the object store by tasks."""
    if config.recommend.model == "blend":
        about = workspace.read_json("blend", "blend.json")
        layout = Layout.of_json(about)
        number = workspace.require("ingest")["counts"]["songs"]
        others = sum(workspace.require("blend")["counts"][n] for n in _OTHER_SONGS)
        atoms = {
            weighting: tasks.submit(run, _atoms, workspace, layout, weighting, number + others)
            for weighting in weightings(layout)
        }
        return ByBlend(atoms, layout, number, others)
    if config.recommend.model == "network":
        about = workspace.read_json("train", USER[0], "about.json")
        return ByTaste(tasks.submit(run, _of_taste, workspace, about["objective"]), about)
    return ByClasses(songs, config.recommend.weighting)


@dataclass(frozen=True)
class ByClasses:
    """Means of class probabilities."""

    songs: StoredSongs
    weighting: Weighting

    def vectors(self, workspace: Workspace, played: Played) -> Made:
        """See :class:`Known`."""
        profiles = played.own.where(held(self.songs.offers).catalogue.has_vector[played.own.songs])
        known = profiles.sizes > 0
        some = self.songs.users(profiles.of(known), self.weighting)
        V = np.zeros((len(known), some.shape[1]), np.float32)
        V[known] = some
        return Made(V, known)


_OTHER_SONGS = ("other_songs", "other_songs_hidden")
"""Counts of a blend: songs outside the catalogue that it has, seen and hidden."""


def _atoms(workspace: Workspace, layout: Layout, weighting: Any, songs: int) -> np.ndarray:
    rotation = read_arrays(workspace, "blend", *ROTATION)["rotation"]
    blocks = matrix_blocks(workspace, "blend", "history", songs)
    return reduced_atoms(layout, rotation, weighting, blocks, songs)


@dataclass(frozen=True)
class ByBlend:
    """Sums over the songs played, and what no history gives.

    Attributes
    ----------
    atoms
        References, by weighting.
    own, others
        Songs of the catalogue, and those outside that the blend has.
    """

    atoms: Mapping[Any, Any]
    layout: Layout
    own: int
    others: int

    def vectors(self, workspace: Workspace, played: Played) -> Made:
        """See :class:`Known`."""
        arrays = read_arrays(workspace, "blend", *ROTATION)
        rotation, nobody = arrays["rotation"], arrays["nobody"]
        read = {weighting: tasks.gather([atoms])[0] for weighting, atoms in self.atoms.items()}
        users = ReducedUsers(read, rotation[self.layout.told])
        lists = [(played.own, 0), *([(played.other, self.own)] if self.others else [])]
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
        shape = (len(played.own.sizes), self.own + self.others)
        histories = Histories.of(user, song, plays, shape)
        told = read_told(workspace, played.start, played.stop)
        others = nobody[None, self.layout.told]
        V, popular = users.of_songs(histories), users.of_told(others)[0]
        own = V.any(axis=1) | (told != others).any(axis=1)
        return Made(V + users.of_told(told), own, popular if popular.any() else None)


@dataclass(frozen=True)
class OfTaste:
    """Songs of a training on taste.

    Attributes
    ----------
    songs
        What each is in a history, float32 (S, d); zeros of one that is in none.
    cold
        Those that stand there with what their content predicts, bool (S,).
    """

    songs: np.ndarray
    cold: np.ndarray


def _of_taste(workspace: Workspace, objective: str) -> OfTaste:
    songs = read_vectors(workspace, HISTORY)
    cold = np.zeros(len(songs), bool)
    if objective == "factors":
        predicted = read_vectors(workspace, VECTORS)
        cold = np.asarray(~songs.any(axis=1) & predicted.any(axis=1))
        songs[cold] = predicted[cold]
    return OfTaste(songs, cold)


@dataclass(frozen=True)
class ByTaste:
    """What the songs played add, by a network that was trained on taste."""

    songs: Any
    about: Mapping[str, Any]

    def vectors(self, workspace: Workspace, played: Played) -> Made:
        """See :class:`Known`."""
        of: OfTaste = tasks.gather([self.songs])[0]
        users = TasteUsers.of(self.about, read_arrays(workspace, "train", *USER))
        has = np.asarray(of.songs.any(axis=1))
        own = played.own.where(has[played.own.songs])
        V = np.zeros((len(own.sizes), of.songs.shape[1]), np.float32)
        for user in np.flatnonzero(own.sizes):
            rows = slice(own.indptr[user], own.indptr[user + 1])
            codes, plays = own.songs[rows], own.plays[rows]
            V[user] = users.vector(of.songs[codes], of.cold[codes], plays)
        return Made(V, own.sizes > 0)
