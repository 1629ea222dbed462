"""Classes of a workspace for people: what they are called, and what songs and users are of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from fusionrec.labels.typical import typical_tags
from fusionrec.ranking.users import user_vectors
from fusionrec.tables import matrix
from pipelines.opened.blended import Blended
from pipelines.opened.networked import Networked
from pipelines.opened.stored import Classes, Stored, on_taste
from pipelines.runtime.workspace import Workspace
from pipelines.serve.snapshot import Snapshot

NO_CLASSES = "The workspace has no classes of these songs: `fusionrec label` makes them from tags."
NO_MIXTURES = (
    "The workspace has no network of the classes, so that it does not know how a song is mixed of "
    "them: `fusionrec train` with train.objective classes learns it."
)
_NONE = -1


@dataclass(frozen=True)
class Genres:
    """What is known of classes.

    Attributes
    ----------
    tags
        By class, its most typical tags; empty where there are no classes.
    sizes
        Tagged songs of each class.
    of_song
        The class of each song of the catalogue, int32 (S,): the most probable one where a network
        knows the classes, else that of its tags; -1 where nothing says it.
    mixtures
        Class probabilities, float32 (S, k), zeros of a song without features; None where there is
        no network of the classes.
    """

    tags: list[list[str]]
    sizes: list[int]
    of_song: NDArray[np.int32]
    mixtures: NDArray[np.float32] | None

    @staticmethod
    def read(snapshot: Snapshot) -> Genres:
        """Of the result that is served, or else of the workspace's current one of its songs."""
        songs = snapshot.batches.ranked.songs.ids
        none = np.full(len(songs), _NONE, np.int32)
        seen = _seen(snapshot)
        labels = None if seen is None else seen.manifest("label")
        if seen is None or labels is None:
            return Genres([], [], none, None)
        k = int(labels["counts"]["classes"])
        lists = seen.read("label", "label_vectors", ["tags", "class", "songs"])
        of_tags, of_class, counts = (lists[name].to_pylist() for name in ("tags", "class", "songs"))
        tags = typical_tags(of_tags, of_class, counts, k)
        sizes = [int(labels["counts"]["class_sizes"].get(str(each), 0)) for each in range(k)]
        if seen.manifest("train") is not None and not on_taste(seen):
            table = seen.read("train", "song_vectors", ["song_id", "probabilities"])
            rows = pc.index_in(table["song_id"].combine_chunks(), value_set=songs).to_numpy()
            mixtures = np.zeros((len(songs), k), np.float32)
            mixtures[rows] = matrix(table["probabilities"])
            if seen is snapshot.recommender.workspace and snapshot.model == "genre":
                mixtures = snapshot.batches.ranked.songs.F  # an update's songs, too
            known = mixtures.any(axis=1)
            of_song = np.where(known, mixtures.argmax(axis=1), none).astype(np.int32)
            return Genres(tags, sizes, of_song, mixtures)
        table = seen.read("label", "labels", ["song_id", "class"])
        rows = pc.index_in(table["song_id"].combine_chunks(), value_set=songs).to_numpy()
        none[rows] = table["class"].to_numpy()
        return Genres(tags, sizes, none, None)

    def of_songs(self, rows: NDArray[np.int64]) -> list[list[float] | None]:
        """The mixture of each song, by number; None where it is not known."""
        if self.mixtures is None:
            return [None] * len(rows)
        return [row.tolist() if row.any() else None for row in self.mixtures[rows]]

    def of_user(self, stored: Stored, weighting: str) -> list[float] | None:
        """The mixture of a history: the mean of its songs', weighted by plays; None without any."""
        songs, plays = history(stored)
        if self.mixtures is None:
            return None
        own = songs < len(self.mixtures)
        own[own] = self.mixtures[songs[own]].any(axis=1)
        if not own.any():
            return None
        indptr = np.array([0, int(own.sum())])
        v = user_vectors(indptr, songs[own], plays[own], self.mixtures, weighting)[0]  # type: ignore[arg-type]
        found: list[float] = (v / v.sum()).tolist()
        return found


def history(stored: Stored) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Songs that somebody played, by number, and how often; none where no model says it."""
    if isinstance(stored, Classes):
        songs, plays = stored.profile.songs, stored.profile.plays
    elif isinstance(stored, Networked):
        songs, plays = stored.songs, stored.plays
    elif isinstance(stored, Blended):
        songs, plays = stored.history
    else:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    return np.asarray(songs, np.int64), np.asarray(plays, np.int64)


def _seen(snapshot: Snapshot) -> Workspace | None:
    """The workspace by the results that have the classes; None where there are none."""
    served = snapshot.recommender.workspace
    if {"label", "train"} <= served.keys.keys() and not on_taste(served):
        return served
    base = Workspace(served.uri)
    for stage in ("train", "label"):
        if base.manifest(stage) is None or (stage == "train" and on_taste(base)):
            continue
        seen = base.of(stage)
        if seen.key("ingest") == served.key("ingest"):
            return seen
    return None
