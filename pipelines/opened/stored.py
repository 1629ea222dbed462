"""What a finished workspace ranks by, read for one list and its reasons: light, and without Ray."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fusionrec.ranking.protocols import SongLists
from fusionrec.ranking.users import Weighting, user_vectors
from fusionrec.tables import matrix
from pipelines.opened import updates
from pipelines.opened.blended import Blended
from pipelines.opened.catalogue import Catalogue, list_of, played_by
from pipelines.opened.networked import Networked
from pipelines.opened.reasons import SONGS, Reason
from pipelines.runtime.workspace import Workspace

Json = Mapping[str, Any]

_PROBABILITY = (
    "how likely one class drawn from {mine} and one drawn from the listed song are the same, "
    "by their class probabilities"
)
_LISTENERS = (
    "listeners beside those of the first: nothing that this user played is known to the model, so "
    "the songs that most users played come first"
)

_MINE = {
    "recommend": "the songs of the user's profile, weighted by plays,",
    "lists": "the songs that the user played, weighted by plays,",
}


class Stored(Protocol):
    """A model as stored: what it says of a user, or of one song taken for a history."""

    def match(self, scores: list[float]) -> tuple[list[float], str]:
        """Scores as numbers from 0 to 1, and what they say."""

    def scores(self) -> tuple[pa.Array, np.ndarray]:
        """Ids of the songs that it knows, and their scores."""

    def reasons(self, ids: list[str], scores: list[float]) -> list[Reason]:
        """Why each of these songs has its score."""


def of_user(workspace: Workspace, code: int) -> Stored:
    """What the evaluation's lists were ranked by, for one user, by number."""
    model = model_of(workspace)
    if model == "blend":
        return Blended.of_user(workspace, code)
    if model == "network":
        return Networked.of_user(workspace, code)
    return Classes.of_user(workspace, code)


def of_everyone(workspace: Workspace, code: int) -> Stored:
    """The same of the lists for everyone: by all that the user played."""
    model = workspace.require("lists")["content"]["settings"]["model"]
    fallback = list_of(workspace, code, ["fallback"], "lists")["fallback"][0].as_py()
    if fallback and workspace.read_json("lists", "about.json")["fallback_by"] == "listeners":
        return Listened()
    if model == "blend":
        return Blended.of_everyone(workspace, code)
    if model == "network":
        return Networked.of_everyone(workspace, code)
    return Classes.of_everyone(workspace, code)


def of_song(workspace: Workspace, song_id: str, model: str) -> Stored | None:
    """The same for whoever played this one song; None if the model knows nothing of it."""
    if model == "blend":
        return Blended.of_song(workspace, song_id)
    if model == "network":
        return Networked.of_song(workspace, song_id)
    return Classes.of_song(workspace, song_id)


def model_of(workspace: Workspace) -> str:
    """What a workspace ranks by, as `recommend.model` has it.

    That of the evaluation's lists, else of those for everyone; if it has no lists, what those of
    its training would be ranked by.
    """
    manifest = workspace.manifest("recommend")
    if manifest is not None:
        return str(manifest["content"]["settings"]["recommend"].get("model", "genre"))
    manifest = workspace.manifest("lists")
    if manifest is not None:
        return str(manifest["content"]["settings"]["model"])
    return "network" if on_taste(workspace) else "genre"


def on_taste(workspace: Workspace) -> bool:
    """Whether the workspace's training is on taste, and so has no classes."""
    manifest = workspace.manifest("train")
    return manifest is not None and "objective" in manifest["content"]["settings"]["train"]


def seen_by(workspace: Workspace, model: str) -> Workspace:
    """The workspace with the results that `--like` ranks by.

    By classes, those of the last training, though it may be newer than the lists.
    """
    learned = "blend" if model == "blend" else "train"
    newer = model == "genre" and not on_taste(workspace)
    lists = [s for s in ("recommend", "lists") if workspace.manifest(s) is not None and not newer]
    return updates.beside(workspace, workspace.of([*lists, learned][0]), learned)


def lists_shown(workspace: Workspace) -> Workspace:
    """The workspace with its lists for everyone, as an update has them if there is one of them."""
    return updates.with_update(workspace) or workspace.of("lists")


def stage_shown(workspace: Workspace) -> str:
    """The stage whose lists are shown if nobody says: `lists` where they are of what is current.

    Lists for everyone are left aside that were made of another result than the current one of a
    stage, or by another model than the evaluation's lists are.
    """
    manifest, current = workspace.manifest("lists"), workspace.current()
    if manifest is None or not manifest["lineage"].items() <= current.items():
        return "recommend"
    evaluated = workspace.manifest("recommend") is not None
    same = manifest["content"]["settings"]["model"] == model_of(workspace)
    return "lists" if same or not evaluated else "recommend"


def most_like(
    workspace: Workspace, song_id: str, model: str, top: int
) -> tuple[Stored, list[str], list[float]] | None:
    """The first `top` songs for whoever played that one, without it, and their scores.

    None if the model knows nothing of the song.
    """
    stored = of_song(workspace, song_id, model)
    if stored is None:
        return None
    known, scores = stored.scores()
    scores[pc.index(known, song_id).as_py()] = -np.inf
    best = np.argsort(-scores, kind="stable")[: min(top, len(scores) - 1)]
    return stored, known.take(pa.array(best)).to_pylist(), scores[best].tolist()


@dataclass(frozen=True)
class Listened:
    """Listeners: what the songs for who has no vector are ranked by, where no model says it."""

    def match(self, scores: list[float]) -> tuple[list[float], str]:
        """Of as many as the first has."""
        return [score / max(scores[0], 1.0) for score in scores], _LISTENERS

    def scores(self) -> tuple[pa.Array, np.ndarray]:
        """None: they are of no model."""
        return pa.array([], pa.string()), np.zeros(0)

    def reasons(self, ids: list[str], scores: list[float]) -> list[Reason]:
        """The listeners, all of them."""
        return [Reason({"listeners": s}, {"plays": s}, {"popularity": s}, []) for s in scores]


@dataclass(frozen=True)
class Classes:
    """Class probabilities: a user is the mean of those of the profile, weighted by plays.

    Attributes
    ----------
    profile
        One list, of rows of the ingest's `songs`.
    weighting
        What each of its songs weighs.
    lists
        The stage whose lists it is explained for; None of a song taken for a user, and of plays
        that are in no list.
    of_a_user
        Else of one song, taken for the profile of somebody who played it once.
    """

    workspace: Workspace
    profile: SongLists
    weighting: Weighting
    lists: str | None
    of_a_user: bool = True

    @staticmethod
    def of_user(workspace: Workspace, code: int) -> Classes:
        """From the profile that the user's list was made of."""
        settings = workspace.require("recommend")["content"]["settings"]
        row = list_of(workspace, code, ["profile", "profile_plays"])
        songs, plays = (column.combine_chunks().flatten().to_numpy() for column in row.columns)
        profile = SongLists(np.array([0, len(songs)]), songs, plays)
        return Classes(workspace, profile, settings["recommend"]["weighting"], "recommend")

    @staticmethod
    def of_everyone(workspace: Workspace, code: int) -> Classes:
        """From all songs with features that the user played."""
        songs, plays = played_by(workspace, code)
        known = updates.rows_of(workspace, "lists", "vectors", songs).any(axis=1)
        profile = SongLists(np.array([0, known.sum()]), songs[known], plays[known])
        settings = workspace.require("lists")["content"]["settings"]
        return Classes(workspace, profile, settings["weighting"], "lists")

    @staticmethod
    def of_song(workspace: Workspace, song_id: str) -> Classes | None:
        """From that song alone."""
        row = Catalogue(workspace).rows([song_id])
        one = SongLists(np.array([0, 1]), row.astype(np.int32), np.ones(1, np.int64))
        found = Classes(workspace, one, "binary", None, of_a_user=False)
        known, _ = found._vectors
        return found if pc.index(known, song_id).as_py() >= 0 else None

    @cached_property
    def _vectors(self) -> tuple[pa.Array, np.ndarray]:
        table = self.workspace.read("train", "song_vectors", ["song_id", "probabilities"])
        ids, F = table["song_id"].combine_chunks(), matrix(table["probabilities"])
        return updates.appended(self.workspace, ids, F)

    def _of(self, rows: np.ndarray) -> np.ndarray:
        """Probabilities of songs by their number, (rows, k); of a song's list all are read."""
        if self.lists is not None:
            return updates.rows_of(self.workspace, self.lists, "vectors", rows)
        known, F = self._vectors
        ids = pa.array(Catalogue(self.workspace).ids(rows), pa.string())
        found: np.ndarray = F[pc.index_in(ids, value_set=known).to_numpy()]
        return found

    def _mean(self, rows: np.ndarray) -> np.ndarray:
        """The user's vector, (k,), for what stands for each of the profile's songs."""
        numbers = np.arange(len(rows), dtype=np.int32)
        lists = self.profile
        found: np.ndarray = user_vectors(lists.indptr, numbers, lists.plays, rows, self.weighting)[
            0
        ]
        return found

    def match(self, scores: list[float]) -> tuple[list[float], str]:
        """A user's vector adds up to the mean weight of the songs: over it, it is a distribution,
        and a score a probability.
        """
        mine = _MINE[self.lists or "lists"] if self.of_a_user else "this song"
        whole = float(self._mean(np.ones((len(self.profile.songs), 1), np.float32))[0])
        return [min(score / whole, 1.0) for score in scores], _PROBABILITY.format(mine=mine)

    def scores(self) -> tuple[pa.Array, np.ndarray]:
        """Of all songs with features."""
        ids, F = self._vectors
        return ids, F @ self._mean(self._of(self.profile.songs))

    def reasons(self, ids: list[str], scores: list[float]) -> list[Reason]:
        """By class; the network has fused the modalities, so that they have one share."""
        catalogue, songs = Catalogue(self.workspace), self.profile.songs
        own, n = self._of(songs).astype(np.float64), len(songs)
        # The mean of unit vectors is how much each song weighs in it.
        adds = self._mean(np.eye(n, dtype=np.float32)).astype(np.float64)[:, None] * own
        name = "+".join(self.workspace.require("fuse")["content"]["settings"]["modalities"])
        listed = self._of(catalogue.rows(ids)).astype(np.float64)
        of_songs = listed @ adds.T
        best = np.argsort(-of_songs, axis=1, kind="stable")[:, :SONGS]
        heard = catalogue.ids(songs[best.ravel()]) if self.of_a_user else []
        found = []
        for number, f in enumerate(listed):
            parts = adds.sum(axis=0) * f
            score = float(parts.sum())
            signals = {f"class {number}": float(part) for number, part in enumerate(parts)}
            names = heard[number * best.shape[1] :][: best.shape[1]]
            most = zip(names, of_songs[number, best[number]].tolist(), strict=False)
            found.append(Reason(signals, {name: score}, {"content": score}, list(most)))
        return found
