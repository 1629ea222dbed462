"""What an update has added is there in an opened workspace, and in an export of it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fusionrec.tables import matrix
from pipelines.export import Asked, export
from pipelines.opened import Recommender
from tests.pipelines.update.places import all_plays, given_songs, listed


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
