"""Lists of many requests in one ranking are those of one at a time, and of `Recommender`."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.opened import Recommender
from pipelines.opened.batches import Asked, Batches
from pipelines.opened.likes import Likes
from tests.pipelines.serve.conftest import MODELS, users_plays


@pytest.fixture(params=MODELS)
def opened(request, places) -> Recommender:
    return Recommender.open(places[request.param])


def test_a_batch_is_what_recommend_gives_one_by_one(opened) -> None:
    plays = users_plays(opened)
    users = [*plays][:12]
    batches = Batches(opened)
    asked = [
        Asked(
            {**plays[user], **({"SONOWHERE": 2} if n % 3 == 0 else {})},
            top=(5, 40, 500)[n % 3],
            user=user if n % 2 else None,
            exclude_heard=n % 4 != 0,
        )
        for n, user in enumerate(users)
    ]
    asked += [Asked({}, 7), Asked({"SONOWHERE": 1}, 3)]
    together = batches.lists(asked)
    ids = opened.workspace.read("ingest", "songs", ["song_id"])["song_id"].to_pylist()
    for each, found in zip(asked, together, strict=True):
        (alone,) = batches.lists([each])
        assert alone.rows.tolist() == found.rows.tolist()
        assert alone.scores.tobytes() == found.scores.tobytes()
        name = each.user or "somebody"
        (expected,) = opened.recommend(
            {name: dict(each.plays)}, each.top, exclude_heard=each.exclude_heard
        ).to_pylist()
        assert [ids[row] for row in found.rows.tolist()] == expected["song_ids"]
        assert found.scores.tolist() == expected["scores"]
        for name in ("fallback", "used", "unused", "unknown"):
            assert getattr(found, name) == expected[name], name


def test_reasons_are_those_of_explain(opened) -> None:
    plays = users_plays(opened)
    mine = next(iter(plays.values()))
    batches = Batches(opened)
    (listed,) = batches.lists([Asked(mine, 3)])
    song = opened.workspace.read("ingest", "songs", ["song_id"])["song_id"][
        int(listed.rows[0])
    ].as_py()
    assert batches.explain(listed, song) == opened.explain(mine, song)


def test_songs_like_some_are_those_of_similar(opened) -> None:
    likes, batches = Likes(opened), Batches(opened)
    rows = np.flatnonzero(batches.known)[:9].tolist()
    ids = opened.workspace.read("ingest", "songs", ["song_id"])["song_id"].to_pylist()
    tops = [3 + row for row in range(len(rows))]
    for row, top, found in zip(rows, tops, likes.similar(rows, tops), strict=True):
        expected = opened.similar(ids[row], top)
        assert found is not None
        scores = np.array(expected["score"])
        near = {"rtol": 1e-4, "atol": 1e-5 * np.abs(scores).max()}
        np.testing.assert_allclose(found.scores, scores, **near)
        # Of scores that differ, the songs are the same; near ones may change places.
        assert row not in found.rows.tolist()
        by_id = dict(zip(expected["song_id"].to_pylist(), scores, strict=True))
        for song, score in zip(found.rows.tolist(), found.scores.tolist(), strict=True):
            tied = abs(score - scores[-1]) <= near["atol"] + near["rtol"] * abs(score)
            assert ids[song] in by_id or tied
