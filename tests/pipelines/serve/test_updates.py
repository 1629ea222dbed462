"""An update is taken over by a running service: its songs, its users and their lists."""

from __future__ import annotations

import asyncio

import pytest

from pipelines import lists, update
from pipelines.cli.recommend import for_user
from pipelines.opened import Recommender
from pipelines.run import stages
from pipelines.serve.app import create_app
from pipelines.serve.settings import Settings
from tests.pipelines.inline import without_ray
from tests.pipelines.serve.test_engine import asking
from tests.pipelines.update.late import MODELS, Late, load

SLOW = ("ranking", "blend")


@pytest.mark.parametrize(
    "model", ["genre", *(pytest.param(m, marks=pytest.mark.slow) for m in SLOW)]
)
def test_an_update_is_taken_over(model, tmp_path) -> None:
    late, tables, place = Late.of(tmp_path / "sample"), tmp_path / "tables", tmp_path / "w"
    late.write(tables, "1", late=False)
    more = {"model": model} if model in MODELS else {"recommend__model": "blend"}
    config = load(tables, place, **more)
    with without_ray():
        for stage in stages(config):
            if stage.name == "recommend":
                break
            stage.run(config)
        lists.STAGE.run(config)
    song = next(row for row in late.songs[1] if row[0] in late.vectors and row[1] and row[2])
    newcomers = {row[0] for row in late.plays[1]} - {row[0] for row in late.plays[0]}

    def updated() -> None:
        late.write(tables, "2", late=True)
        with without_ray():
            update.STAGE.run(config)

    async def ask() -> None:
        app = create_app(Settings(str(place), poll_seconds=0.05))
        async with app.router.lifespan_context(app), asking(app) as client:

            async def got(path: str, **params: object) -> dict:
                answer = await client.get(path, params=params)
                assert answer.status_code == 200, answer.text
                return answer.json()

            before = await got("/v1/health")
            old_map = (await got("/v1/map"))["result"]
            new = {"song_id": song[0]}
            assert (await client.get("/v1/song", params=new)).status_code == 404
            user = min(newcomers)
            assert (await client.get("/v1/lists", params={"user_id": user})).status_code == 404
            await asyncio.to_thread(updated)
            for _ in range(600):
                health = await got("/v1/health")
                if health["songs"] > before["songs"]:
                    break
                await asyncio.sleep(0.05)
            assert (await got("/v1/map"))["result"] not in (None, old_map)
            stale = await client.get("/v1/map/song", params={"number": 0, "result": old_map})
            assert stale.status_code == 404
            added = {row[0] for row in late.songs[1]}
            assert health["songs"] == before["songs"] + len(added)
            named = await got("/v1/song", **new)
            assert (named["artist"], named["title"]) == (song[1], song[2])
            found = await got("/v1/search", artist=song[1], title=song[2], top=200)
            assert named in found["songs"]
            seen = set()
            for each in sorted(newcomers):
                stored = await got("/v1/lists", user_id=each, top=30)
                expected = for_user(str(place), each, 30).songs
                for mine, theirs in zip(stored["songs"], expected, strict=True):
                    for name in ("rank", "song_id", "artist", "title", "release", "score"):
                        assert mine[name] == getattr(theirs, name), name
                    seen.add(mine["song_id"])
            assert seen & added
            recommender = Recommender.open(place)
            known = next(row[1] for row in late.plays[0] if row[1] in late.vectors)
            plays = {song[0]: 2, known: 1, late.known_before: 1, "SONOWHERE": 1}
            answer = await client.post("/v1/lists", json={"plays": plays, "top": 200})
            (expected,) = recommender.recommend({"me": plays}, top=200).to_pylist()
            listed = answer.json()
            assert [each["song_id"] for each in listed["songs"]] == expected["song_ids"]
            assert [each["score"] for each in listed["songs"]] == expected["scores"]
            for name in ("fallback", "used", "unused", "unknown"):
                assert listed[name] == expected[name], name
            why = {"song_id": song[0], "plays": plays}
            like = await client.get("/v1/similar", params=new)
            reason = await client.post("/v1/why", json=why)
            assert added & {each["song_id"] for each in listed["songs"]}
            assert reason.json()["score"] == recommender.explain(plays, song[0]).score
            near = recommender.similar(song[0], 20)
            scores = [each["score"] for each in like.json()["songs"]]
            assert scores == pytest.approx(near["score"].to_pylist(), rel=1e-4, abs=1e-6)

    asyncio.run(ask())
