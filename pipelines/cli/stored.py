"""What a finished workspace ranks by, read for one list and its reasons: light, and without Ray."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fusionrec.ranking.protocols import SongLists, profiles_and_relevant
from fusionrec.ranking.users import Weighting, user_vectors
from fusionrec.tables import matrix
from pipelines.cli.networked import Networked
from pipelines.cli.why import SONGS, Reason
from pipelines.runtime.workspace import Workspace, part_name

if TYPE_CHECKING:
    from fusionrec.signals.explain import Layout

Json = Mapping[str, Any]

_PROBABILITY = (
    "how likely one class drawn from {mine} and one drawn from the listed song are the same, "
    "by their class probabilities"
)
_ODDS = "how many times as likely as the first of the list, by the blend's softmax"

_HISTORY = ("history", "other_history")


class Stored(Protocol):
    """A model as stored: what it says of a user, or of one song taken for a history."""

    def match(self, scores: list[float]) -> tuple[list[float], str]:
        """Scores as numbers from 0 to 1, and what they say."""

    def scores(self) -> tuple[pa.Array, np.ndarray]:
        """Ids of the songs that it knows, and their scores."""

    def reasons(self, ids: list[str]) -> list[Reason]:
        """Why each of these songs has its score."""


def of_user(workspace: Workspace, user: str) -> Stored:
    """What the workspace's lists were ranked by, for one user."""
    users = workspace.read("ingest", "users")["user_id"]
    code = pc.index(users, user).as_py()
    model = model_of(workspace)
    if model == "blend":
        return Blended.of_user(workspace, code)
    if model == "network":
        return Networked.of_user(workspace, code)
    return Classes.of_user(workspace, users, code)


def of_song(workspace: Workspace, song_id: str, model: str) -> Stored | None:
    """The same for whoever played this one song; None if the model knows nothing of it."""
    if model == "blend":
        return Blended.of_song(workspace, song_id)
    if model == "network":
        return Networked.of_song(workspace, song_id)
    return Classes.of_song(workspace, song_id)


def model_of(workspace: Workspace) -> str:
    """What a workspace ranks by, as `recommend.model` has it.

    If it has no lists, what those of its training would be ranked by.
    """
    manifest = workspace.manifest("recommend")
    if manifest is not None:
        return str(manifest["content"]["settings"]["recommend"].get("model", "genre"))
    return "network" if on_taste(workspace) else "genre"


def on_taste(workspace: Workspace) -> bool:
    """Whether the workspace's training is on taste, and so has no classes."""
    manifest = workspace.manifest("train")
    return manifest is not None and "objective" in manifest["content"]["settings"]["train"]


def seen_by(workspace: Workspace, model: str) -> Workspace:
    """The workspace with the results that `--like` ranks by.

    By classes, those of the last training, though it may be newer than the lists.
    """
    lists = workspace.manifest("recommend") is not None
    newer = model == "genre" and not on_taste(workspace)
    return workspace.of("recommend" if lists and not newer else "train")


@dataclass(frozen=True)
class Classes:
    """Class probabilities: a user is the mean of those of the profile, weighted by plays."""

    workspace: Workspace
    profile: SongLists
    ids: pa.Array
    weighting: Weighting
    user: bool

    @staticmethod
    def of_user(workspace: Workspace, users: pa.ChunkedArray, code: int) -> Classes:
        """From the plays that the protocol shows of a user."""
        settings = workspace.require("recommend")["content"]["settings"]
        plays = workspace.read("ingest", "plays", filters=[("user", "=", code)])
        ids = workspace.read("ingest", "songs", ["song_id"])["song_id"].combine_chunks()
        known = workspace.read("train", "song_vectors", ["song_id"])["song_id"].combine_chunks()
        found = profiles_and_relevant(
            np.zeros(plays.num_rows, np.int32),
            plays["song"].to_numpy(),
            plays["plays"].to_numpy(),
            part=workspace.read("split", "split", ["part"])["part"].to_numpy(zero_copy_only=False),
            usable=pc.is_in(ids, value_set=known).to_numpy(zero_copy_only=False),
            protocol=settings["recommend"]["protocol"],
            user_ids=users.slice(code, 1),
            song_ids=ids,
            seed=settings["seed"],
        )
        return Classes(workspace, found.profiles, ids, settings["recommend"]["weighting"], True)

    @staticmethod
    def of_song(workspace: Workspace, song_id: str) -> Classes | None:
        """From that song alone."""
        ids = workspace.read("train", "song_vectors", ["song_id"])["song_id"].combine_chunks()
        row = pc.index(ids, song_id).as_py()
        if row < 0:
            return None
        one = SongLists(np.array([0, 1]), np.array([row], np.int32), np.ones(1, np.int64))
        return Classes(workspace, one, ids, "binary", False)

    @cached_property
    def _vectors(self) -> tuple[pa.Array, np.ndarray]:
        table = self.workspace.read("train", "song_vectors", ["song_id", "probabilities"])
        return table["song_id"].combine_chunks(), matrix(table["probabilities"])

    def _of(self, ids: pa.Array) -> np.ndarray:
        known, F = self._vectors
        found: np.ndarray = F[pc.index_in(ids, value_set=known).to_numpy()]
        return found

    @cached_property
    def _songs(self) -> pa.Array:
        return self.ids.take(pa.array(self.profile.songs))

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
        mine = "the songs of the user's profile, weighted by plays," if self.user else "this song"
        whole = float(self._mean(np.ones((len(self.profile.songs), 1), np.float32))[0])
        return [min(score / whole, 1.0) for score in scores], _PROBABILITY.format(mine=mine)

    def scores(self) -> tuple[pa.Array, np.ndarray]:
        """Of all songs with features."""
        ids, F = self._vectors
        return ids, F @ self._mean(self._of(self._songs))

    def reasons(self, ids: list[str]) -> list[Reason]:
        """By class; the network has fused the modalities, so that they have one share."""
        own, n = self._of(self._songs).astype(np.float64), len(self.profile.songs)
        # The mean of unit vectors is how much each song weighs in it.
        adds = self._mean(np.eye(n, dtype=np.float32)).astype(np.float64)[:, None] * own
        name = "+".join(self.workspace.require("fuse")["content"]["settings"]["modalities"])
        found = []
        for f in self._of(pa.array(ids)).astype(np.float64):
            parts = adds.sum(axis=0) * f
            score = float(parts.sum())
            signals = {f"class {number}": float(part) for number, part in enumerate(parts)}
            of_songs = adds @ f
            best = np.argsort(-of_songs, kind="stable")[:SONGS]
            songs = [(self._songs[int(i)].as_py(), float(of_songs[i])) for i in best]
            found.append(
                Reason(signals, {name: score}, {"content": score}, songs if self.user else [])
            )
        return found


@dataclass(frozen=True)
class Blended:
    """A blend, and the history of a user, or a song taken for one.

    Attributes
    ----------
    history, plays
        Rows of the songs, shape (songs,), and plays of them.
    about
        The blend's description.
    v, told
        Of a user what lists are ranked by, shape (d,), and what no history gives; None of a song.
    """

    workspace: Workspace
    history: np.ndarray
    plays: np.ndarray
    about: Json = field(repr=False)
    v: np.ndarray | None = None
    told: np.ndarray | None = None

    @staticmethod
    def of_user(workspace: Workspace, code: int) -> Blended:
        """As the blend knows a user."""
        about = workspace.read_json("blend", "blend.json")
        name = part_name(code // about["users_a_part"])
        row = workspace.read_part("blend", "users", name, filters=[("user", "=", code)])
        history, plays = (row[column].combine_chunks().flatten() for column in ("songs", "plays"))
        v, told = matrix(row["vector"])[0], row["told"].combine_chunks().flatten().to_numpy()
        return Blended(workspace, history.to_numpy(), plays.to_numpy(), about, v, told)

    @staticmethod
    def of_song(workspace: Workspace, song_id: str) -> Blended | None:
        """As the blend knows a user who played that song once, and no other.

        Popularity has no say, nor have signals whose users are no sums over histories.
        """
        about = workspace.read_json("blend", "blend.json")
        found = Blended(workspace, np.zeros(1, np.int64), np.ones(1, np.float32), about)
        row = pc.index(found._ids, song_id).as_py()
        found = replace(found, history=np.array([row]))
        return found if found._user.any() else None

    @cached_property
    def _ids(self) -> pa.Array:
        return self.workspace.read("ingest", "songs", ["song_id"])["song_id"].combine_chunks()

    @cached_property
    def _layout(self) -> Layout:
        from fusionrec.signals.explain import Layout

        return Layout.of_json(self.about)

    @cached_property
    def _atoms(self) -> np.ndarray:
        return self._rows(self.history, _HISTORY)

    @cached_property
    def _user(self) -> np.ndarray:
        """The vector by all signals, (D,)."""
        return self._layout.user(self._atoms, self.plays, self.told)

    def match(self, scores: list[float]) -> tuple[list[float], str]:
        """Odds against the first of the list."""
        return [float(np.exp(min(score - scores[0], 0.0))) for score in scores], _ODDS

    def scores(self) -> tuple[pa.Array, np.ndarray]:
        """Of all songs, a part of the catalogue after the other; of a song's, by all signals."""
        artifact, v = ("features", self._user) if self.v is None else ("songs", self.v)
        found = []
        for name in self.workspace.parts("blend", artifact):
            table = self.workspace.read_part("blend", artifact, name, ["vector"])
            found.append(matrix(table["vector"]) @ v)
        return self._ids, np.concatenate(found)

    def reasons(self, ids: list[str]) -> list[Reason]:
        """By signal; exact but for the rounding of float32."""
        from fusionrec.signals.explain import explain

        rows = pc.index_in(pa.array(ids), value_set=self._ids).to_numpy()
        features, names = self._rows(rows, ("features",)), self._names()
        if self.v is None:
            scores = features.astype(np.float64) @ self._user
        else:
            scores = self._rows(rows, ("songs",)).astype(np.float64) @ self.v
        modalities, kinds = self.about["modalities"], self.about["kinds"]
        found = []
        for score, song in zip(scores.tolist(), features, strict=True):
            why = explain(self._layout, score, self._user, song, self._atoms, self.plays)
            songs = [] if self.v is None else [(names[place], part) for place, part in why.songs]
            found.append(Reason(why.signals, why.by(modalities), why.by(kinds), songs))
        return found

    def _rows(self, rows: np.ndarray, artifacts: tuple[str, ...]) -> np.ndarray:
        """Vectors of some songs, reading little else of the parts; float32 (rows, d)."""
        found: np.ndarray | None = None
        for artifact, name, start, stop in self._parts(artifacts):
            here = (rows >= start) & (rows < stop)
            if here.any():
                some = rows[here] - start
                table = self.workspace.read_rows("blend", artifact, name, some, ["vector"])
                read = matrix(table["vector"])
                if found is None:
                    found = np.zeros((len(rows), read.shape[1]), np.float32)
                found[here] = read
        return np.zeros((0, self._layout.width), np.float32) if found is None else found

    def _parts(self, artifacts: tuple[str, ...]) -> Iterator[tuple[str, str, int, int]]:
        """Artifact, part, and the rows from which and before which it has songs."""
        start = 0
        for artifact in artifacts:
            sizes = self.about["parts"].get(artifact, [])
            for name, size in zip(self.workspace.parts("blend", artifact), sizes, strict=True):
                yield artifact, name, start, start + size
                start += size

    def _names(self) -> list[str]:
        """Ids of the history's songs."""
        own = self.about["own"]
        ids = self._ids
        if (self.history >= own).any():
            other = self.workspace.read("ingest", "other_songs", ["song_id"])["song_id"]
            ids = pa.concat_arrays([ids, other.combine_chunks()])
        names: list[str] = ids.take(pa.array(self.history.astype(np.int64))).to_pylist()
        return names
