"""What the page asks for beside lists, and the files that it is made of."""

from __future__ import annotations

import gc
import json
import re
import threading
import weakref
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.decomposition import PCA
from starlette.testclient import TestClient

import pipelines.serve.page
from fusionrec.tables import matrix
from pipelines.runtime.workspace import Workspace
from pipelines.serve import reports, song_map
from pipelines.serve.settings import LOOPBACK, Settings
from pipelines.serve.snapshot import Snapshot
from pipelines.serve.song_map import NO_CLASS, sampled, two_directions
from tests.pipelines.serve.conftest import client_of, users_plays

FILES = Path(pipelines.serve.page.__path__[0])


@pytest.fixture(scope="module")
def genre(places) -> Iterator[tuple[Workspace, TestClient]]:
    settings = Settings(str(places["genre"]), hosts=LOOPBACK, poll_seconds=0)
    with client_of(settings) as client:
        yield Workspace(str(places["genre"])), client


# --- reasons and mixtures ------------------------------------------------------------------


def test_reasons_of_many_are_those_of_one_by_one(served) -> None:
    recommender, client = served
    user, plays = next(iter(users_plays(recommender).items()))
    listed = client.get("/v1/lists", params={"user_id": user, "top": 6}).json()["songs"]
    ids = [song["song_id"] for song in listed]
    for of in ({"user_id": user}, {"plays": plays}):
        found = client.post("/v1/reasons", json={"song_ids": ids, **of}).json()["reasons"]
        for song, reason in zip(ids, found, strict=True):
            one = client.post("/v1/why", json={"song_id": song, **of}).json()
            for name in ("signals", "modalities", "kinds"):
                assert reason[name] == pytest.approx(one[name], rel=1e-6, abs=1e-9)
            assert [s["song_id"] for s in reason["songs"]] == [s["song_id"] for s in one["songs"]]
            assert reason["score"] == pytest.approx(one["score"], rel=1e-6, abs=1e-9)


def test_reasons_of_songs_like_one_add_up_to_their_scores(served) -> None:
    recommender, client = served
    song = recommender.vectors()["song_id"][4].as_py()
    like = client.get("/v1/similar", params={"song_id": song, "top": 5}).json()["songs"]
    form = {"song_ids": [each["song_id"] for each in like], "like": song}
    found = client.post("/v1/reasons", json=form).json()["reasons"]
    for each, reason in zip(like, found, strict=True):
        for name in ("signals", "modalities", "kinds"):
            whole = sum(reason[name].values())
            assert whole == pytest.approx(each["score"], rel=1e-4, abs=1e-5), name


def test_a_mixture_of_plays_is_the_weighted_mean_of_the_songs(genre) -> None:
    workspace, client = genre
    table = workspace.read("train", "song_vectors", ["song_id", "probabilities"])
    ids, F = table["song_id"].to_pylist(), matrix(table["probabilities"]).astype(float)
    plays = {ids[3]: 1, ids[8]: 7, ids[21]: 2}
    found = client.post("/v1/mixtures", json={"song_ids": ids[:5], "plays": plays}).json()
    np.testing.assert_allclose(found["songs"], F[:5], rtol=1e-6)
    weights = np.log1p([*plays.values()])  # recommend.weighting of this workspace
    expected = weights @ F[[3, 8, 21]]
    np.testing.assert_allclose(found["user"], expected / expected.sum(), rtol=1e-5)
    assert found["says"] is None
    assert found["classes"] == F.shape[1]


def test_a_users_history_and_mixture(served) -> None:
    recommender, client = served
    users = client.get("/v1/users", params={"top": 500}).json()["users"]
    plays = users_plays(recommender)
    assert users
    assert set(users) <= set(plays)
    begins = client.get("/v1/users", params={"q": users[0][:3]}).json()["users"]
    assert users[0] in begins
    assert all(user.startswith(users[0][:3]) for user in begins)
    user = users[0]
    found = client.get("/v1/history", params={"user_id": user, "top": 500}).json()
    assert found["songs"] == len(found["played"])
    assert {s["song_id"]: s["plays"] for s in found["played"]}.items() <= plays[user].items()
    counts = [song["plays"] for song in found["played"]]
    assert counts == sorted(counts, reverse=True)
    mixed = client.post("/v1/mixtures", json={"user_id": user}).json()
    if recommender.model == "network":  # its training is on taste
        assert mixed["user"] is None
        assert "train.objective" in mixed["says"]
    else:
        assert sum(mixed["user"]) == pytest.approx(1)


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("reasons", {"song_ids": ["x"]}),
        ("reasons", {"song_ids": ["x"], "user_id": "u", "plays": {}}),
        ("reasons", {"song_ids": ["x"] * 101, "user_id": "u"}),
        ("mixtures", {"user_id": "u", "plays": {}}),
    ],
)
def test_questions_that_are_none_are_refused(genre, path, form) -> None:
    found = genre[1].post(f"/v1/{path}", json=form)
    assert found.status_code == 422
    assert found.json()["detail"]


def test_plays_that_the_model_knows_nothing_of_have_no_reasons(genre) -> None:
    form = {"song_ids": ["x"], "plays": {"no such song": 1}}
    found = genre[1].post("/v1/reasons", json=form)
    assert found.status_code == 404
    assert "knows nothing of these plays" in found.json()["detail"]


def test_plays_that_tell_nothing_are_answered_alike_by_both(served) -> None:
    recommender, client = served
    song = recommender.vectors()["song_id"][4].as_py()
    told = [
        client.post("/v1/why", json={"song_id": song, "plays": {"no such song": 1}}),
        client.post("/v1/reasons", json={"song_ids": [song], "plays": {"no such song": 1}}),
    ]
    assert [each.status_code for each in told] == [404, 404]
    assert told[0].json() == told[1].json()
    described = client.get("/v1/openapi.json").json()["paths"]
    for path in ("/v1/why", "/v1/reasons"):
        assert "knows nothing of the plays" in described[path]["post"]["description"]
        assert "404" in described[path]["post"]["responses"]


# --- the map -------------------------------------------------------------------------------


def test_a_map_that_takes_long_is_made_once_and_nobody_waits_for_it(places, monkeypatch) -> None:
    go_on, made = threading.Event(), []

    def slowly(blocks, d):
        made.append(sum(len(X) for X in blocks()))
        assert go_on.wait(60)
        return two_directions(blocks, d)

    monkeypatch.setattr(song_map, "two_directions", slowly)
    settings = Settings(str(places["genre"]), hosts=LOOPBACK, poll_seconds=0, seconds=0.4)
    with client_of(settings) as client:
        try:
            for path in ("map", "map/points"):
                told = client.get(f"/v1/{path}")
                assert told.status_code == 503
                assert told.headers["retry-after"] == "1"
                assert told.json()["type"] == "urn:fusionrec:being-made"
                assert "the map is being made" in told.json()["detail"]
            assert client.get("/v1/classes").status_code == 200  # which the map is made of
            assert client.get("/v1/users").status_code == 200
        finally:
            go_on.set()
        for _ in range(100):
            if (found := client.get("/v1/map")).status_code == 200:
                break
        assert found.json()["points"] == made[0]
        assert len(made) == 1


def test_what_cannot_be_made_is_tried_again(places, monkeypatch) -> None:
    with client_of(Settings(str(places["genre"]), hosts=LOOPBACK, poll_seconds=0)) as client:
        with monkeypatch.context() as patched:
            patched.setattr(song_map, "two_directions", lambda *_: Path("/no/such").stat())
            assert client.get("/v1/map").status_code == 503
        assert client.get("/v1/map").status_code == 200


def test_opening_the_page_begins_the_map(places, monkeypatch) -> None:
    begun = threading.Event()
    real = song_map.two_directions
    monkeypatch.setattr(song_map, "two_directions", lambda *of: (begun.set(), real(*of))[1])
    with client_of(Settings(str(places["genre"]), hosts=LOOPBACK, poll_seconds=0)) as client:
        client.get("/v1/health")
        client.head("/")
        assert not begun.is_set()
        client.get("/")
        assert begun.wait(60)


def test_directions_are_fitted_to_a_sample(genre, monkeypatch) -> None:
    _, client = genre
    client.get("/v1/map")
    shown, snapshot = client.app.state.pages.shown, client.app.state.engine.snapshot
    monkeypatch.setattr(song_map, "MOST_FITTED", 30)
    found = type(shown.map).of(snapshot, shown.genres)
    rows = sampled(np.flatnonzero(snapshot.batches.known), 30)
    x = np.log(np.maximum(snapshot.batches.ranked.songs.F[rows].astype(float), 1e-4))
    expected = PCA(2, svd_solver="full").fit(x - x.mean(axis=1, keepdims=True))
    np.testing.assert_allclose(found.explained, expected.explained_variance_ratio_, rtol=1e-6)
    assert len(found.rows) == len(shown.map.rows)  # all of them have their places


def test_directions_are_those_of_another_library() -> None:
    X = np.random.default_rng(3).normal(size=(200, 7)) * np.arange(1, 8)
    mean, axes, explained = two_directions(lambda: [X[:90], X[90:]], 7)
    pca = PCA(2, svd_solver="full").fit(X)
    np.testing.assert_allclose(np.abs(axes.T @ pca.components_.T), np.eye(2), atol=1e-9)
    np.testing.assert_allclose(explained, pca.explained_variance_ratio_, rtol=1e-9)
    np.testing.assert_allclose(mean, X.mean(axis=0))


@pytest.mark.parametrize("shape", [(0, 3), (1, 3), (5, 1)])
def test_directions_of_next_to_nothing(shape) -> None:
    _, axes, explained = two_directions(lambda: [np.ones(shape)], shape[1])
    assert np.isfinite(axes).all()
    assert explained == (0.0, 0.0)


def test_a_sample_is_always_the_same_and_all_where_few() -> None:
    rows = np.arange(10, 5010)
    found = sampled(rows, 700)
    assert len(np.unique(found)) == 700
    assert (np.diff(found) > 0).all()
    assert set(found) <= set(rows)
    np.testing.assert_array_equal(found, sampled(rows, 700))
    np.testing.assert_array_equal(sampled(rows, 5000), rows)


def test_points_say_where_songs_lie_and_which_they_are(served) -> None:
    recommender, client = served
    about = client.get("/v1/map").json()
    answer = client.get("/v1/map/points")
    n, content = about["points"], answer.content
    assert answer.headers["fusionrec-result"] == about["result"]
    assert len(content) == 13 * n
    places = np.frombuffer(content, "<f4", 2 * n).reshape(n, 2)
    songs = np.frombuffer(content, "<u4", n, 8 * n)
    classes = np.frombuffer(content, np.uint8, n, 12 * n)
    assert np.abs(places).max() == pytest.approx(1, abs=1e-6)
    ids = recommender.workspace.read("ingest", "songs", ["song_id"])["song_id"].to_pylist()
    query = {"number": int(songs[6]), "result": about["result"]}
    assert client.get("/v1/map/song", params=query).json()["song"]["song_id"] == ids[songs[6]]
    some = [ids[row] for row in songs[:9]]
    found = client.post("/v1/map/places", json={"song_ids": some}).json()["places"]
    np.testing.assert_array_equal([[p["x"], p["y"]] for p in found], places[:9])
    of = [NO_CLASS if p["genre"] is None else p["genre"] for p in found]
    assert of == classes[:9].tolist()
    assert client.get("/v1/map/song", params={**query, "result": "old"}).status_code == 404


def test_colours_of_the_map_are_the_most_probable_classes(genre) -> None:
    workspace, client = genre
    about = client.get("/v1/map").json()
    classes = np.frombuffer(client.get("/v1/map/points").content[12 * about["points"] :], np.uint8)
    F = matrix(workspace.read("train", "song_vectors", ["probabilities"])["probabilities"])
    np.testing.assert_array_equal(classes, F.argmax(axis=1))
    listed = client.get("/v1/classes").json()["classes"]
    assert len(listed) == F.shape[1]
    labels = workspace.read("label", "labels", ["class"])["class"].to_pylist()
    assert [each["songs"] for each in listed] == [
        Counter(labels)[number] for number in range(F.shape[1])
    ]


def test_a_song_beside_the_sample_has_its_place(genre) -> None:
    _, client = genre
    pages, snapshot = client.app.state.pages, client.app.state.engine.snapshot
    client.get("/v1/map")
    whole = pages.shown.map
    few = type(whole).of(snapshot, pages.shown.genres, most=40)
    assert len(few.rows) == 40
    out = np.setdiff1d(whole.rows, few.rows)
    row = int(out[0])
    x = np.log(np.maximum(snapshot.batches.ranked.songs.F[row].astype(float), 1e-4))
    expected = (x - x.mean() - few.mean) @ few.axes
    np.testing.assert_allclose(few.place(snapshot, row), expected, rtol=1e-9)


@pytest.mark.parametrize("failing", [False, True])
def test_what_is_shown_keeps_no_older_result_in_memory(places, monkeypatch, failing) -> None:
    def unreadable(*_: object) -> None:
        raise OSError("no such disk")

    if failing:
        monkeypatch.setattr(reports, "report", unreadable)
    settings = Settings(str(places["genre"]), hosts=LOOPBACK, poll_seconds=0)
    with client_of(settings) as client:
        engine = client.app.state.engine
        for path in ("map", "classes", "users", "report"):
            status = 503 if failing and path == "report" else 200
            assert client.get(f"/v1/{path}").status_code == status
        before = weakref.ref(engine.snapshot)
        engine._take(Snapshot(settings.workspace, settings.model, settings.similar_gb))
        gc.collect()
        assert before() is None
        assert client.get("/v1/map").status_code == 200


# --- reports -------------------------------------------------------------------------------


def test_the_report_has_every_reject_by_its_reason(genre) -> None:
    workspace, client = genre
    found = client.get("/v1/report").json()
    rows = workspace.read("ingest", "rejects").to_pylist()
    counted = {(row["reason"], row["action"]): row["count"] for row in found["rejects"]}
    assert counted == Counter((row["reason"], row["action"]) for row in rows)
    known = {(row["source"], row["item"], row["detail"]) for row in rows}
    for row in found["rejects"]:
        assert len(row["examples"]) == min(3, row["count"])
        assert all((e["source"], e["item"], e["detail"]) in known for e in row["examples"])
    counts = {each["stage"]: each["counts"] for each in found["stages"]}
    assert counts["ingest"]["songs"] == workspace.require("ingest")["counts"]["songs"]
    assert found["evaluation"] == workspace.read_json("evaluate", "summary.json")


def _row(name: str, value: float, **more: Any) -> dict[str, Any]:
    of = {"method": name, "reference": False, "lift": 2.0, "auc": None, "recall": 0.5, "ndcg": 0.3}
    of |= {"seeds": 1, "spread": float("nan"), "k": None, "modalities": None, "operator": None}
    return {"name": name, "average_precision": value, "low": 0.0, "high": 1.0, **of, **more}


def test_a_comparison_is_shown_with_differences_to_one(tmp_path) -> None:
    assert reports.comparison(str(tmp_path))["make"] == "fusionrec compare"
    pair = {"difference": 0.2, "low": 0.1, "high": 0.4, "p": 0.01, "p_holm": 0.03}
    summary = {
        "by": "song",
        "against": "b",
        "rows": [_row("b", 0.1, random_level=0.05), _row("a", 0.3), _row("linear", 0.2)],
        "differences": [
            {"a": "a", "b": "b", **pair, "p_holm_against": 0.02},
            {"a": "b", "b": "linear", **pair, "p_holm_against": 0.04},
        ],
        "failed": {"wmf": "no plays"},
        "ceilings": {"6": 0.4},
        "external": {
            "theirs": {
                "lists": 5,
                "unknown_users": 1,
                "unknown_songs": 0,
                "without_list": 2,
                "without_candidate": 1,
            }
        },
        "folds": {
            "folds": [0, 1],
            "fold_seeds": 2,
            "users": 7,
            "distinct_users": 6,
            "candidates_mean": 30.0,
            "relevant_mean": 2.5,
            "users_left_out": {"no relevant song": 1},
        },
    }
    _finish(tmp_path, "compare", "comparison.json", {"song": summary})
    found = reports.comparison(str(tmp_path))
    json.dumps(found, allow_nan=False)
    (split,) = found["splits"]
    b, a, linear = split["rows"]
    assert b["difference"] is None
    assert a["difference"] == {"difference": 0.2, "low": 0.1, "high": 0.4, "p": 0.02}
    assert linear["difference"] == {"difference": -0.2, "low": -0.4, "high": -0.1, "p": 0.04}
    assert linear["published"]["value"] == 0.02389
    assert split["random_level"] == 0.05
    assert split["failed"] == {"wmf": "no plays"}
    assert (split["folds"], split["cuts"], split["ceilings"]) == ([0, 1], 2, {"6": 0.4})
    caveat, theirs = split["external"]
    assert "who made them knows what they have seen" in caveat
    assert theirs == (
        "theirs: 5 lists, 1 of unknown users, with 0 unknown songs in all; of 7 rankings 2 have no "
        "list and 1 no candidate in it: these score 0"
    )


def test_a_ladder_is_shown_as_it_was_made(tmp_path) -> None:
    assert reports.ladder(str(tmp_path))["make"] == "fusionrec ladder"
    step = {"rung": 1, "name": "fusion", "change": "the paper", "difference": None, "split": "song"}
    made = {"ladders": {"song": [step]}, "left_out": {"x": "why"}}
    _finish(tmp_path, "ladder", "ladder.json", made)
    found = reports.ladder(str(tmp_path))
    assert found["left_out"] == {"x": "why"}
    assert found["splits"][0]["rungs"][0]["change"] == "the paper"


def _finish(place: Path, stage: str, name: str, content: Any) -> None:
    workspace = Workspace(str(place))
    run = workspace.begin(stage, {})
    assert run is not None
    run.write_bytes(json.dumps(content).encode(), name)
    run.commit({})
    workspace.point({stage: run.key})


# --- the page's files ----------------------------------------------------------------------


def test_files_are_given_by_their_types_and_kept_by_their_tags(genre) -> None:
    _, client = genre
    for name in ["", *(f"page/{each.name}" for each in FILES.iterdir() if each.suffix != ".html")]:
        found = client.get(f"/{name}")
        assert found.status_code == 200, name
        kind = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
        assert found.headers["content-type"].startswith(kind.get(name[-3:].strip("."), "text/html"))
        assert "default-src 'self'" in found.headers["content-security-policy"]
        assert "unsafe" not in found.headers["content-security-policy"]
        assert found.headers["cache-control"] == "no-cache"
        tag = found.headers["etag"]
        again = client.get(f"/{name}", headers={"if-none-match": f'"other", W/{tag}'})
        assert (again.status_code, again.content) == (304, b"")
        assert client.get(f"/{name}", headers={"if-none-match": '"other"'}).status_code == 200
        assert client.head(f"/{name}").content == b""
    for name in ("none.js", "index.html", "..%2fpages.py", "%2e%2e/app.py"):
        assert client.get(f"/page/{name}").status_code == 404, name


def test_the_page_needs_no_token_and_what_it_shows_does(places) -> None:
    settings = Settings(str(places["genre"]), token="secret", poll_seconds=0)
    with client_of(settings) as client:
        assert client.get("/").status_code == 200
        assert client.get("/page/app.js").status_code == 200
        for path in ("/v1/map", "/v1/report", "/v1/users", "/page", "/pages/app.js"):
            assert client.get(path).status_code == 401, path


def test_nothing_of_the_page_is_elsewhere_or_inline() -> None:
    texts = {path.name: path.read_text() for path in FILES.iterdir() if path.is_file()}
    for name, text in texts.items():
        addresses = set(re.findall(r"(?:https?:)?//[a-z][\w.-]+\.[a-z]{2,}", text))
        assert addresses <= {"http://www.w3.org"}, name
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
            assert word not in text, name
    page = texts["index.html"]
    assert not re.search(r"<style|<script(?![^>]*src=)| style=| on\w+=", page)
    for name in re.findall(r'from "\./([\w.-]+)"', "".join(texts.values())):
        assert name in texts
