"""Lists of all songs and plays, early and late, by going through them by hand."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from fusionrec.baselines.factorisation import confidence
from fusionrec.tables import matrix
from pipelines.opened.new_by_blend import NewByBlend
from pipelines.opened.ranked import VECTORS
from pipelines.runtime.rows import read_arrays, read_matrix
from pipelines.runtime.workspace import Workspace
from tests.pipelines.update.places import Place, all_plays, before, given_to


@dataclass(frozen=True)
class ByHand:
    """All songs, early then late; F, NaN of one without; and by user V, None of who has none, and
    whether the model knows nothing of them.
    """

    ids: list[str]
    F: np.ndarray
    plays: dict[str, dict[int, int]]
    V: dict[str, tuple[np.ndarray | None, bool]]
    artists: list[str]
    per_artist: int | None

    @staticmethod
    def of(place: Place) -> ByHand:
        workspace = place.workspace.of("lists")
        new = before(place).song_vectors(given_to(place))
        old = workspace.read("ingest", "songs")["song_id"].to_pylist()
        ids = [*old, *new["song_id"].to_pylist()]
        assert len(set(ids)) == len(ids)
        stage, artifact, column = VECTORS[place.config().recommend.model]
        table = workspace.read(stage, artifact)
        found, added = matrix(table[column]), matrix(new["vector"])
        F = np.full((len(ids), found.shape[1]), np.nan)
        F[[ids.index(song) for song in table["song_id"].to_pylist()]] = found
        F[len(old) :][new["present"].to_numpy(zero_copy_only=False)] = added[
            new["present"].to_numpy(zero_copy_only=False)
        ]
        plays: dict[str, dict[int, int]] = {}
        number = {song: at for at, song in enumerate(ids)}
        raw = all_plays(place)
        for user, played in raw.items():
            plays[user] = {number[song]: n for song, n in played.items() if song in number}
        V: dict[str, tuple[np.ndarray | None, bool]]
        if place.model in ("blend", "closed"):
            V = _blended(place, ids, raw)
        else:
            make = _VECTORS[place.model](workspace, F, len(old))
            found_by = {user: make(played) for user, played in plays.items()}
            V = {user: (v, v is None) for user, v in found_by.items()}
        rows = {row[0]: row[1] for rows in place.late.songs[::-1] for row in reversed(rows)}
        artists = [rows[song] or f"of {song}" for song in ids]
        return ByHand(ids, F, plays, V, artists, place.config().lists.per_artist)

    def expected(self, user: str, top: int) -> tuple[list[int], np.ndarray, bool]:
        """Songs that may be listed; the scores of all; and whether they are by listeners."""
        v, fallback = self.V[user]
        scores = self.F @ v if v is not None else self.listeners().astype(float)
        known = ~np.isnan(self.F[:, 0])
        left = [n for n in np.flatnonzero(known).tolist() if n not in self.plays[user]]
        best, of_artist = [], Counter[str]()
        for n in sorted(left, key=lambda n: (-scores[n], n)):
            of_artist[self.artists[n]] += 1
            if self.per_artist is None or of_artist[self.artists[n]] <= self.per_artist:
                best.append(n)
        return best[:top], scores, fallback

    def listeners(self) -> np.ndarray:
        found = np.zeros(len(self.ids), int)
        for played in self.plays.values():
            found[list(played)] += 1
        return found


def _genre(workspace: Workspace, F: np.ndarray, old: int) -> Any:
    def make(played: dict[int, int]) -> np.ndarray | None:
        rows = [plays * F[song] for song, plays in played.items() if not np.isnan(F[song, 0])]
        return np.mean(rows, axis=0) if rows else None

    return make


def _history(workspace: Workspace, F: np.ndarray, old: int) -> np.ndarray:
    H = read_matrix(workspace, "train", "history", np.arange(old)).astype(np.float64)
    return np.concatenate([H, np.nan_to_num(F[old:])])


def _factors(workspace: Workspace, F: np.ndarray, old: int) -> Any:
    H = _history(workspace, F, old)
    H[old:] = 0  # nobody's plays have told of them: as any song without factors

    def make(played: dict[int, int]) -> np.ndarray | None:
        Y, c, p = H.copy(), np.ones(len(H)), np.zeros(len(H))
        for song, plays in played.items():
            if not H[song].any() and not np.isnan(F[song, 0]):
                Y[song] = F[song]
            c[song], p[song] = confidence(np.array([plays]), 10.0, 1.0)[0], 1.0
        if not (Y * p[:, None]).any():
            return None
        return np.linalg.solve((Y.T * c) @ Y + 10.0 * np.eye(8), (Y.T * c) @ p)

    return make


def _ranking(workspace: Workspace, F: np.ndarray, old: int) -> Any:
    H = _history(workspace, F, old)
    arrays = read_arrays(workspace, "train", "users", "arrays.safetensors")

    def make(played: dict[int, int]) -> np.ndarray | None:
        songs = np.array([song for song in played if H[song].any()], int)
        if not len(songs):
            return None
        v, plays = H[songs, :-1], np.array([played[song] for song in songs])
        logits = v @ arrays["query"] / np.sqrt(7)
        e = np.exp(logits + arrays["slope"] * np.log(np.log1p(plays)))
        return np.append((e / e.sum()) @ v / np.sqrt(7), 1.0)

    return make


_VECTORS = {"genre": _genre, "limited": _genre, "factors": _factors, "ranking": _ranking}


WEIGHTS: dict[str, Any] = {
    "log": lambda plays: np.log1p(plays) / np.log1p(plays).sum(),
    "binary": lambda plays: np.ones(len(plays)),
    "mean": lambda plays: np.ones(len(plays)) / len(plays),
}


def _stranger(
    workspace: Workspace, rows: np.ndarray, plays: np.ndarray, nobody: np.ndarray
) -> np.ndarray:
    """What no history gives of a new user, by the songs that the blend learned plays of."""
    if not len(nobody):
        return nobody
    arrays = read_arrays(workspace, "blend", "strangers", "arrays.safetensors")
    listeners = np.append(arrays["listeners"], np.zeros(rows.max(initial=0) + 1, np.int32))
    seen = listeners[rows] > 0
    if not seen.any():
        return nobody
    songs, alone = rows[seen], listeners[rows[seen]]
    numbers = [1.0, np.log1p(len(songs)), np.log1p(alone).mean()]
    if "gram" in arrays:
        n, settings = (
            len(arrays["listeners"]),
            workspace.read_json("blend", "blend.json")["settings"],
        )
        Y = read_matrix(workspace, "blend", "song_factors", np.arange(n)).astype(np.float64)
        c, p = np.ones(n), np.isin(np.arange(n), songs)
        c[songs] = confidence(plays[seen], settings["alpha"], settings["epsilon"])
        ridge = settings["regularisation"] * np.eye(Y.shape[1])
        numbers += np.linalg.solve((Y.T * c) @ Y + ridge, (Y.T * c) @ p).tolist()
    found: np.ndarray = np.array(numbers) @ arrays["matrix"]
    return found


def _blended(
    place: Place, ids: list[str], raw: dict[str, dict[str, int]]
) -> dict[str, tuple[np.ndarray | None, bool]]:
    """Sums over all songs that the blend has, in its D dimensions; what no history gives beside."""
    workspace = place.workspace.of("lists")
    about = workspace.read_json("blend", "blend.json")
    arrays = read_arrays(workspace, "blend", "rotation", "arrays.safetensors")
    rotation, nobody = (arrays[name].astype(np.float64) for name in ("rotation", "nobody"))
    new = NewByBlend(workspace).make(given_to(place))
    assert new.atoms is not None
    old, others = len(ids) - len(new.ids), []
    if place.model == "blend":
        others = workspace.read("ingest", "other_songs")["song_id"].to_pylist()
        assert len(others) > 2
    H = read_matrix(workspace, "blend", "history", np.arange(old + len(others)))
    H = np.concatenate([H, new.atoms]).astype(np.float64)
    row = {song: old + at for at, song in enumerate(others)}
    row |= {song: at if at < old else at + len(others) for at, song in enumerate(ids)}
    summed = {
        name: slice(*place)
        for name, place in about["slices"].items()
        if about["weightings"][name] is not None and about["kinds"][name] != "popularity"
    }
    told = np.ones(len(nobody), bool)
    for where in summed.values():
        told[where] = False
    users = workspace.read("ingest", "users")["user_id"].to_pylist()
    known = workspace.read("blend", "users").sort_by("user")["told"].to_pylist()
    stored = dict(zip(users, known, strict=True))
    found: dict[str, tuple[np.ndarray | None, bool]] = {}
    for user, songs in raw.items():
        played = {row[song]: count for song, count in songs.items() if song in row}
        rows, plays = np.array(list(played), int), np.array(list(played.values()), float)
        u = np.zeros(len(nobody))
        u[told] = (
            stored[user] if user in stored else _stranger(workspace, rows, plays, nobody[told])
        )
        for name, where in summed.items():
            if len(rows):
                u[where] = WEIGHTS[about["weightings"][name]](plays) @ H[rows, where]
        same = np.allclose(u[told], nobody[told], atol=1e-7)
        fallback = bool(same and not u[~told].any())
        by_counts = fallback and not (nobody[told] @ rotation[told]).any()
        found[user] = (None if by_counts else u @ rotation, fallback)
    return found
