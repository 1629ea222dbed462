"""Batches, and a newer result that is taken over while requests go on."""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from pathlib import Path

import httpx
import pytest

from fusionrec.errors import DataError
from pipelines.opened import Recommender
from pipelines.run import run
from pipelines.serve import engine as engine_module
from pipelines.serve.app import create_app
from pipelines.serve.settings import Settings
from tests.pipelines.inline import load, without_ray
from tests.pipelines.serve.conftest import client_of, users_plays


def asking(app) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1")


def test_requests_at_once_are_answered_as_one_by_one(places) -> None:
    recommender = Recommender.open(places["blend"])
    plays = [*users_plays(recommender).values()]
    forms = [{"plays": plays[n % len(plays)], "top": 1 + n % 30} for n in range(40)]
    songs = recommender.vectors()["song_id"].to_pylist()

    async def ask() -> None:
        app = create_app(Settings(str(places["blend"]), poll_seconds=0))
        async with app.router.lifespan_context(app), asking(app) as client:
            alone = [(await client.post("/v1/lists", json=form)).json() for form in forms]
            alone += [
                (await client.get("/v1/similar", params={"song_id": song})).json()
                for song in songs[:20]
            ]
            together = await asyncio.gather(
                *(client.post("/v1/lists", json=form) for form in forms),
                *(client.get("/v1/similar", params={"song_id": song}) for song in songs[:20]),
                client.get("/v1/similar", params={"song_id": "SONOWHERE"}),
            )
            assert together.pop().status_code == 404
            assert [each.json() for each in together] == alone
            text = (await client.get("/metrics")).text
            counted = {
                line.split(" ")[0]: float(line.split(" ")[1])
                for line in text.splitlines()
                if line.startswith("fusionrec_serve_batch_requests_")
            }
        # Each alone, and then most of them with others.
        assert counted["fusionrec_serve_batch_requests_sum"] == 120
        assert counted["fusionrec_serve_batch_requests_count"] < 80

    asyncio.run(ask())


def test_one_that_fails_fails_alone(places, monkeypatch) -> None:
    """Who asked with it has a list."""
    together = engine_module._ranked_together

    def failing(snapshot, asked):
        if any(each.top == 13 for each in asked):
            raise DataError("thirteen is no number of songs")
        return together(snapshot, asked)

    async def ask() -> None:
        app = create_app(Settings(str(places["genre"]), poll_seconds=0))
        async with app.router.lifespan_context(app), asking(app) as client:
            monkeypatch.setattr(engine_module, "_ranked_together", failing)
            forms = [{"plays": {}, "top": top} for top in (4, 13, 5)]
            found = await asyncio.gather(*(client.post("/v1/lists", json=f) for f in forms))
            assert [each.status_code for each in found] == [200, 422, 200]
            assert found[1].json()["detail"] == "thirteen is no number of songs"

    asyncio.run(ask())


def test_more_than_can_wait_are_told_to_come_again(places, monkeypatch) -> None:
    held, ranking = threading.Event(), engine_module._rank

    def slowly(*arguments):
        held.wait(30)
        return ranking(*arguments)

    async def ask() -> None:
        app = create_app(Settings(str(places["genre"]), poll_seconds=0, waiting=4, batch=1))
        async with app.router.lifespan_context(app), asking(app) as client:
            monkeypatch.setattr(engine_module, "_rank", slowly)
            form = {"plays": {}, "top": 1}
            asked = [asyncio.create_task(client.post("/v1/lists", json=form)) for _ in range(9)]
            await asyncio.sleep(0.3)
            assert (await client.get("/v1/health")).status_code == 200  # it does not wait
            held.set()
            found = await asyncio.gather(*asked)
        statuses = sorted(each.status_code for each in found)
        assert statuses.count(200) >= 4
        assert statuses.count(503) == 9 - statuses.count(200) > 0
        refused = next(each for each in found if each.status_code == 503)
        assert refused.headers["retry-after"] == "1"
        assert "wait to be ranked" in refused.json()["detail"]

    asyncio.run(ask())


def test_a_newer_result_is_taken_over_under_load(small, places, tmp_path) -> None:
    place = Path(shutil.copytree(places["genre"], tmp_path / "w"))
    old = Recommender.open(place)
    mine = next(iter(users_plays(old).values()))
    form = {"plays": mine, "top": 5}

    def newer() -> None:
        with without_ray():
            run(load(small, place, recommend__weighting="log", train__epochs=6))

    async def ask() -> list[dict]:
        found: list[dict] = []
        app = create_app(Settings(str(place), poll_seconds=0.05))
        async with app.router.lifespan_context(app), asking(app) as client:
            stop = asyncio.Event()

            async def one() -> None:
                while not stop.is_set():
                    answer = await client.post("/v1/lists", json=form)
                    assert answer.status_code == 200, answer.text
                    found.append(answer.json())

            load_of_it = [asyncio.create_task(one()) for _ in range(4)]
            first = (await client.get("/v1/health")).json()["result"]
            await asyncio.to_thread(newer)
            for _ in range(600):
                if (await client.get("/v1/health")).json()["result"] != first:
                    break
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.2)
            stop.set()
            await asyncio.gather(*load_of_it)
            text = (await client.get("/metrics")).text
        assert "fusionrec_serve_takeovers_total 0.0" not in text
        return found

    answers = asyncio.run(ask())
    new = Recommender.open(place)
    expected = {}
    for each in (old, new):
        (row,) = each.recommend({"me": mine}, top=5).to_pylist()
        expected[each.workspace.key("train")] = (row["song_ids"], row["scores"])
    assert len(expected) == 2
    seen = [answer["result"] for answer in answers]
    assert seen == sorted(seen, key=[*expected].index)  # the old one first, then the new one
    assert set(seen) == set(expected)
    for answer in answers:
        songs = [song["song_id"] for song in answer["songs"]]
        scores = [song["score"] for song in answer["songs"]]
        assert (songs, scores) == expected[answer["result"]]


def test_a_result_that_cannot_be_read_is_not_taken_over(places, monkeypatch, caplog) -> None:
    with client_of(Settings(str(places["genre"]), poll_seconds=0.05)) as client:
        before = client.get("/v1/health").json()
        tried = threading.Event()

        def damaged(*arguments):
            tried.set()
            raise OSError("part-00000 is cut short")

        monkeypatch.setattr(engine_module, "served_keys", lambda *_: {"train": "another"})
        monkeypatch.setattr(engine_module, "Snapshot", damaged)
        assert tried.wait(20)
        for _ in range(200):
            text = client.get("/metrics").text
            if "failed_takeovers_total 1.0" in text:
                break
        assert "failed_takeovers_total 1.0" in text
        assert client.get("/v1/health").json() == {**before, "takeover": "failed"}
        assert client.post("/v1/lists", json={"plays": {}}).status_code == 200
    assert "part-00000 is cut short" in caplog.text


@pytest.mark.parametrize("similar_gb", [0.0, 4.0])
def test_songs_like_one_by_files_are_those_by_memory(places, similar_gb) -> None:
    recommender = Recommender.open(places["blend"])
    song = recommender.vectors()["song_id"][2].as_py()
    expected = recommender.similar(song, 5)
    with client_of(Settings(str(places["blend"]), poll_seconds=0, similar_gb=similar_gb)) as client:
        found = client.get("/v1/similar", params={"song_id": song, "top": 5}).json()["songs"]
        assert client.get("/v1/similar", params={"song_id": "x"}).status_code == 404
    assert [each["score"] for each in found] == pytest.approx(
        expected["score"].to_pylist(), rel=1e-4, abs=1e-5
    )


def test_a_damaged_result_leaves_the_one_before(small, places, tmp_path, caplog) -> None:
    place = Path(shutil.copytree(places["genre"], tmp_path / "w"))
    newer = Path(shutil.copytree(place, tmp_path / "newer"))
    with without_ray():
        run(load(small, newer, recommend__weighting="log", train__epochs=7))
    key = Recommender.open(newer).workspace.key("train")
    for file in newer.glob(f"train/{key}/song_vectors/*.parquet"):
        file.write_bytes(file.read_bytes()[:100])
    with client_of(Settings(str(place), poll_seconds=0.05)) as client:
        before = client.get("/v1/health").json()
        pointer = "current.json"  # last, as a run does it
        shutil.copytree(newer, place, dirs_exist_ok=True, ignore=lambda *_: {pointer})
        shutil.copyfile(newer / pointer, place / pointer)
        for _ in range(600):
            health = client.get("/v1/health").json()
            if health["takeover"] == "failed":
                break
            time.sleep(0.05)
        assert health == {**before, "takeover": "failed"}
        assert client.post("/v1/lists", json={"plays": {}}).status_code == 200
        assert "fusionrec_serve_failed_takeovers_total 0.0" not in client.get("/metrics").text
    assert "is served on" in caplog.text


def test_a_workspace_that_is_removed_is_served_from_memory(places, tmp_path) -> None:
    place = Path(shutil.copytree(places["genre"], tmp_path / "w"))
    user, plays = next(iter(users_plays(Recommender.open(place)).items()))
    with client_of(Settings(str(place), poll_seconds=0)) as client:
        expected = client.post("/v1/lists", json={"plays": plays}).json()
        song = expected["songs"][0]["song_id"]
        shutil.rmtree(place)
        assert client.post("/v1/lists", json={"plays": plays}).json() == expected
        for path in (f"/v1/similar?song_id={song}", f"/v1/song?song_id={song}", "/v1/search?q=a"):
            assert client.get(path).status_code == 200, path
        stored = client.get("/v1/lists", params={"user_id": user})
        assert stored.status_code == 503
        assert stored.headers["retry-after"] == "1"
        assert str(tmp_path) not in stored.text
