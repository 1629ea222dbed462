"""A list is found and explained, and who has none is told why."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from fusionrec.errors import NotFoundError, WorkspaceError
from pipelines import blend, lists, recommend, train
from pipelines.cli.recommend import for_user
from pipelines.opened import stored
from pipelines.runtime.workspace import Workspace
from tests.pipelines.inline import load
from tests.pipelines.lists.making import (
    COLD,
    ELSEWHERE,
    MODELS,
    SEEN,
    SILENT,
    catalogue,
    plays_of,
)


def test_a_list_is_found_and_explained(places, model, monkeypatch) -> None:
    workspace = Workspace(str(places[model]))
    rows = workspace.read("lists", "lists").to_pylist()
    songs = catalogue(workspace)
    heard = plays_of(workspace)

    def whole(*_: object) -> None:
        raise AssertionError("a look at all parts")

    monkeypatch.setattr(Workspace, "read", whole)
    monkeypatch.setattr(Workspace, "parts", whole)
    for user in (SILENT, ELSEWHERE, COLD, 20, 45):
        row = rows[user]
        found = for_user(workspace.uri, row["user_id"], 5, why=True)
        assert "list for everyone" in found.title
        assert [song.song_id for song in found.songs] == row["song_ids"][:5]
        matches = [song.match for song in found.songs]
        assert matches == sorted(matches, reverse=True)
        assert 0 <= matches[-1] <= matches[0] <= 1
        own = set(songs["song_id"].iloc[list(heard[user])])
        for song in found.songs:
            for parts in (song.why.signals, song.why.modalities, song.why.kinds):
                assert sum(parts.values()) == pytest.approx(song.score, rel=1e-3, abs=1e-3)
            because = {each.song_id for each in song.why.songs}
            assert because <= own or (model == "blend" and user != COLD)
        if user == COLD:
            assert any(song.why.songs for song in found.songs)
    assert any(song.why.songs for song in found.songs)


def test_what_explains_a_list_has_its_scores(places, model) -> None:
    """So that it is made of the plays that the list is made of."""
    workspace = Workspace(str(places[model])).of("lists")
    rows = workspace.read("lists", "lists").to_pylist()
    for user in (*((SILENT, ELSEWHERE) if model == "blend" else ()), COLD, 20, 45):
        explains, listed = stored.of_everyone(workspace, user), np.array(rows[user]["scores"])
        if model == "ranking":  # `scores` are without the songs' biases
            reasons = explains.reasons(rows[user]["song_ids"], listed.tolist())
            found = np.array([sum(reason.signals.values()) for reason in reasons])
        else:
            ids, scores = explains.scores()
            of = dict(zip(ids.to_pylist(), scores.tolist(), strict=True))
            found = np.array([of[song] for song in rows[user]["song_ids"]])
        np.testing.assert_allclose(found, listed, rtol=1e-3, atol=2e-4 * np.abs(listed).max())


def test_an_empty_list_says_why(small, places, tmp_path, model) -> None:
    songs = catalogue(Workspace(str(places[model])))["song_id"].tolist()
    place = Path(shutil.copytree(places[model], tmp_path / "w"))
    played = next(iter(plays_of(Workspace(str(place)))[COLD]))
    file = tmp_path / "ids.txt"
    file.write_text(songs[played])
    lists.STAGE.run(load(small, place, **MODELS[model], lists__candidates=file))
    user = Workspace(str(place)).read("ingest", "users")["user_id"][COLD].as_py()
    with pytest.raises(NotFoundError, match=r"played all 1 songs .* or set lists.repeat"):
        for_user(str(place), user, 5, why=True)


def test_the_list_shown_is_of_the_current_models(small, places, tmp_path) -> None:
    """Or of who is asked for."""
    place = Path(shutil.copytree(places["genre"], tmp_path / "w"))
    chosen = load(small, place)
    with pytest.raises(WorkspaceError, match="recommend"):
        for_user(str(place), "U", 3, stage="recommend")
    recommend.STAGE.run(chosen)
    user = Workspace(str(place)).read("recommend", "recommendations")["user_id"][0].as_py()
    titles = [for_user(str(place), user, 3, stage=s).title for s in (None, "lists", "recommend")]
    assert ["everyone" in title for title in titles] == [True, True, False]
    train.STAGE.run(load(small, place, train__eta=0.01))
    assert "evaluation" in for_user(str(place), user, 3).title
    train.STAGE.run(chosen)
    assert "everyone" in for_user(str(place), user, 3).title
    blend.STAGE.run(load(small, place, recommend__model="blend"))
    recommend.STAGE.run(load(small, place, recommend__model="blend"))
    assert "evaluation" in for_user(str(place), user, 3).title


@pytest.mark.parametrize("kind", ["genre", "blend"])
def test_who_has_no_list_is_told_why(small, places, tmp_path, monkeypatch, kind) -> None:
    """Without a look at the catalogue, and as the manifest counts them."""
    place = Path(shutil.copytree(places[kind], tmp_path / "w"))
    recommend.STAGE.run(load(small, place, **MODELS[kind]))
    workspace = Workspace(str(place)).of("recommend")
    users = workspace.read("ingest", "users")["user_id"].to_pylist()
    left_out = workspace.read("recommend", "left_out").to_pandas()
    listed = workspace.read("recommend", "recommendations")["user"].to_pylist()
    assert sorted([*left_out["user"], *listed]) == list(range(len(users)))
    assert left_out["user"].is_monotonic_increasing
    counted = workspace.require("recommend")["counts"]["users_left_out"]
    assert left_out["reason"].value_counts().to_dict() == {k: n for k, n in counted.items() if n}

    def whole(*_: object) -> None:
        raise AssertionError("a look at all parts")

    monkeypatch.setattr(Workspace, "read", whole)
    monkeypatch.setattr(Workspace, "parts", whole)
    reasons = dict(left_out.itertuples(index=False))
    assert reasons[SILENT] == "no play of a known song"
    assert reasons[SEEN[0]] == "no song in profile"
    for user, reason in reasons.items():
        with pytest.raises(
            NotFoundError, match=re.escape(f"left the user out ({reason});")
        ) as found:
            for_user(str(place), users[user], 3, stage="recommend")
        assert "`fusionrec recommend --for everyone` makes a list" in str(found.value)
    for stage in ("recommend", "lists"):
        with pytest.raises(NotFoundError, match="no such user in the plays"):
            for_user(str(place), "nobody", 3, stage=stage)


def test_a_result_that_does_not_say_why_is_read_as_well(small, places, tmp_path) -> None:
    place = Path(shutil.copytree(places["genre"], tmp_path / "w"))
    recommend.STAGE.run(load(small, place))
    workspace = Workspace(str(place)).of("recommend")
    workspace.delete("recommend", "left_out")  # as before it was written
    user = workspace.read("ingest", "users")["user_id"][SILENT].as_py()
    with pytest.raises(NotFoundError, match="which left the user out; `fusionrec"):
        for_user(str(place), user, 3, stage="recommend")
