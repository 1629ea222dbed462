"""Who gets a list, and what of: those of going through all songs, however the work is cut."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines import blend, lists, recommend
from pipelines.blend.vectors import read_users
from pipelines.cli.recommend import for_user
from pipelines.lists import stage as lists_stage
from pipelines.lists.known import Played, known_by
from pipelines.recommend.ranking import StoredSongs
from pipelines.run import stages
from pipelines.runtime.workspace import StageRun, Workspace
from tests.pipelines.inline import load
from tests.pipelines.lists.making import (
    COLD,
    MODELS,
    SEEN,
    SILENT,
    catalogue,
    check_against_hand,
    made,
    plays_of,
)


def test_lists_are_those_of_going_through_all_songs(places, model) -> None:
    workspace = Workspace(str(places[model]))
    check_against_hand(workspace, model, np.ones(len(catalogue(workspace)), bool))


def test_everybody_has_a_list_and_is_counted(places, model) -> None:
    workspace = Workspace(str(places[model]))
    counts = workspace.require("lists")["counts"]
    users = workspace.require("ingest")["counts"]["users"]
    table = workspace.read("lists", "lists")
    assert counts["users"] == table.num_rows == users
    alone = counts["fallback"]
    assert alone["no play"] == 1
    # A blend learns from songs outside the catalogue, too, and knows a user by them.
    assert alone["no play of a song of the catalogue"] == (model != "blend")
    assert counts["own"] + sum(alone.values()) == users
    assert sum(alone.values()) == sum(table["fallback"].to_pylist())
    assert table["fallback"][SILENT].as_py()
    assert not table["fallback"][COLD].as_py()
    by = "predicted popularity" if model == "blend" else "listeners"
    assert counts["fallback_by"] == by
    lengths = [len(songs) for songs in table["song_ids"].to_pylist()]
    assert min(lengths) > 0
    assert counts["short"] == users  # there are 150 songs


def test_users_without_plays_of_test_songs_are_as_the_model_has_them(small, places, model) -> None:
    if model == "genre":
        pytest.skip("no vectors of users are stored")
    place = places[model]
    workspace = Workspace(str(place)).of("lists")
    chosen = load(small, place, **MODELS[model])
    run = StageRun(workspace, "lists", workspace.key("lists") or "", {}, {}, 0.0)
    known = known_by(chosen, workspace, run, StoredSongs(None, (), 0.0))
    users = workspace.require("ingest")["counts"]["users"]
    found = known.vectors(workspace, Played.read(workspace, 0, users))
    where = ("blend", "users") if model == "blend" else ("train", "user_vectors")
    stored = read_users(workspace, 0, users, *where)
    same = [*SEEN, *([SILENT] if model == "blend" else [])]
    found.V[~found.own] = 0 if found.nobody is None else found.nobody
    scale = np.abs(stored).max()
    np.testing.assert_allclose(found.V[same], stored[same], rtol=1e-3, atol=1e-4 * scale)
    others = np.setdiff1d(np.flatnonzero(found.own), [*SEEN])
    assert (np.abs(found.V[others] - stored[others]).max(axis=1) > 1e-3 * scale).mean() > 0.5


def test_users_do_not_depend_on_how_the_work_is_cut(small, places, model) -> None:
    whole = Workspace(str(places[model])).read("lists", "lists")
    place, settings = places[model], {**MODELS[model], "recommend__block_mb": 0}
    chosen = load(small, place, **settings, lists__users_per_shard=7)
    manifest = lists.STAGE.run(chosen, current=False)
    assert len(recommend.song_blocks(chosen, Workspace(str(place)).of("lists"))) > 1
    assert Workspace(str(place), {"lists": manifest["key"]}).read("lists", "lists").equals(whole)


def test_a_killed_run_goes_on_with_the_next_shard(small, places, tmp_path, monkeypatch) -> None:
    place = Path(shutil.copytree(places["genre"], tmp_path / "w"))
    done: list[int] = []
    whole = Workspace(str(place)).read("lists", "lists")

    def mortal(resolved: Any, run: Any, songs: Any, known: Any, shard: Any) -> Any:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(shard.part)
        return rank(resolved, run, songs, known, shard)

    rank = lists_stage._rank_shard
    monkeypatch.setattr(lists_stage, "_rank_shard", mortal)
    shutil.rmtree(place / "lists")
    with pytest.raises(KeyboardInterrupt):
        made(small, place)
    done.clear()
    workspace = made(small, place)
    assert done == [2]
    assert workspace.read("lists", "lists").equals(whole)


def test_a_blend_without_popularity_leaves_it_to_listeners(small, base, tmp_path) -> None:
    """Also of a task that has nobody else, with songs in several blocks."""
    place = Path(shutil.copytree(base, tmp_path / "w"))
    signals = {"blend__signals": "[neighbours-terms, neighbours-artist]"}
    chosen = load(small, place, recommend__model="blend", **signals)
    blend.STAGE.run(chosen)
    asked = {"lists__users_per_shard": 1, "recommend__block_mb": 0, "lists__top": 9}
    lists.STAGE.run(load(small, place, recommend__model="blend", **signals, **asked))
    workspace = Workspace(str(place)).of("lists")
    counts = workspace.require("lists")["counts"]
    assert counts["fallback_by"] == "listeners"
    assert counts["fallback"]["no play"] == 1
    own = plays_of(workspace)
    songs = catalogue(workspace)["song_id"].tolist()
    listeners = [sum(n in played for played in own) for n in range(len(songs))]
    best = sorted(range(len(songs)), key=lambda n: (-listeners[n], n))[:9]
    row = workspace.read("lists", "lists").to_pylist()[SILENT]
    assert row["fallback"]
    assert row["song_ids"] == [songs[n] for n in best]
    assert row["scores"] == [listeners[n] for n in best]
    found = for_user(str(place), row["user_id"], 3, why=True)
    assert [song.why.signals["listeners"] for song in found.songs] == row["scores"][:3]


def test_a_run_has_them_where_it_is_told_so(small, tmp_path) -> None:
    assert lists.STAGE not in stages(load(small, tmp_path))
    assert stages(load(small, tmp_path, lists__run=True))[-1] is lists.STAGE
