"""Lists brought up to date with late songs and plays, against what is made of all by hand."""

from __future__ import annotations

import json
import pickle
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import binom

from fusionrec.baselines.factorisation import confidence
from fusionrec.errors import ConfigError, SourceError, WorkspaceError
from fusionrec.features.words import FieldWord2Vec
from fusionrec.tables import matrix
from pipelines import blend, config, lists, update
from pipelines.cli.main import main
from pipelines.cli.recommend import for_user, similar_to
from pipelines.cli.update import NOTHING, WITHDRAWN
from pipelines.config import Config
from pipelines.export import Asked, export
from pipelines.opened import Recommender, updates
from pipelines.opened.new_by_blend import NewByBlend
from pipelines.opened.new_songs import NewSongs
from pipelines.opened.ranked import VECTORS
from pipelines.opened.stored import lists_shown
from pipelines.run import stages
from pipelines.runtime import cleaning, tasks
from pipelines.runtime.rows import read_arrays, read_matrix
from pipelines.runtime.workspace import Workspace
from pipelines.update import distance
from pipelines.update import lists as lists_of_update
from pipelines.update import songs as songs_of_update
from pipelines.update.distance import Measured
from tests.pipelines.inline import without_ray
from tests.pipelines.late import MODELS, ON_THE_SAME, Late, load


@pytest.fixture(autouse=True)
def _no_ray(request) -> Iterator[None]:
    with nullcontext() if "ray_session" in request.fixturenames else without_ray():
        yield


@dataclass(frozen=True)
class Place:
    """Tables, and a folder with a workspace in `w`."""

    late: Late
    tables: Path
    folder: Path
    model: str

    @property
    def workspace(self) -> Workspace:
        return Workspace(str(self.folder / "w"))

    def config(self, **more: object) -> Config:
        return load(self.tables, self.folder / "w", self.model, **more)

    def copy(self, folder: Path) -> Place:
        """The workspace elsewhere, of the same tables."""
        shutil.copytree(self.folder / "w", folder / "w")
        return replace(self, folder=folder)


@pytest.fixture(scope="module")
def late(tmp_path_factory) -> Late:
    return Late.of(tmp_path_factory.mktemp("late") / "sample")


def begun(late: Late, folder: Path, model: str) -> Place:
    """A run of the early files, with lists."""
    late.write(folder / "tables", "1", late=False)
    found = Place(late, folder / "tables", folder, model)
    with without_ray():
        for stage in stages(found.config()):
            if stage.name == "recommend":
                break
            stage.run(found.config())
        lists.STAGE.run(found.config())
    return found


@pytest.fixture(scope="module")
def places(late, early, tmp_path_factory) -> dict[str, Place]:
    """By model, a run of the early files brought up to date; made once it is asked for."""

    class Places(dict[str, Place]):
        def __missing__(self, model: str) -> Place:
            folder = tmp_path_factory.mktemp(model)
            if model in ON_THE_SAME:
                self[model] = replace(early.copy(folder), model=model)
                for stage in (blend.STAGE, lists.STAGE)[model == "limited" :]:
                    stage.run(self[model].config())
            else:
                self[model] = begun(late, folder, model)
            late.write(self[model].tables, "2", late=True)
            update.STAGE.run(self[model].config())
            if model in ON_THE_SAME:
                for path in early.tables.glob("*-2.*"):
                    path.unlink()
            return self[model]

    return Places()


@pytest.fixture(scope="module")
def early(late, tmp_path_factory) -> Place:
    """A run of the early files, and no late file."""
    return begun(late, tmp_path_factory.mktemp("early"), "genre")


@pytest.fixture
def fresh(early, tmp_path) -> Iterator[Place]:
    """The same for a test to change; the tables are as they were when it ends."""
    shutil.copytree(early.tables, tmp_path / "kept")  # with their times
    yield early.copy(tmp_path)
    shutil.rmtree(early.tables)
    shutil.copytree(tmp_path / "kept", early.tables)


@pytest.fixture(params=[*MODELS, "blend", "closed"])
def place(request, places) -> Place:
    found: Place = places[request.param]
    return found


# --- by hand -------------------------------------------------------------------------------


def before(place: Place) -> Recommender:
    """The workspace as it was opened before the update."""
    model: Any = place.config().recommend.model
    return Recommender(place.workspace.of("lists"), model, "raw")


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
            "artist_id": [row[1] or None for row in rows],
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


def given_to(place: Place) -> pa.Table:
    """The same with their tags, which classes make nothing of, as update has read them."""
    given = given_songs(place.late)
    read = place.workspace.read("update", "songs_added")
    rows = pa.compute.index_in(given["song_id"], value_set=read["song_id"])
    for name in ("terms", "mbtags"):
        given = given.append_column(name, read[name].take(rows))
    return given


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


def all_plays(place: Place) -> dict[str, dict[str, int]]:
    """By user and song, early and late."""
    found: dict[str, dict[str, int]] = {}
    for (user, song), count in sound_plays([*place.late.plays[0], *place.late.plays[1]]).items():
        found.setdefault(user, {})[song] = count
    return found


_WEIGHTS: dict[str, Any] = {
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
                u[where] = _WEIGHTS[about["weightings"][name]](plays) @ H[rows, where]
        same = np.allclose(u[told], nobody[told], atol=1e-7)
        fallback = bool(same and not u[~told].any())
        by_counts = fallback and not (nobody[told] @ rotation[told]).any()
        found[user] = (None if by_counts else u @ rotation, fallback)
    return found


@pytest.mark.parametrize("model", [*MODELS, *ON_THE_SAME])
def test_lists_are_those_of_all_songs_and_plays_at_once(places, model) -> None:
    place = places[model]
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


def test_an_opened_workspace_has_what_the_update_added(place) -> None:
    recommender = Recommender.open(place.folder / "w")
    rows = {r["user_id"]: r for r in place.workspace.read("update", "lists").to_pylist()}
    for row in recommender.recommend(all_plays(place), top=30).to_pylist():
        assert row["song_ids"] == rows[row["user_id"]]["song_ids"]
        np.testing.assert_allclose(row["scores"], rows[row["user_id"]]["scores"], rtol=1e-5)
    for song in given_songs(place.late).to_pylist():
        named = recommender.song(song["song_id"])
        assert named["title"] == (song["title"] or f"({song['song_id']})")
        assert (
            song["song_id"] in recommender.search(song["title"] or "", 200)["song_id"].to_pylist()
        )
    late = {row[0] for row in place.late.songs[1]}
    like = recommender.similar(next(s for s in late if s in place.late.vectors), 140)
    assert 10 < len(late & set(like["song_id"].to_pylist())) < len(late)


def test_an_export_has_what_the_update_added(place, tmp_path) -> None:
    recommender, out = Recommender.open(place.folder / "w"), tmp_path / "out"
    manifest = export(recommender.ranked, Asked(out))
    songs, users = (pq.read_table(out / f"{name}.parquet") for name in ("songs", "users"))
    assert songs["song_id"].to_pylist() == recommender.vectors()["song_id"].to_pylist()
    names = {row[0]: row[2] or None for row in reversed(place.late.songs[1])}
    named = dict(zip(songs["song_id"].to_pylist(), songs["title"].to_pylist(), strict=True))
    assert len(names.items() & named.items()) == len(names.keys() & named.keys()) > 10
    assert manifest["songs"]["rows"] == songs.num_rows
    counts = {name: place.workspace.require(name)["counts"] for name in ("ingest", "update")}
    known = counts["ingest"]["songs"] + counts["update"]["new_songs"]
    assert manifest["songs"]["without_vector"] == known - songs.num_rows
    rows = [row for row in listed(place.workspace) if not row["fallback"]]
    assert users["user_id"].to_pylist() == [row["user_id"] for row in rows]
    assert manifest["users"]["rows"] + manifest["users"]["without_vector"] == len(
        listed(place.workspace)
    )
    number = {song: at for at, song in enumerate(songs["song_id"].to_pylist())}
    scores = matrix(users["vector"]) @ matrix(songs["vector"]).T
    for row, mine in zip(rows, scores, strict=True):
        found = mine[[number[song] for song in row["song_ids"]]]
        near = 1e-5 * np.abs(mine).max()
        np.testing.assert_allclose(found, row["scores"], rtol=1e-5, atol=near)


def test_a_song_known_by_plays_before_is_to_choose_from_as_any_other(place) -> None:
    """By id with the score that it has among all, and by a table, there with its listeners."""
    recommender, adopted = Recommender.open(place.folder / "w"), place.late.known_before
    (every,) = recommender.recommend({"u": {}}, top=1000).to_pylist()
    score = pytest.approx(every["scores"][every["song_ids"].index(adopted)], rel=1e-5)
    vectors = recommender.vectors("all")
    of_table = vectors.filter(pa.compute.equal(vectors["song_id"], adopted))
    for candidates in ([adopted], of_table):
        (alone,) = recommender.recommend({"u": {}}, candidates=candidates).to_pylist()
        assert alone["song_ids"] == [adopted]
        assert alone["scores"] == [score]


def test_a_list_is_shown_and_explained_with_late_songs(place) -> None:
    late = {row[0] for row in place.late.songs[1]}
    table = place.workspace.read("update", "lists").to_pylist()
    newcomers = {row[0] for row in place.late.plays[1]} - {row[0] for row in place.late.plays[0]}
    assert newcomers
    for row in [*table[:3], *(row for row in table if row["user_id"] in newcomers)]:
        found = for_user(str(place.folder / "w"), row["user_id"], 30, why=True)
        assert [song.song_id for song in found.songs] == row["song_ids"]
        for song in found.songs:
            assert song.why is not None
            total = sum(song.why.signals.values())
            assert total == pytest.approx(song.score, rel=1e-3, abs=1e-5)
    assert late & {song for row in table for song in row["song_ids"]}
    row = next(song for song in place.late.songs[1] if song[1] and song[2])
    found = similar_to(str(place.folder / "w"), f"{row[1]} - {row[2]}", 5)
    assert len(found.songs) == 5


def test_lists_are_those_of_an_opened_workspace(place) -> None:
    """Of users who played none of the late songs, which it does not know as played."""
    recommender = before(place)
    new = recommender.song_vectors(given_to(place))
    candidates = pa.concat_tables([recommender.vectors("all"), new])
    late = set(new["song_id"].to_pylist())
    chosen = {user: of for user, of in all_plays(place).items() if not late & set(of)}
    table = place.workspace.read("update", "lists").to_pylist()
    rows = {row["user_id"]: row for row in table}
    found = recommender.recommend(chosen, top=30, candidates=candidates).to_pylist()
    assert sum(not row["fallback"] for row in found) >= 5
    for row in found:
        if not row["fallback"]:
            assert row["song_ids"] == rows[row["user_id"]]["song_ids"]
            np.testing.assert_allclose(row["scores"], rows[row["user_id"]]["scores"], rtol=1e-5)


def test_songs_like_a_new_one_and_reasons_by_it_are_a_blends(places) -> None:
    """By all signals, in the blend's D dimensions: as its arrays say."""
    place = places["blend"]
    workspace = place.workspace.of("lists")
    about = workspace.read_json("blend", "blend.json")
    made = NewByBlend(workspace).make(given_to(place))
    assert made.features is not None
    assert made.atoms is not None
    old = workspace.read("ingest", "songs")["song_id"].to_pylist()
    features = read_matrix(workspace, "blend", "features", np.arange(len(old)))
    features = np.concatenate([features, made.features]).astype(np.float64)
    ids = [*old, *made.ids.to_pylist()]
    at = int(np.flatnonzero(made.present)[3])
    slices = {
        name: slice(*of)
        for name, of in about["slices"].items()
        if about["weightings"][name] is not None and about["kinds"][name] != "popularity"
    }
    u = np.zeros(features.shape[1])
    for of in slices.values():
        u[of] = made.atoms[at, of]
    recommender = Recommender.open(place.folder / "w")
    like = recommender.similar(ids[len(old) + at], 500)
    known = np.append(np.ones(len(old), bool), made.present)
    assert set(like["song_id"].to_pylist()) == set(np.array(ids)[known]) - {ids[len(old) + at]}
    expected = [features[ids.index(song)] @ u for song in like["song_id"].to_pylist()]
    near = {"rtol": 1e-3, "atol": 1e-4 * np.abs(expected).max()}
    np.testing.assert_allclose(like["score"].to_numpy(), expected, **near)
    # Of somebody who played a new and an old song, for another new one.
    other = next(
        ids.index(song) - len(old)
        for song in like["song_id"].to_pylist()
        if song in made.ids.to_pylist()
    )
    history = read_matrix(workspace, "blend", "history", np.array([5])).astype(np.float64)
    rows, plays = np.concatenate([history, made.atoms[[at]]]), np.array([1.0, 4.0])
    why = recommender.explain({ids[5]: 1, ids[len(old) + at]: 4}, ids[len(old) + other])
    adds = np.zeros(2)
    for name, of in slices.items():
        weights = _WEIGHTS[about["weightings"][name]](plays)
        parts = weights * (rows[:, of] @ made.features[other, of])
        assert why.signals[name] == pytest.approx(parts.sum(), rel=1e-3, abs=1e-5)
        adds += parts
    assert adds[1] > 0
    of_songs = dict(zip((ids[5], ids[len(old) + at]), adds.tolist(), strict=True))
    of_songs = {song: part for song, part in of_songs.items() if part > 0}
    assert dict(why.songs) == pytest.approx(of_songs, rel=1e-3)


# --- what it tells, and what it refuses ----------------------------------------------------


def test_it_tells_what_is_new_and_when_a_refit_is_due(places) -> None:
    place = places["genre"]
    workspace, late = place.workspace, place.late
    counts = workspace.require("update")["counts"]
    songs = {row[0] for row in late.songs[1]}
    early = {row[0] for row in late.songs[0]}
    assert counts["new_songs"] == len(songs)
    assert counts["songs_known_by_plays_before"] == 1
    plays = [row for row in late.plays[1] if sound_plays([row])]
    assert counts["new_plays"] == sum(row[1] in songs | early for row in plays)
    before = {row[0] for row in late.plays[0] if sound_plays([row])}
    assert counts["new_users"] == len({row[0] for row in plays} - before)
    assert counts["lists"] == len({row[0] for row in plays} | before)
    assert counts["lists_merged"] + counts["lists_ranked_anew"] == counts["lists"]
    assert counts["lists_merged"] > 0
    of_songs = len(songs) / len(songs | early)
    assert counts["share_of_all"]["songs"] == pytest.approx(of_songs)
    assert counts["refit_due"]
    assert counts["reasons"][0].startswith(f"{of_songs:.1%} of all songs are new")
    without = sum(row[0] not in late.vectors for row in {r[0]: r for r in late.songs[1]}.values())
    assert counts["distance"]["songs without sound"]["new"] == pytest.approx(without / len(songs))
    # Titles by the words of those that were fitted on.
    words = Workspace(str(place.folder / "w")).of("lists")
    known = NewSongs(words).words
    given = given_songs(late)
    each = [
        (word, name)
        for name in ("title", "release", "artist_name")
        for text in given[name].to_pylist()
        for word in (text or "").lower().split()
    ]
    share = sum(word not in known[name].words for word, name in each) / len(each)
    found = counts["distance"]["unknown words of metadata"]["new"]
    assert found == pytest.approx(share, abs=0.02)
    published = json.loads((place.folder / "w" / "update" / "report.json").read_text())
    assert published["distance"] == counts["distance"]
    assert published["refit_due"] is True


def test_by_a_blend_it_tells_what_can_be_told(places) -> None:
    place, other = places["blend"], places["genre"]
    found, of_genre = (p.workspace.require("update")["counts"] for p in (place, other))
    same = ("unknown words of metadata", "songs without lyrics", "songs without sound")
    for name in same:
        assert found["distance"][name]["new"] == of_genre["distance"][name]["new"]
    assert found["unknown_words_of_lyrics"] == of_genre["unknown_words_of_lyrics"]
    workspace = place.workspace.of("lists")
    part = np.array(workspace.read("split", "split")["part"].to_pylist(), object)
    has = np.array(workspace.read("embed", "sound")["present"].to_pylist())
    share = found["distance"]["songs without sound"]["held_out"]
    assert share == pytest.approx((~has[part == "test"]).mean())
    nothing = found["distance"]["songs without a vector"]
    made = NewByBlend(workspace).make(given_to(place))
    assert nothing["new"] == pytest.approx((~made.present).mean())
    assert nothing["held_out"] is None
    assert nothing["limit"] is None
    # From the middle of the training songs, in the standard deviations of each dimension.
    F = matrix(workspace.read("blend", "songs")["vector"]).astype(float)
    trained = F[part == "train"]
    far, middle = trained.std(axis=0), trained.mean(axis=0)
    distances = [
        np.sqrt((((rows - middle) / far) ** 2).sum(axis=1))
        for rows in (trained, made.F[made.present])
    ]
    limit = np.quantile(distances[0], 0.99)
    assert found["distance"]["songs far from all"]["new"] == pytest.approx(
        (distances[1] > limit).mean()
    )


def test_what_it_measures_is_read_in_tasks_and_words_once(fresh, monkeypatch) -> None:
    """Nothing of the catalogue comes to the driver; and a process keeps what it has read."""
    fresh.late.write(fresh.tables, "2", late=True)
    depth, read = [0], Counter[str]()

    def within(function: Any) -> Any:
        def call(*arguments: Any, **more: Any) -> Any:
            depth[0] += 1
            try:
                return function(*arguments, **more)
            finally:
                depth[0] -= 1

        return call

    for name in ("submit", "run_task", "map_tasks"):
        monkeypatch.setattr(tasks, name, within(getattr(tasks, name)))
    parts, file = distance.OfRun.read, FieldWord2Vec.from_bytes

    def of_run(*arguments: Any) -> Any:
        assert depth[0]
        read["songs of the run"] += 1
        return parts(*arguments)

    def of_words(*arguments: Any) -> Any:
        read["words"] += 1
        return file(*arguments)

    monkeypatch.setattr(distance.OfRun, "read", of_run)
    monkeypatch.setattr(FieldWord2Vec, "from_bytes", of_words)
    # As in a worker, which has a workspace of its own for each task.
    each = songs_of_update._make
    monkeypatch.setattr(
        songs_of_update,
        "_make",
        lambda place, *more: each(pickle.loads(pickle.dumps(place)), *more),
    )
    update.STAGE.run(fresh.config())
    assert read["songs of the run"] == 2
    assert read["words"] == 3


def test_a_limit_is_what_draws_of_held_out_songs_show() -> None:
    """Of songs that are each an artist's own, a binomial distribution."""
    has = (np.arange(1000) % 10 == 0).astype(float)
    songs = Measured(np.arange(1000), {"x": (has, np.ones(1000))})
    found = distance.limit(songs, "x", 50, 0.01, np.random.default_rng(0))
    assert found == pytest.approx(binom.ppf(0.99, 50, 0.1) / 50, abs=0.021)
    # By few artists, all of whose songs have it or none: as wide as that.
    grouped = Measured(np.arange(1000) // 100, {"x": (np.repeat([1.0, 0.0], 500), np.ones(1000))})
    wide = distance.limit(grouped, "x", 100_000, 0.01, np.random.default_rng(0))
    assert wide == pytest.approx(binom.ppf(0.99, 10, 0.5) / 10)
    none = Measured(np.zeros(0, np.int64), {"x": (np.zeros(0), np.zeros(0))})
    assert distance.limit(none, "x", 50, 0.01, np.random.default_rng(0)) is None


def test_distances_are_those_of_uncorrelated_components() -> None:
    rows = np.random.default_rng(0).normal(3, [1, 5, 0.1], (5000, 3)).astype(np.float32)
    centre = distance.Centre.of(rows)
    inverse = np.linalg.inv(np.diag(np.var(rows.astype(float), axis=0)))
    from_mean = rows[:9] - rows.mean(axis=0, dtype=float)
    expected = np.sqrt(np.einsum("ni,ij,nj->n", from_mean, inverse, from_mean))
    np.testing.assert_allclose(centre.distances(rows[:9]), expected, rtol=1e-5)
    assert (centre.distances(rows) > centre.limit).mean() == pytest.approx(0.01, abs=0.001)


def listed(workspace: Workspace) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = workspace.read("update", "lists").to_pylist()
    return rows


def test_nothing_new_is_told_and_makes_no_result(fresh, capsys) -> None:
    arguments = ["update", "--config", str(written(fresh))]
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert not ended.value.code
    assert "nothing is new" in capsys.readouterr().out
    assert fresh.workspace.results("update") == []
    with pytest.raises(SourceError, match="nothing is new"):
        update.STAGE.run(fresh.config())


def written(place: Place) -> Path:
    """The config as a file."""
    file = place.folder / "config.yaml"
    file.write_text(config.to_yaml(place.config()))
    return file


def test_again_it_is_up_to_date_and_more_files_are_one_more_result(fresh, capsys) -> None:
    """Each stands on the run: two steps are one of both."""
    songs, plays = fresh.late.songs, fresh.late.plays
    halves = [
        replace(fresh.late, songs=(songs[0], songs[1][n::2]), plays=(plays[0], plays[1][n::2]))
        for n in range(2)
    ]
    halves[0].write(fresh.tables, "2", late=True)
    for _ in range(2):
        with pytest.raises(SystemExit) as ended:
            main(["update", "--config", str(written(fresh)), "--json"])
        assert not ended.value.code
        counts = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert counts["new_songs"] == len({row[0] for row in halves[0].songs[1]})
    (first,) = fresh.workspace.results("update")
    halves[1].write(fresh.tables, "3", late=True)
    with pytest.raises(SystemExit) as ended:
        main(["update", "--config", str(written(fresh))])
    told = capsys.readouterr().out
    assert not ended.value.code
    assert "new songs beside those that the last run held out" in told
    assert "A refit is due (`fusionrec run`):" in told
    assert f"{fresh.folder}/w/update/report.json" in told
    assert fresh.workspace.require("update")["key"] != first
    counts = fresh.workspace.require("update")["counts"]
    assert counts["new_songs"] == len({row[0] for row in songs[1]})
    # The half before is not needed any longer; the run that both stand on is.
    gone = {(found.stage, found.key) for found in cleaning.unneeded(fresh.workspace)}
    assert gone == {("update", first)}


def test_paths_that_are_added_to_the_config_are_new(fresh, places) -> None:
    """A file elsewhere, by its own path; and the lists are those of the same file in the folder."""
    late, elsewhere = fresh.late, fresh.folder / "elsewhere"
    late.write(elsewhere, "2", late=True)
    tables = fresh.config().source.tables.model_dump(mode="json")
    for name in ("songs", "plays", "lyrics"):
        tables[name]["paths"] = [*tables[name]["paths"], str(elsewhere / f"{name}-2.csv")]
    tables["features"]["sound"]["paths"].append(f"file://{elsewhere}/sound-2.parquet")
    update.STAGE.run(config.replaced(fresh.config(), {"source.tables": tables}))
    assert listed(fresh.workspace) == listed(places["genre"].workspace)


def test_songs_that_the_run_has_are_listed_and_stay_as_they_are(fresh, places) -> None:
    late = fresh.late
    again = late.songs[0][3]
    other = [again[0], "Somebody Else", *again[2:]]
    replace(late, songs=(late.songs[0], [*late.songs[1], other])).write(
        fresh.tables, "2", late=True
    )
    update.STAGE.run(fresh.config())
    assert listed(fresh.workspace) == listed(places["genre"].workspace)
    rejects = fresh.workspace.read("update", "rejects").to_pylist()
    (found,) = (row for row in rejects if row["reason"] == "song of the last run")
    assert (found["source"], found["action"]) == ("songs-2.csv", "excluded")
    assert (found["item"], found["detail"]) == (str(2 + len(late.songs[1])), again[0])
    assert fresh.workspace.require("update")["counts"]["songs_of_the_run"] == 1


def test_plays_alone_are_enough(fresh, capsys) -> None:
    empty = replace(fresh.late, songs=(fresh.late.songs[0], []), lyrics=(fresh.late.lyrics[0], []))
    empty.write(fresh.tables, "2", late=True)
    for name in ("songs-2.csv", "lyrics-2.csv", "sound-2.parquet"):
        (fresh.tables / name).unlink()
    with pytest.raises(SystemExit):
        main(["update", "--config", str(written(fresh))])
    assert "held out" not in capsys.readouterr().out
    counts = fresh.workspace.require("update")["counts"]
    assert counts["new_songs"] == 0
    assert counts["new_plays"] > 0
    assert counts["distance"] == {}
    rows = {row["user_id"]: row for row in listed(fresh.workspace)}
    for row in before(fresh).recommend(all_plays(fresh), top=30).to_pylist():
        if not row["fallback"]:
            assert row["song_ids"] == rows[row["user_id"]]["song_ids"]


def test_an_update_that_is_killed_goes_on_where_it_was(fresh, places, monkeypatch) -> None:
    fresh.late.write(fresh.tables, "2", late=True)
    calls: list[int] = []
    ranked_before = lists_of_update._update

    def dies(*arguments: Any) -> Any:
        calls.append(arguments[-1].part)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return ranked_before(*arguments)

    monkeypatch.setattr(lists_of_update, "_update", dies)
    with pytest.raises(KeyboardInterrupt):
        update.STAGE.run(fresh.config())
    assert fresh.workspace.manifest("update") is None
    update.STAGE.run(fresh.config())
    parts = len(fresh.workspace.parts("update", "lists"))
    assert calls == [0, 1, 2, *range(2, parts)]
    assert listed(fresh.workspace) == listed(places["genre"].workspace)


def test_once_its_files_are_gone_it_is_shown_no_longer(fresh, capsys) -> None:
    fresh.late.write(fresh.tables, "2", late=True)
    update.STAGE.run(fresh.config())
    listed_late = listed(fresh.workspace)
    for file in sorted(fresh.tables.glob("*-2.*")):
        file.rename(fresh.folder / file.name)
    for told in (f"update: {NOTHING}; {WITHDRAWN}", f"update: {NOTHING}"):
        with pytest.raises(SystemExit) as ended:
            main(["update", "--config", str(written(fresh))])
        assert not ended.value.code
        assert capsys.readouterr().out.splitlines()[-1] == told
        assert not updates.has(lists_shown(fresh.workspace))
        assert not (fresh.folder / "w" / "update" / "report.json").exists()
    offered = Recommender.open(fresh.folder / "w").vectors("all")["song_id"].to_pylist()
    assert fresh.late.known_before not in offered
    for file in fresh.folder.glob("*-2.*"):
        file.rename(fresh.tables / file.name)
    (before,) = fresh.workspace.results("update")
    assert update.STAGE.run(fresh.config())["key"] == before
    assert listed(fresh.workspace) == listed_late
    assert (fresh.folder / "w" / "update" / "report.json").exists()


def test_a_full_run_supersedes_it_and_clean_removes_what_it_had(fresh, capsys) -> None:
    fresh.late.write(fresh.tables, "2", late=True)
    update.STAGE.run(fresh.config())
    old = set(fresh.workspace.current().items())
    chosen = fresh.config()
    for stage in stages(chosen):
        if stage.name == "recommend":
            break
        stage.run(chosen)
    assert updates.with_update(fresh.workspace) is None
    lists.STAGE.run(chosen)
    gone = {(found.stage, found.key) for found in cleaning.unneeded(fresh.workspace)}
    assert {stage for stage, _ in gone} >= {"ingest", "embed", "train", "lists", "update"}
    assert gone == old
    with pytest.raises(SystemExit) as ended:
        main(["clean", "--config", str(written(fresh))])
    assert not ended.value.code
    assert cleaning.unneeded(fresh.workspace) == []
    assert len(for_user(str(fresh.folder / "w"), fresh.late.plays[0][0][0], 30).songs) == 30


def test_other_lists_supersede_it(fresh) -> None:
    fresh.late.write(fresh.tables, "2", late=True)
    update.STAGE.run(fresh.config())
    assert updates.has(lists_shown(fresh.workspace))
    chosen = fresh.config(lists__top=7)
    lists.STAGE.run(chosen)
    assert not updates.has(lists_shown(fresh.workspace))
    user = fresh.late.plays[0][0][0]
    assert len(for_user(str(fresh.folder / "w"), user, 30).songs) == 7


# --- refused, in one line ------------------------------------------------------------------


def test_a_file_that_changed_or_went_is_refused(fresh) -> None:
    fresh.late.write(fresh.tables, "2", late=True)
    file = fresh.tables / "songs-1.csv"
    content = file.read_bytes()
    file.write_bytes(content + b"\n")
    with pytest.raises(SourceError, match=r"songs-1\.csv: has changed since it was read"):
        update.STAGE.run(fresh.config())
    file.rename(fresh.folder / "songs-1.csv")
    with pytest.raises(SourceError, match=r"songs-1\.csv: was read, and is gone"):
        update.STAGE.run(fresh.config())


def with_paths(chosen: Config, **more: list[str]) -> Config:
    """More paths of tables."""
    tables = chosen.source.tables.model_dump(mode="json")
    for name, paths in more.items():
        tables[name]["paths"] = [*tables[name]["paths"], *paths]
    return config.replaced(chosen, {"source.tables": tables})


def test_a_file_is_new_as_one_of_its_table(fresh) -> None:
    """The same file in another table is another input; also one that the run read."""
    shutil.copy(fresh.tables / "plays-1.csv", fresh.folder / "x.csv")
    path = str(fresh.folder / "x.csv")
    both = (with_paths(fresh.config(), **{name: [path]}) for name in ("songs", "plays"))
    keys = {update.STAGE.plan(each, fresh.workspace, look=True).key for each in both}
    assert len(keys) == 2
    again = with_paths(fresh.config(), songs=["plays-1.csv"])
    (row,) = update.STAGE.plan(again, fresh.workspace, look=True).content["source"]
    assert row[0] == f"source.tables.songs: {fresh.tables}/plays-1.csv"
    assert update.anything_new(again)
    tables = fresh.config().source.tables.model_dump(mode="json")
    tables["lyrics"]["paths"] = ["sound-*.parquet"]
    with pytest.raises(SourceError, match=r"lyrics-1\.csv: was read as source\.tables\.lyrics,"):
        update.STAGE.run(config.replaced(fresh.config(), {"source.tables": tables}))


def test_what_comes_while_it_runs_is_of_the_next_one(fresh, places, monkeypatch) -> None:
    fresh.late.write(fresh.tables, "2", late=True)
    before = lists_of_update._update

    def comes(*arguments: Any) -> Any:
        shutil.copy(fresh.tables / "plays-2.csv", fresh.tables / "plays-3.csv")
        return before(*arguments)

    monkeypatch.setattr(lists_of_update, "_update", comes)
    update.STAGE.run(fresh.config())
    assert listed(fresh.workspace) == listed(places["genre"].workspace)
    first = fresh.workspace.require("update")["key"]
    assert update.STAGE.plan(fresh.config(), fresh.workspace, look=True).key != first


def test_a_file_between_the_listing_and_the_reading_is_not_read(fresh, places, monkeypatch) -> None:
    fresh.late.write(fresh.tables, "2", late=True)
    begin = Workspace.begin

    def comes(self: Workspace, stage: str, *arguments: Any) -> Any:
        if stage == "update":
            shutil.copy(fresh.tables / "plays-2.csv", fresh.tables / "plays-3.csv")
        return begin(self, stage, *arguments)

    monkeypatch.setattr(Workspace, "begin", comes)
    update.STAGE.run(fresh.config())
    assert listed(fresh.workspace) == listed(places["genre"].workspace)


@pytest.mark.parametrize("gone", [True, False])
def test_a_new_file_that_changes_while_it_is_read_is_refused(fresh, monkeypatch, gone) -> None:
    fresh.late.write(fresh.tables, "2", late=True)
    before, file = lists_of_update._update, fresh.tables / "plays-2.csv"

    def changes(*arguments: Any) -> Any:
        file.unlink(missing_ok=True)
        if not gone:
            file.write_text("uid,track,listens,ts\n")
        return before(*arguments)

    monkeypatch.setattr(lists_of_update, "_update", changes)
    told = r"source files changed while they were being read \(source\.tables\.plays: .*plays-2"
    with pytest.raises(SourceError, match=told):
        update.STAGE.run(fresh.config())
    assert fresh.workspace.manifest("update") is None


OFFICIAL = {"embed__modalities": "[metadata]"}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"source__format": "msd", "source__tables": "{}", "embed__modalities": "[metadata]"},
            "msd",
        ),
        ({"lists__candidates": "new"}, "lists.candidates: new"),
        ({"lists__per_artist": 2}, "lists: lists.per_artist: "),
        ({"lists__top": 31}, "lists: lists.top: 30 there, 31 here"),
        ({"train__epochs": 5}, "train: train.epochs: 4 there, 5 here"),
        ({"source__tables__vocabulary": 7}, "ingest: source.tables.vocabulary: 5000 there, 7 here"),
        ({"recommend__model": "blend"}, r"lists by recommend\.model: genre there, blend here;"),
        (
            {"recommend__model": "blend", "lists__top": 7},
            r"lists by lists: lists\.top: 30 there, 7 here, recommend\.model: genre there, blend",
        ),
        ({"recommend__weighting": "binary"}, r"lists by recommend\.weighting: raw there, binary"),
    ],
)
def test_what_new_songs_and_plays_would_change_otherwise(places, changed, message) -> None:
    chosen = places["genre"].config(**changed)
    with pytest.raises((ConfigError, SourceError), match=message):
        update.STAGE.run(chosen)


def test_lists_must_be_there_and_of_what_is_current(early, fresh) -> None:
    with pytest.raises(WorkspaceError, match="there are no lists for everyone"):
        update.STAGE.run(early.config(workspace=fresh.folder / "elsewhere"))
    key = fresh.workspace.require("label")["key"]
    fresh.workspace.point({"train": "0" * len(key)})
    with pytest.raises(WorkspaceError, match="of another train than the current one"):
        update.STAGE.run(fresh.config())


def test_a_blend_that_kept_nothing_of_new_songs_is_refused(places, tmp_path) -> None:
    place = places["blend"].copy(tmp_path)
    for folder in (place.folder / "w" / "blend").glob("*/unseen"):
        shutil.rmtree(folder)
    with pytest.raises(WorkspaceError, match=r"blend is of an earlier version, .*: run again"):
        update.STAGE.run(place.config())


def test_a_table_that_the_run_did_not_have_is_refused(fresh) -> None:
    np.save(fresh.tables / "more.npy", np.zeros((1, 24), np.float32))
    tables = fresh.config().source.tables.model_dump(mode="json")
    tables["features"]["sound"]["paths"].append("more.npy")
    with pytest.raises(SourceError, match=r"more.npy: source.tables.features.sound.ids"):
        update.STAGE.run(config.replaced(fresh.config(), {"source.tables": tables}))


def test_with_ray_it_is_the_same(places, tmp_path, ray_session) -> None:
    place = places["genre"]
    with_ray = place.copy(tmp_path)
    shutil.rmtree(tmp_path / "w" / "update")
    update.STAGE.run(with_ray.config())
    assert listed(with_ray.workspace) == listed(place.workspace)
