"""Lists brought up to date, against what is made of all by hand."""

from __future__ import annotations

import shutil

import numpy as np
import pyarrow as pa
import pytest

from pipelines import update
from pipelines.cli.recommend import for_user, similar_to
from tests.pipelines.update.by_hand import ByHand
from tests.pipelines.update.late import MODELS, ON_THE_SAME
from tests.pipelines.update.places import all_plays, before, given_to, listed


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


def test_with_ray_it_is_the_same(places, tmp_path, ray_session) -> None:
    place = places["genre"]
    with_ray = place.copy(tmp_path)
    shutil.rmtree(tmp_path / "w" / "update")
    update.STAGE.run(with_ray.config())
    assert listed(with_ray.workspace) == listed(place.workspace)
