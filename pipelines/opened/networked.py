"""A network that was trained on taste, as stored, and the history of a user (or a song for one).

Light, and without torch: a user's vector is a sum of what each song of the history adds, which
NumPy does again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from fusionrec.models.shares import HistorySongs, TasteUsers
from fusionrec.tables import matrix
from pipelines.opened import updates
from pipelines.opened.catalogue import Catalogue, played_by
from pipelines.opened.reasons import SONGS, Reason
from pipelines.runtime.rows import read_arrays
from pipelines.runtime.workspace import Workspace, part_name

Json = Mapping[str, Any]

_MATCHES = {
    "ranking": "how many times as likely as the first of the list, by the network's softmax",
    "factors": "the preference that the factors predict, which is 1 for a song that was played",
    "cosine": "the score over that of the first of the list",
}


@dataclass(frozen=True)
class Networked:
    """Of a training on taste.

    Attributes
    ----------
    songs, plays
        The history: rows of the songs, shape (L,), and plays of them.
    about
        What makes a user's vector of it.
    of_a_user
        Else of one song, taken for the history of somebody who played it once.
    """

    workspace: Workspace
    songs: np.ndarray
    plays: np.ndarray
    about: Json = field(repr=False)
    of_a_user: bool = True

    @staticmethod
    def of_user(workspace: Workspace, code: int) -> Networked:
        """As the network knows a user."""
        about = workspace.read_json("train", "users", "about.json")
        name = part_name(code // about["users_a_part"])
        row = workspace.read_user("train", "user_vectors", name, code, ["songs", "plays"])
        songs, plays = (
            row[name].combine_chunks().flatten().to_numpy() for name in row.schema.names
        )
        return Networked(workspace, songs, plays, about)

    @staticmethod
    def of_everyone(workspace: Workspace, code: int) -> Networked:
        """As it knows a user by all plays."""
        about = workspace.read_json("train", "users", "about.json")
        songs, plays = played_by(workspace, code)
        known = Networked(workspace, songs, plays, about)._history.known
        return Networked(workspace, songs[known], plays[known], about)

    @staticmethod
    def of_song(workspace: Workspace, song_id: str) -> Networked | None:
        """As it knows a user who played that song once, and no other; None without features."""
        about = workspace.read_json("train", "users", "about.json")
        row = Catalogue(workspace).rows([song_id])
        one = Networked(workspace, row, np.ones(1, np.float32), about, of_a_user=False)
        return one if one._rows("vectors", row).any() else None

    def _rows(self, artifact: str, numbers: np.ndarray) -> np.ndarray:
        found = updates.rows_of(self.workspace, "train", artifact, numbers)
        of_factors = artifact == "history" and self.about["objective"] == "factors"
        if of_factors and updates.has(self.workspace):
            found[numbers >= updates.first(self.workspace)] = 0  # nobody's plays told of them
        return found

    @cached_property
    def _history(self) -> HistorySongs:
        """What each song is in the history."""
        return HistorySongs.of(
            self.about["objective"],
            self._rows("history", self.songs),
            lambda places: self._rows("vectors", self.songs[places]),
        )

    @cached_property
    def _adds(self) -> np.ndarray:
        """What each song adds to the user's vector, float64 (L, d); a song's bias left out."""
        history = self._history
        arrays = read_arrays(self.workspace, "train", "users", "arrays.safetensors")
        return TasteUsers.of(self.about, arrays).adds(history.vectors, history.cold, self.plays)

    def match(self, scores: list[float]) -> tuple[list[float], str]:
        """Odds against the first of the list, or the preference that is predicted."""
        if self.about["objective"] == "ranking":
            odds = [float(np.exp(min(score - scores[0], 0.0))) for score in scores]
            return odds, _MATCHES["ranking"]
        kind = "cosine" if self.about["loss"] == "cosine" else "factors"
        whole = max(scores[0], 1e-12) if kind == "cosine" else 1.0
        return [float(np.clip(score / whole, 0, 1)) for score in scores], _MATCHES[kind]

    def scores(self) -> tuple[pa.Array, np.ndarray]:
        """Of all songs with features, a part of the catalogue after the other."""
        v, ids, found = self._adds.sum(axis=0), [], []
        for name in self.workspace.parts("train", "song_vectors"):
            table = self.workspace.read_part("train", "song_vectors", name)
            ids.append(table["song_id"].combine_chunks())
            found.append(matrix(table["vector"])[:, : len(v)] @ v)
        if updates.has(self.workspace):
            new = updates.Added.read(self.workspace)
            ids.append(new.ids.filter(pa.array(new.present)))
            found.append(new.F[new.present][:, : len(v)] @ v)
        return pa.concat_arrays(ids), np.concatenate(found)

    def reasons(self, ids: list[str], scores: list[float]) -> list[Reason]:
        """By song of the history, exactly; the network has fused the modalities.

        Under `ranking` a song's bias, which its content has, is what makes it one for everybody.
        """
        catalogue, ranking = Catalogue(self.workspace), self.about["objective"] == "ranking"
        name = "+".join(self.workspace.require("fuse")["content"]["settings"]["modalities"])
        F = self._rows("vectors", catalogue.rows(ids)).astype(np.float64)
        of_songs = F[:, : self._adds.shape[1]] @ self._adds.T
        best = np.argsort(-of_songs, axis=1, kind="stable")[:, :SONGS]
        heard = iter(catalogue.ids(self.songs[best.ravel()]) if self.of_a_user else [])
        found = []
        for f, parts, most in zip(F, of_songs, best, strict=True):
            of_history = float(parts.sum())
            signals, kinds = {"songs played": of_history}, {"content": of_history}
            if ranking and self.of_a_user:
                signals["song alone"] = kinds["popularity"] = float(f[-1])
            songs = [(next(heard), float(parts[i])) for i in most] if self.of_a_user else []
            found.append(Reason(signals, {name: sum(kinds.values())}, kinds, songs))
        return found
