"""Whoever a blend was not fitted on is known by plays as a user of the fit who played the same."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fusionrec.signals import weights
from fusionrec.signals.blend import Simulated, joined
from fusionrec.signals.explain import Layout
from fusionrec.tables import matrix
from pipelines import blend, lists, recommend
from pipelines.cli.recommend import for_user
from pipelines.opened import Recommender, stored
from pipelines.opened.strangers import StoredStrangers, write_strangers
from pipelines.runtime.rows import read_arrays
from pipelines.runtime.workspace import Workspace
from tests.pipelines.inline import load, without_ray
from tests.pipelines.lists.making import rewrite
from tests.signals.corpus import corpus, fold

LATE, LIKE = 3, 25
"""A user all of whose plays came after the fit, and one of the fit who played the same."""
SIGNALS = (
    "neighbours-terms",
    "taste",
    "taste-smoothed",
    "factors-terms",
    "artist-factors",
    "popularity",
    "popularity-activity",
    "popularity-history",
)
MODEL: dict[str, object] = {
    "recommend__model": "blend",
    "recommend__protocol": "oord",
    "blend__tune": "false",
    "blend__signals": f"[{', '.join(SIGNALS)}]",
}


@pytest.fixture(autouse=True)
def _no_ray() -> Iterator[None]:
    with without_ray():
        yield


@pytest.fixture(scope="module")
def place(small, undisturbed, tmp_path_factory) -> Path:
    """A blend of all kinds of signals, fitted to plays of songs outside the catalogue, too."""
    place = Path(shutil.copytree(undisturbed, tmp_path_factory.mktemp("strangers") / "w"))
    workspace = Workspace(str(place))
    part = workspace.read("split", "split")["part"].to_numpy(zero_copy_only=False)
    frame = workspace.read("ingest", "plays").to_pandas()
    late = frame[(frame["user"] == LIKE) & (part != "test")[frame["song"]]].assign(user=LATE)
    assert len(late) > 5

    def others(_: pd.DataFrame) -> pd.DataFrame:
        users = np.setdiff1d(np.arange(0, 60, 3), [LATE])
        return pd.DataFrame({"user": users, "song": 0 * users, "plays": 1 + users % 4})

    rewrite(workspace, "other_plays", others)
    rewrite(workspace, "plays", lambda frame: frame[frame["user"] != LATE])
    chosen = load(small, place, **MODEL)
    with pytest.MonkeyPatch.context() as patch, without_ray():
        patch.setattr(weights, "choose", lambda _: (np.ones(len(SIGNALS)), 1.0))
        blend.STAGE.run(chosen)
        recommend.STAGE.run(chosen)
        rewrite(
            workspace,
            "plays",
            lambda frame: pd.concat([frame, late]).sort_values(["user", "song"], kind="stable"),
        )
        lists.STAGE.run(chosen)
    return place


def learned(workspace: Workspace) -> dict[str, dict[str, int]]:
    """What the blend learned of each of its users, by ids."""
    songs = [
        song
        for artifact in ("songs", "other_songs")
        for song in workspace.read("ingest", artifact, ["song_id"])["song_id"].to_pylist()
    ]
    ids = workspace.read("ingest", "users")["user_id"].to_pylist()
    rows = workspace.read("blend", "users", ["user", "songs", "plays"]).to_pylist()
    return {
        ids[row["user"]]: {
            songs[song]: int(plays) for song, plays in zip(row["songs"], row["plays"], strict=True)
        }
        for row in rows
    }


def near(found: Any, expected: Any) -> None:
    expected = np.asarray(expected)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_a_stranger_gets_the_list_of_a_user_who_played_the_same(place) -> None:
    workspace = Workspace(str(place))
    played = {user: plays for user, plays in learned(workspace).items() if plays}
    others = set(workspace.read("ingest", "other_songs", ["song_id"])["song_id"].to_pylist())
    assert sum(bool(others & plays.keys()) for plays in played.values()) == 19
    recommender = Recommender.open(place)
    asked = {"top": 150, "exclude_heard": False}
    strangers = recommender.recommend({f"not {user}": played[user] for user in played}, **asked)
    F = recommender.vectors()
    scored = dict(zip(F["song_id"].to_pylist(), matrix(F["vector"]), strict=True))
    V = matrix(workspace.read("blend", "users")["vector"])
    ids = workspace.read("ingest", "users")["user_id"].to_pylist()
    assert strangers.num_rows > 50
    for user, row in zip(played, strangers.to_pylist(), strict=True):
        assert not row["fallback"]
        near(row["scores"], [scored[song] @ V[ids.index(user)] for song in row["song_ids"]])
    assert recommender.recommend(played, **asked)["song_ids"].equals(strangers["song_ids"])


def test_the_evaluations_lists_are_those_of_strangers(place) -> None:
    workspace = Workspace(str(place))
    played, recommender = learned(workspace), Recommender.open(place)
    rows = workspace.read("recommend", "recommendations").to_pylist()
    given = {f"not {row['user_id']}": played[row["user_id"]] for row in rows}
    found = recommender.recommend(given, candidates="test", exclude_heard=False).to_pylist()
    assert len(rows) > 40
    for row, expected in zip(found, rows, strict=True):
        near(row["scores"], expected["scores"])
        assert set(row["song_ids"]) == set(expected["song_ids"])


def test_reasons_of_a_stranger_are_those_of_the_user(place) -> None:
    workspace = Workspace(str(place))
    ids = workspace.read("ingest", "users")["user_id"].to_pylist()
    recommender = Recommender.open(place)
    for code in (0, LIKE, 40):
        played = learned(workspace)[ids[code]]
        (row,) = recommender.recommend({"stranger": played}, top=3).to_pylist()
        whys = stored.of_user(workspace.of("blend"), code).reasons(row["song_ids"], row["scores"])
        for song, score, why in zip(row["song_ids"], row["scores"], whys, strict=True):
            found = recommender.explain(played, song)
            assert found.signals.keys() == why.signals.keys() > set(SIGNALS) - {"taste"}
            near([*found.signals.values()], [why.signals[name] for name in found.signals])
            assert sum(found.signals.values()) == pytest.approx(score, rel=1e-4)
            assert {song for song, _ in found.songs} == {song for song, _ in why.songs}


def test_who_played_after_the_fit_is_known_by_these_plays(place) -> None:
    """In lists for everyone, from Python and in reasons, as the user who played the same."""
    workspace = Workspace(str(place))
    ids = workspace.read("ingest", "users")["user_id"].to_pylist()
    played = learned(workspace)
    assert not played[ids[LATE]]
    row = workspace.read("lists", "lists").to_pylist()[LATE]
    assert not row["fallback"]
    recommender = Recommender.open(place)
    songs = played[ids[LIKE]]
    asked = recommender.recommend({ids[LATE]: songs, "stranger": songs})
    for found in asked.to_pylist():
        assert found["song_ids"] == row["song_ids"]
        assert found["scores"] == row["scores"]
    for song in for_user(str(place), ids[LATE], 5, why=True, stage="lists").songs:
        assert song.why is not None
        assert sum(song.why.signals.values()) == pytest.approx(song.score, rel=1e-4)
        given = recommender.explain(songs, song.song_id)
        near([song.why.signals[name] for name in given.signals], [*given.signals.values()])


def test_plays_of_hidden_and_unknown_songs_tell_nothing(place) -> None:
    """Neither beside others nor alone."""
    workspace = Workspace(str(place))
    recommender, layout = Recommender.open(place), workspace.read_json("blend", "blend.json")
    part = workspace.read("split", "split").to_pandas()
    hidden = part["song_id"][part["part"] == "test"].tolist()[:4]
    arrays = read_arrays(workspace.of("blend"), "blend", "rotation", "arrays.safetensors")
    nobody = arrays["nobody"][Layout.of_json(layout).told]
    plays = next(plays for plays in learned(workspace).values() if len(plays) > 5)
    given = {
        "seen": plays,
        "more": {**plays, **dict.fromkeys([*hidden, "SOUNKNOWN"], 9)},
        "hidden": dict.fromkeys(hidden, 2),
    }
    told = _told(recommender, given)
    np.testing.assert_array_equal(told[0], told[1])
    assert (told[0] != nobody).any()
    np.testing.assert_array_equal(told[2], nobody)


def _told(recommender: Recommender, plays: dict[str, dict[str, int]]) -> np.ndarray:
    """What no history gives, by the reasons' way to it."""
    from pipelines.opened.lists import played
    from pipelines.opened.plays import GivenPlays

    own, other, _ = played(recommender.ranked, GivenPlays.of(plays))
    return recommender.ranked.told(own, other, np.full(len(plays), -1))


def test_a_blend_that_kept_nothing_of_it_says_so(place, tmp_path, caplog) -> None:
    earlier = Path(shutil.copytree(place, tmp_path / "w"))
    for folder in earlier.glob("blend/*/strangers"):
        shutil.rmtree(folder)
    workspace = Workspace(str(earlier))
    plays = next(plays for plays in learned(workspace).values() if len(plays) > 5)
    recommender = Recommender.open(earlier)
    with caplog.at_level("WARNING"):
        told = _told(recommender, {"a": plays, "b": {}})
        recommender.recommend({"a": plays}, top=3)
    np.testing.assert_array_equal(told[0], told[1])
    assert caplog.text.count("its blend is of an earlier version: users") == 1


def test_what_is_kept_is_no_code_and_a_row_a_song(place) -> None:
    (folder,) = Path(place).glob("blend/*/strangers")
    assert [file.name for file in folder.iterdir()] == ["arrays.safetensors"]
    (factors,) = folder.parent.glob("song_factors/*")
    settings = json.loads((folder.parent / "blend.json").read_text())["settings"]
    songs = Workspace(str(place)).require("ingest")["counts"]["songs"] + 1
    assert factors.stat().st_size == pytest.approx(4 * songs * settings["factors"], abs=200)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(
    "names", [("taste", "neighbours-terms"), ("taste", "popularity-history"), SIGNALS]
)
def test_what_is_read_makes_what_was_written(tmp_path, monkeypatch, names, whole) -> None:
    """Of blends that tell nothing, no factors, and all."""
    monkeypatch.setattr(weights, "choose", lambda _: (np.ones(len(names)), 1.0))
    some = fold()
    made = joined(Simulated(names, some.settings, [], np.ones(len(names))), some, unseen=True)
    workspace = Workspace(str(tmp_path / "w"))
    run = workspace.at({}).begin("blend", {"settings": {}})
    assert run is not None
    assert made.strangers is not None
    write_strangers(run, made.strangers)
    run.write_json({"settings": asdict(made.settings)}, "blend.json")
    workspace.point({"blend": run.commit({})["key"]})
    everything = corpus()[1]
    nobody = made.nobody[made.layout.told]
    unknown = np.tile(nobody, (len(made.told), 1))
    read = StoredStrangers(workspace.of("blend"), nobody, whole)
    found = read.told(lambda: everything, unknown)
    np.testing.assert_array_equal(found, made.strangers.told(everything))
    some_told = np.where(np.arange(len(found))[:, None] % 3 == 0, nobody, made.told + 1)
    kept = read.told(lambda: everything, some_told)
    np.testing.assert_array_equal(kept[::3], found[::3])
    np.testing.assert_array_equal(kept[1::3], some_told[1::3])
    learned = made.strangers.learned if len(nobody) else np.zeros(0, bool)
    np.testing.assert_array_equal(read.learned, learned)
