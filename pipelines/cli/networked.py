"""A network that was trained on taste, as stored, and the history of a user (or a song for one).

Light, and without torch: a user's vector is a sum of what each song of the history adds, which
NumPy does again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from safetensors.numpy import load as load_safetensors

from fusionrec.baselines.factorisation import confidence
from fusionrec.models import shares
from fusionrec.tables import matrix
from pipelines.cli.why import SONGS, Reason
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
        where = [("user", "=", code)]
        row = workspace.read_part("train", "user_vectors", name, ["songs", "plays"], where)
        songs, plays = (
            row[name].combine_chunks().flatten().to_numpy() for name in row.schema.names
        )
        return Networked(workspace, songs, plays, about)

    @staticmethod
    def of_song(workspace: Workspace, song_id: str) -> Networked | None:
        """As it knows a user who played that song once, and no other; None without features."""
        about = workspace.read_json("train", "users", "about.json")
        one = Networked(workspace, np.zeros(1, np.int64), np.ones(1, np.float32), about, False)
        row = pc.index(one._catalogue, song_id).as_py()
        known, _ = one._songs
        return (
            replace(one, songs=np.array([row])) if pc.index(known, song_id).as_py() >= 0 else None
        )

    @cached_property
    def _catalogue(self) -> pa.Array:
        return self.workspace.read("ingest", "songs", ["song_id"])["song_id"].combine_chunks()

    @cached_property
    def _songs(self) -> tuple[pa.Array, list[int]]:
        """Ids of the songs that have vectors, and how many of them each part has."""
        tables = [
            self.workspace.read_part("train", "song_vectors", name, ["song_id"])
            for name in self.workspace.parts("train", "song_vectors")
        ]
        ids = pa.concat_tables(tables)["song_id"].combine_chunks()
        return ids, [table.num_rows for table in tables]

    @cached_property
    def _arrays(self) -> dict[str, np.ndarray]:
        """What makes a user's vector of a history."""
        return load_safetensors(self.workspace.read_bytes("train", "users", "arrays.safetensors"))

    @cached_property
    def _adds(self) -> np.ndarray:
        """What each song adds to the user's vector, float64 (L, d); a song's bias left out."""
        rows = self._rows("history", self.about["parts"], self.songs)
        if self.about["objective"] == "ranking":
            v = rows[:, :-1]
            weights = shares.of_attention(
                v, self.plays, self._arrays["query"], float(self._arrays["slope"])
            )
            parts: np.ndarray = weights[:, None] * v / np.sqrt(v.shape[1])
            return parts
        gram = self._arrays["gram"]
        if not self.of_a_user and not rows.any():
            # A cold song is known by what its content predicts, and by no play among all.
            rows = self._of(self._catalogue.take(pa.array(self.songs)))
            gram = gram + rows.astype(np.float64).T @ rows
        c = confidence(self.plays, self.about["alpha"], self.about["epsilon"])
        return shares.of_factors(gram, rows, c, self.about["regularisation"])

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
        v, found = self._adds.sum(axis=0), []
        for name in self.workspace.parts("train", "song_vectors"):
            table = self.workspace.read_part("train", "song_vectors", name, ["vector"])
            found.append(matrix(table["vector"])[:, : len(v)] @ v)
        return self._songs[0], np.concatenate(found)

    def reasons(self, ids: list[str]) -> list[Reason]:
        """By song of the history, exactly; the network has fused the modalities.

        Under `ranking` a song's bias, which its content has, is what makes it one for everybody.
        """
        name = "+".join(self.workspace.require("fuse")["content"]["settings"]["modalities"])
        names = self._catalogue.take(pa.array(self.songs.astype(np.int64))).to_pylist()
        biased = self.of_a_user and self.about["objective"] == "ranking"
        found = []
        for f in self._of(pa.array(ids)).astype(np.float64):
            of_songs = self._adds @ f[: self._adds.shape[1]]
            heard, bias = float(of_songs.sum()), float(f[-1])
            signals, kinds = {"songs played": heard}, {"content": heard}
            if biased:
                signals["song alone"] = kinds["popularity"] = bias
            best = np.argsort(-of_songs, kind="stable")[:SONGS]
            songs = [(names[int(i)], float(of_songs[i])) for i in best]
            found.append(
                Reason(
                    signals,
                    {name: sum(kinds.values())},
                    kinds,
                    songs if self.of_a_user else [],
                )
            )
        return found

    def _of(self, ids: pa.Array) -> np.ndarray:
        """F of songs that have one."""
        known, sizes = self._songs
        return self._rows("song_vectors", sizes, pc.index_in(ids, value_set=known).to_numpy())

    def _rows(self, artifact: str, sizes: list[int], rows: np.ndarray) -> np.ndarray:
        """Vectors of some songs, reading little else of the parts, of so many rows each."""
        starts = np.cumsum([0, *sizes])
        part = np.searchsorted(starts, rows, side="right") - 1
        names = self.workspace.parts("train", artifact)
        found: np.ndarray | None = None
        for number in np.unique(part):
            here, start = part == number, starts[number]
            some = rows[here] - start
            table = self.workspace.read_rows("train", artifact, names[number], some, ["vector"])
            read = matrix(table["vector"])
            if found is None:
                found = np.zeros((len(rows), read.shape[1]), np.float32)
            found[here] = read
        if found is None:
            raise ValueError("no row is asked for")
        return found
