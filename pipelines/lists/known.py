"""Users' vectors of all that they played, by any model: nothing is hidden, nobody is graded.

Under `genre` a user is the mean of the songs' classes, weighted by `recommend.weighting`. Under
`blend`, the sum of what each song played adds, those outside the catalogue among them
(`blend.other_plays`), and what no history gives, which is as the blend has it of the plays outside
the test part; of who has none that it was to see, it is made of the plays of songs that it learned
from. Under `network` with `train.objective: ranking`, the mean of the songs played by the network's
attention; with `factors`, the least squares by the songs' factors, where a song without factors,
which nobody played outside the test part, stands with what its content predicts.

Of a user all of whose plays the model was to see, they are, to rounding, what `blend` or `network`
has stored. It was not to see plays of a test song, of a song in no part of the split and of one
kept with the test part; under a split by time neither those at the cut or later, of songs that were
known before it, nor those without a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from fusionrec.ranking.protocols import SongLists
from fusionrec.ranking.users import Weighting
from fusionrec.signals.explain import Layout
from fusionrec.signals.reduced import weightings
from pipelines.blend.vectors import read_told
from pipelines.config import Config
from pipelines.ingest.by_user import plays_of
from pipelines.opened.users import BlendUsers, Made, TasteSongs, of_classes, read_atoms, read_taste
from pipelines.recommend.ranking import StoredSongs, held
from pipelines.runtime import tasks
from pipelines.runtime.workspace import StageRun, Workspace
from pipelines.train.plays import USER


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


class Known(Protocol):
    """What makes users' vectors, in a worker."""

    def vectors(self, workspace: Workspace, played: Played) -> Made:
        """Those of a range of users."""


def known_by(config: Config, workspace: Workspace, run: StageRun, songs: StoredSongs) -> Known:
    """What makes users' vectors by the config's model, read into the object store by tasks."""
    if config.recommend.model == "blend":
        layout = Layout.of_json(workspace.read_json("blend", "blend.json"))
        atoms = {
            weighting: tasks.submit(run, read_atoms, workspace, layout, weighting)
            for weighting in weightings(layout)
        }
        return ByBlend(atoms, layout)
    if config.recommend.model == "network":
        about = workspace.read_json("train", USER[0], "about.json")
        return ByTaste(tasks.submit(run, TasteSongs.read, workspace, about["objective"]))
    return ByClasses(songs, config.recommend.weighting)


@dataclass(frozen=True)
class ByClasses:
    """Means of class probabilities."""

    songs: StoredSongs
    weighting: Weighting

    def vectors(self, workspace: Workspace, played: Played) -> Made:
        """See :class:`Known`."""
        known = held(self.songs.offers).catalogue.has_vector
        return of_classes(played.own, known, lambda some: self.songs.users(some, self.weighting))


@dataclass(frozen=True)
class ByBlend:
    """Sums over the songs played, and what no history gives; `atoms` are references."""

    atoms: Mapping[Any, Any]
    layout: Layout

    def vectors(self, workspace: Workspace, played: Played) -> Made:
        """See :class:`Known`."""
        read = {weighting: tasks.gather([atoms])[0] for weighting, atoms in self.atoms.items()}
        users = BlendUsers.read(workspace, self.layout, read)
        stored = read_told(workspace, played.start, played.stop)
        told = users.told(played.own, played.other, stored)
        return users.vectors(played.own, played.other, told)


@dataclass(frozen=True)
class ByTaste:
    """What the songs played add, by a network that was trained on taste; `songs` is a reference."""

    songs: Any

    def vectors(self, workspace: Workspace, played: Played) -> Made:
        """See :class:`Known`."""
        of: TasteSongs = tasks.gather([self.songs])[0]
        return of.vectors(played.own, read_taste(workspace))
