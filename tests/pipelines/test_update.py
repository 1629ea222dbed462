"""Lists brought up to date with late songs and plays, against what is made of all of them by hand."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fusionrec.baselines.factorisation import confidence
from fusionrec.errors import ConfigError, SourceError, WorkspaceError
from fusionrec.tables import matrix
from pipelines import lists, train, update
from pipelines.config import Config
from pipelines.opened import Recommender
from pipelines.run import stages
from pipelines.runtime.rows import read_arrays, read_matrix
from pipelines.runtime.workspace import Workspace
from pipelines.update import base as bases
from tests.pipelines.inline import without_ray
from tests.pipelines.late import MODELS, Late, load


@pytest.fixture(autouse=True)
def _no_ray(request) -> Iterator[None]:
    with nullcontext() if "ray_session" in request.fixturenames else without_ray():
        yield


@dataclass(frozen=True)
class Place:
    """A folder with the tables in `tables` and a workspace in `w`."""

    late: Late
    folder: Path
    model: str

    @property
    def workspace(self) -> Workspace:
        return Workspace(str(self.folder / "w"))

    def config(self, **more: object) -> Config:
        return load(self.folder / "tables", self.folder / "w", self.model, **more)

    def copy(self, folder: Path) -> Place:
        """Elsewhere; the config's root stays, so that the files are the same ones."""
        shutil.copytree(self.folder / "w", folder / "w")
        return Place(self.late, folder, self.model)


@pytest.fixture(scope="module")
def early(tmp_path_factory) -> Place:
    """A run of the early files, but for its training."""
    place = tmp_path_factory.mktemp("early")
    late = Late.of(place / "sample")
    late.write(place / "tables", "1", late=False)
    found = Place(late, place, "genre")
    with without_ray():
        for stage in stages(found.config()):
            if stage.name in ("train", "blend"):
                break
            stage.run(found.config())
    return found


@pytest.fixture(scope="module")
def places(early, tmp_path_factory) -> dict[str, Place]:
    """By model, a run of the early files with lists, brought up to date; made once it is asked for.

    The files lie beside each workspace, early ones with the times that the run saw.
    """

    class Places(dict[str, Place]):
        def __missing__(self, model: str) -> Place:
            folder = tmp_path_factory.mktemp(model)
            self[model] = begun(early, folder, model)
            early.late.write(folder / "tables", "2", late=True)
            update.STAGE.run(self[model].config())
            return self[model]

    return Places()


def begun(early: Place, folder: Path, model: str) -> Place:
    """With lists, and no late file yet."""
    shutil.copytree(early.folder / "tables", folder / "tables")  # with their times
    shutil.copytree(early.folder / "w", folder / "w")
    found = Place(early.late, folder, model)
    for stage in stages(found.config()):
        if stage.name == "recommend":
            break
        stage.run(found.config())
    lists.STAGE.run(found.config())
    return found


@pytest.fixture(params=MODELS)
def place(request, places) -> Place:
    found: Place = places[request.param]
    return found


# --- by hand -------------------------------------------------------------------------------


def sound_plays(rows: list[list[str]]) -> Counter[tuple[str, str]]:
    """How often each user played each song."""
    found: Counter[tuple[str, str]] = Counter()
    for row in rows:
        if len(row) == 4 and row[2].isdigit() and int(row[2]) > 0:
            found[row[0], row[1]] += int(row[2])
    return found


def given_songs(late: Late) -> pa.Table:
    """The late songs as a person gives them."""
    rows = list({row[0]: row for row in reversed(late.songs[1])}.values())[::-1]
    bags = {
        row[0]: [pair.rpartition(":") for pair in row[1].split()]
        for row in late.lyrics[1]
        if ":" in row[1]
    }
    return pa.table(
        {
            "song_id": [row[0] for row in rows],
            "artist_name": [row[1] or None for row in rows],
            "title": [row[2] or None for row in rows],
            "release": [row[3] or None for row in rows],
            "year": pa.array(
                [int(row[4]) if row[4].isdigit() else None for row in rows], pa.int32()
            ),
            "duration": pa.array([float(row[5]) if row[5] else None for row in rows], pa.float32()),
            "words": [[word for word, _, _ in bags.get(row[0], [])] for row in rows],
            "counts": [[int(count) for _, _, count in bags.get(row[0], [])] for row in rows],
            "sound": [
                None if row[0] not in late.vectors else late.vectors[row[0]].tolist()
                for row in rows
            ],
        }
    )


@dataclass(frozen=True)
class ByHand:
    """All songs, early then late; F, NaN of one without; and V by user, None of who has none."""

    ids: list[str]
    F: np.ndarray
    plays: dict[str, dict[int, int]]
    V: dict[str, np.ndarray | None]

    @staticmethod
    def of(place: Place) -> ByHand:
        workspace = place.workspace.of("lists")
        new = Recommender.open(place.folder / "w").song_vectors(given_songs(place.late))
        old = workspace.read("ingest", "songs")["song_id"].to_pylist()
        ids = [*old, *new["song_id"].to_pylist()]
        assert len(set(ids)) == len(ids)
        column = "probabilities" if place.model == "genre" else "vector"
        table = workspace.read("train", "song_vectors")
        found, added = matrix(table[column]), matrix(new["vector"])
        F = np.full((len(ids), found.shape[1]), np.nan)
        F[[ids.index(song) for song in table["song_id"].to_pylist()]] = found
        F[len(old) :][new["present"].to_numpy(zero_copy_only=False)] = added[
            new["present"].to_numpy(zero_copy_only=False)
        ]
        plays: dict[str, dict[int, int]] = {}
        number = {song: at for at, song in enumerate(ids)}
        for (user, song), count in sound_plays(
            [*place.late.plays[0], *place.late.plays[1]]
        ).items():
            plays.setdefault(user, {})
            if song in number:
                plays[user][number[song]] = count
        make = _VECTORS[place.model](workspace, F, len(old))
        return ByHand(ids, F, plays, {user: make(played) for user, played in plays.items()})

    def expected(self, user: str, top: int) -> tuple[list[int], np.ndarray, bool]:
        """Songs that may be listed; the scores of all; and whether they are by listeners."""
        v = self.V[user]
        scores = self.F @ v if v is not None else self.listeners().astype(float)
        known = ~np.isnan(self.F[:, 0])
        left = [n for n in np.flatnonzero(known).tolist() if n not in self.plays[user]]
        return sorted(left, key=lambda n: (-scores[n], n))[:top], scores, v is None

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


_VECTORS = {"genre": _genre, "factors": _factors, "ranking": _ranking}


def test_lists_are_those_of_all_songs_and_plays_at_once(place) -> None:
    hand, table = ByHand.of(place), place.workspace.read("update", "lists").to_pylist()
    assert sorted(row["user_id"] for row in table) == sorted(hand.plays)
    assert [row["user"] for row in table] == list(range(len(table)))
    number = {song: at for at, song in enumerate(hand.ids)}
    for row in table:
        best, scores, fallback = hand.expected(row["user_id"], 30)
        listed = [number[song] for song in row["song_ids"]]
        assert row["fallback"] == fallback
        assert len(listed) == len(set(listed)) == len(best)
        assert not set(listed) & set(hand.plays[row["user_id"]])
        near = {"rtol": 1e-3, "atol": 2e-4 * max(np.abs(scores[best]).max(initial=0), 1e-3)}
        np.testing.assert_allclose(row["scores"], scores[best], **near)
        np.testing.assert_allclose(row["scores"], scores[listed], **near)
    old = place.workspace.require("ingest")["counts"]["songs"]
    assert any(number[song] >= old for row in table for song in row["song_ids"])


def test_lists_are_those_of_an_opened_workspace(place) -> None:
    """Of users who played none of the late songs, which it does not know as played."""
    recommender = Recommender.open(place.folder / "w")
    new = recommender.song_vectors(given_songs(place.late))
    candidates = pa.concat_tables([recommender.vectors("all"), new])
    late = set(new["song_id"].to_pylist())
    plays: dict[str, dict[str, int]] = {}
    for (user, song), count in sound_plays([*place.late.plays[0], *place.late.plays[1]]).items():
        plays.setdefault(user, {})[song] = count
    chosen = {user: of for user, of in plays.items() if not late & set(of)}
    table = place.workspace.read("update", "lists").to_pylist()
    rows = {row["user_id"]: row for row in table}
    found = recommender.recommend(chosen, top=30, candidates=candidates).to_pylist()
    assert sum(not row["fallback"] for row in found) >= 5
    for row in found:
        if not row["fallback"]:
            assert row["song_ids"] == rows[row["user_id"]]["song_ids"]
            np.testing.assert_allclose(row["scores"], rows[row["user_id"]]["scores"], rtol=1e-5)
