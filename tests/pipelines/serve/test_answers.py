"""What the service answers is what `Recommender` and the command say."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pipelines.cli.recommend import for_user, similar_to
from tests.pipelines.serve.conftest import users_plays


def test_a_stored_list_is_that_of_the_command(served) -> None:
    recommender, client = served
    uri = recommender.workspace.uri
    for user in [*users_plays(recommender)][:5]:
        expected = for_user(uri, user, 7)
        found = client.get("/v1/lists", params={"user_id": user, "top": 7}).json()
        assert found["user_id"] == user
        assert found["match"] == expected.match
        for mine, theirs in zip(found["songs"], expected.songs, strict=True):
            for name in ("rank", "artist", "title", "release", "match", "score", "song_id"):
                assert mine[name] == getattr(theirs, name), name


def test_a_list_of_plays_is_that_of_recommend(served) -> None:
    recommender, client = served
    for user, plays in [*users_plays(recommender).items()][:5]:
        form = {"plays": {**plays, "SONOWHERE": 3}, "top": 9, "user_id": user}
        found = client.post("/v1/lists", json=form).json()
        (expected,) = recommender.recommend({user: form["plays"]}, top=9).to_pylist()
        assert [song["song_id"] for song in found["songs"]] == expected["song_ids"]
        assert [song["score"] for song in found["songs"]] == expected["scores"]
        assert [song["rank"] for song in found["songs"]] == list(range(1, 10))
        assert all(0 <= song["match"] <= 1 for song in found["songs"])
        for name in ("fallback", "used", "unused", "unknown"):
            assert found[name] == expected[name]
        named = recommender.song(expected["song_ids"][0])
        assert found["songs"][0]["artist"] == named["artist_name"]
        assert found["songs"][0]["title"] == named["title"]


def test_who_played_nothing_known_has_the_list_of_most_people(served) -> None:
    recommender, client = served
    found = client.post("/v1/lists", json={"plays": {"SONOWHERE": 1}, "top": 4}).json()
    (expected,) = recommender.recommend({"x": {}}, top=4).to_pylist()
    assert found["fallback"]
    assert [song["song_id"] for song in found["songs"]] == expected["song_ids"]


def test_songs_like_one_are_those_of_the_command(served) -> None:
    recommender, client = served
    song = recommender.vectors()["song_id"][3].as_py()
    named = recommender.song(song)
    uri = recommender.workspace.uri
    expected = similar_to(uri, f"{named['artist_name']} - {named['title']}", 6)
    found = client.get("/v1/similar", params={"song_id": expected.id, "top": 6}).json()
    assert found["like"]["song_id"] == expected.id
    assert found["match"] == expected.match
    scores = [song.score for song in expected.songs]
    near = {"rel": 1e-4, "abs": 1e-5 * max(map(abs, scores))}
    assert [song["score"] for song in found["songs"]] == pytest.approx(scores, **near)
    if np.diff(scores).max() < -2 * near["abs"]:  # no ties
        assert [s["song_id"] for s in found["songs"]] == [s.song_id for s in expected.songs]


def test_reasons_are_those_of_explain(served) -> None:
    recommender, client = served
    user, plays = next(iter(users_plays(recommender).items()))
    song = recommender.vectors()["song_id"][5].as_py()
    for who, of in (({"user_id": user}, user), ({"plays": plays}, plays)):
        found = client.post("/v1/why", json={"song_id": song, **who}).json()
        expected = recommender.explain(of, song)
        assert found["song"]["song_id"] == song
        assert found["score"] == expected.score
        for name in ("signals", "modalities", "kinds"):
            assert found[name] == getattr(expected, name)
        assert [(s["song_id"], s["share"]) for s in found["songs"]] == expected.songs


def test_a_song_has_its_names(served) -> None:
    recommender, client = served
    song = recommender.vectors()["song_id"][0].as_py()
    named = recommender.song(song)
    assert client.get("/v1/song", params={"song_id": song}).json() == {
        "song_id": song,
        "artist": named["artist_name"],
        "title": named["title"],
        "release": named["release"],
    }


def test_search_finds_a_song_that_is_typed_with_an_error(served) -> None:
    recommender, client = served
    rows = recommender.workspace.read("ingest", "songs").to_pylist()
    row = max(rows, key=lambda row: len((row["artist_name"] or "").split()[0]))
    artist = row["artist_name"].split()[0]
    assert len(artist) >= 4
    typed = artist[0] + artist[2] + artist[1] + artist[3:]
    params = {"artist": typed, "title": row["title"], "top": 500}
    found = client.get("/v1/search", params=params).json()["songs"]
    assert row["song_id"] in [song["song_id"] for song in found]


def test_health_and_metrics(served) -> None:
    recommender, client = served
    found = client.get("/v1/health").json()
    assert found["status"] == "ok"
    assert found["model"] == recommender.model
    assert found["songs"] == recommender.workspace.require("ingest")["counts"]["songs"]
    text = client.get("/metrics").text
    counted = 'fusionrec_serve_requests_total{method="GET",path="/v1/health",status="200"}'
    assert counted in text
    assert f'result="{found["result"]}"' in text
    assert "fusionrec_serve_batch_requests_bucket" in text


@pytest.mark.parametrize(
    ("method", "path", "given", "status", "says"),
    [
        ("GET", "/v1/lists", {"user_id": "nobody"}, 404, "no such user"),
        ("GET", "/v1/lists", {}, 422, "query.user_id: Field required"),
        ("GET", "/v1/lists", {"user_id": "x", "tpo": 3}, 422, "query.tpo: Extra inputs"),
        ("GET", "/v1/lists", {"user_id": "x", "top": 501}, 422, "query.top: is 501: at most 500"),
        ("GET", "/v1/lists", {"user_id": "x", "top": 0}, 422, "query.top"),
        ("GET", "/v1/song", {"song_id": "SONOWHERE"}, 404, "SONOWHERE: is not in the catalogue"),
        ("GET", "/v1/similar", {"song_id": "SONOWHERE"}, 404, "is not in the catalogue"),
        ("GET", "/v1/nothing", {}, 404, "/v1/nothing: there is no such resource"),
        ("POST", "/v1/song", {}, 405, "Method Not Allowed"),
        ("POST", "/v1/lists", {"plays": {"a": 0}}, 422, "body.plays.a: Input should be greater"),
        ("POST", "/v1/lists", {"plays": {"a": 1.5}}, 422, "body.plays.a"),
        ("POST", "/v1/lists", {"plays": {"a": True}}, 422, "body.plays.a"),
        ("POST", "/v1/lists", {"plays": {"": 1}}, 422, "body.plays"),
        ("POST", "/v1/lists", {"plays": ["a"]}, 422, "body.plays"),
        ("POST", "/v1/lists", {"plays": {}, "workspace": "/etc"}, 422, "body.workspace: Extra"),
        ("POST", "/v1/lists", {"plays": {}, "candidates": "../x"}, 422, "body.candidates"),
        ("POST", "/v1/why", {"song_id": "x"}, 422, "body: Give one of user_id and plays"),
        ("POST", "/v1/why", {"song_id": "x", "plays": {}, "user_id": "u"}, 422, "body: Give one"),
        ("POST", "/v1/lists", {"plays": {"a": "1"}}, 422, "body.plays.a: Input should be a number"),
        ("POST", "/v1/lists", {"plays": {}, "user_id": None}, 422, "body.user_id"),
        ("POST", "/v1/why", {"song_id": "x", "plays": {}}, 404, "is not in the catalogue"),
        ("POST", "/v1/why", {"song_id": "x", "user_id": "u"}, 404, "is not in the catalogue"),
    ],
)
def test_what_is_wrong_is_said(served, method, path, given, status, says) -> None:
    _, client = served
    sent = {"params": given} if method == "GET" else {"json": given}
    found = client.request(method, path, **sent)
    assert found.status_code == status, found.text
    assert found.headers["content-type"] == "application/problem+json"
    problem = found.json()
    assert problem["status"] == status
    assert says in problem["detail"]
    if "errors" in problem:
        assert problem["detail"].startswith(problem["errors"][0]["field"])


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"plays": {"a": 1e999}}']
)
def test_a_body_that_is_no_json_is_refused(served, body) -> None:
    _, client = served
    found = client.post("/v1/lists", content=body, headers={"content-type": "application/json"})
    assert 400 <= found.status_code < 500
    assert json.loads(found.text)["status"] == found.status_code
