"""What the page shows beside lists: classes, mixtures, reasons of many, the map, reports."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import numpy as np
import pyarrow.compute as pc
from fastapi import Body, FastAPI, Query
from fastapi.exceptions import RequestValidationError
from starlette.responses import Response

from fusionrec.errors import NotFoundError
from pipelines.opened.asked import Asked
from pipelines.opened.explained import reasons
from pipelines.opened.reasons import Reason
from pipelines.opened.stored import Stored
from pipelines.serve import page_forms as forms
from pipelines.serve import reports
from pipelines.serve.engine import Engine
from pipelines.serve.genres import NO_CLASSES, NO_MIXTURES, history
from pipelines.serve.settings import Settings
from pipelines.serve.shown import Pages, Shown
from pipelines.serve.snapshot import Snapshot

Problems = Callable[..., dict[int | str, dict[str, Any]]]

TELL_NOTHING = (
    "body.plays: the model knows nothing of these plays, so that a list is that of anybody, and "
    "has no reasons"
)
"""Of well-formed plays, so that it is a 404, as of a song without a vector."""

_PROJECTED = {
    "genre": "centred log ratios of the songs' class probabilities",
    "network": "the network's vectors of the songs",
    "blend": "the blend's vectors of the songs",
}


def add_pages(app: FastAPI, engine: Engine, settings: Settings, problems: Problems) -> Pages:
    """Have an application answer what the page asks for."""
    pages = Pages(engine, settings.seconds)
    app.state.pages = pages
    _add_genres(app, engine, pages, settings, problems)
    _add_map(app, pages, problems)
    _add_reports(app, pages, problems)
    return pages


def _add_genres(
    app: FastAPI, engine: Engine, pages: Pages, settings: Settings, problems: Problems
) -> None:
    async def stored_of(user_id: str, plays: Mapping[str, int]) -> tuple[Snapshot, Stored, bool]:
        """By which result, what a list is made of, and whether the model knows nothing of it."""
        if user_id:
            return await engine.read(lambda s: (s, s.user_stored(user_id), False))
        _check("body", "plays", len(plays), settings.most_plays)
        snapshot, listed = await engine.list(Asked(plays, 1))
        return snapshot, listed.stored, listed.fallback

    @app.get("/v1/users", response_model=forms.UserIds, responses=problems(422, 503))
    async def users(query: Annotated[forms.UsersQuery, Query()]) -> Response:
        """Users who have a stored list, by the beginning of their ids."""
        _check("query", "top", query.top, settings.most_songs)

        def read(shown: Shown) -> Response:
            found = shown.users
            if query.q:
                found = found.filter(pc.starts_with(found, query.q))
            return _answer(shown.snapshot, users=found.slice(0, query.top).to_pylist())

        return await pages.make(read, "users")

    @app.get("/v1/history", response_model=forms.History, responses=problems(404, 422, 503))
    async def played(query: Annotated[forms.HistoryQuery, Query()]) -> Response:
        """The songs that a user's stored list was made of, most played first."""
        _check("query", "top", query.top, settings.most_songs)

        def read(snapshot: Snapshot) -> Response:
            songs, plays = history(snapshot.user_stored(query.user_id))
            best = np.argsort(-plays, kind="stable")[: query.top]
            rows = songs[best].tolist()
            named = zip(snapshot.numbered(rows), plays[best].tolist(), strict=True)
            return _answer(
                snapshot,
                user_id=query.user_id,
                songs=len(songs),
                played=[{**song, "plays": n} for song, n in named],
            )

        return await engine.read(read)

    @app.get("/v1/classes", response_model=forms.GenreList, responses=problems(503))
    async def classes() -> Response:
        """The classes of songs, by the tags that are typical of them."""

        def read(shown: Shown) -> Response:
            found = shown.genres
            each = [
                {"number": number, "tags": tags, "songs": songs}
                for number, (tags, songs) in enumerate(zip(found.tags, found.sizes, strict=True))
            ]
            return _answer(shown.snapshot, classes=each, says=None if each else NO_CLASSES)

        return await pages.make(read, "genres")

    @app.post("/v1/mixtures", response_model=forms.Mixtures, responses=problems(400, 404, 422, 503))
    async def mixtures(form: Annotated[forms.MixturesForm, Body()]) -> Response:
        """How songs, and a history, are mixed of the classes."""
        snapshot, stored = engine.snapshot, None
        if form.model_fields_set & {"user_id", "plays"}:
            snapshot, stored, _ = await stored_of(form.user_id, form.plays)
        rows = np.array([snapshot.row(song) for song in form.song_ids], np.int64)

        def read(shown: Shown) -> Response:
            found = shown.genres
            weighting = snapshot.batches.ranked.weighting
            return _answer(
                snapshot,
                classes=len(found.tags),
                songs=found.of_songs(rows),
                user=None if stored is None else found.of_user(stored, weighting),
                says=NO_MIXTURES if found.mixtures is None else None,
            )

        return await pages.make(read, "genres", of=snapshot)

    @app.post("/v1/reasons", response_model=forms.Reasons, responses=problems(400, 404, 422, 503))
    async def many_reasons(form: Annotated[forms.ReasonsForm, Body()]) -> Response:
        """What the scores of some songs are made of, for a user, for plays, or beside one song.

        Where the model knows nothing of the plays there are no reasons: 404, as of `/v1/why`.
        """
        if form.like:
            snapshot, stored = await engine.read(lambda s: (s, s.song_stored(form.like)))
        else:
            snapshot, stored, fallback = await stored_of(form.user_id, form.plays)
            if fallback:
                raise NotFoundError(TELL_NOTHING)
        rows = [snapshot.row(song) for song in form.song_ids]

        def read(_: Snapshot) -> Response:
            known = [at for at, row in enumerate(rows) if snapshot.batches.known[row]]
            found: list[dict[str, Any] | None] = [None] * len(rows)
            ids = [form.song_ids[at] for at in known]
            ranked = snapshot.batches.ranked
            if known:
                made = reasons(ranked, stored, ids, [rows[at] for at in known])
                for at, each in zip(known, made, strict=True):
                    found[at] = _reason(snapshot, form.song_ids[at], each)
            return _answer(snapshot, reasons=found)

        return await engine.read(read)


def _add_map(app: FastAPI, pages: Pages, problems: Problems) -> None:
    @app.get("/v1/map", response_model=forms.MapAbout, responses=problems(503))
    async def about() -> Response:
        """The catalogue as a map: what it is of.

        It is made when the page, or this, is first asked for. Until it is there, 503 with
        `Retry-After`, and the problem's `type` is `urn:fusionrec:being-made`.
        """

        def read(shown: Shown) -> Response:
            found, snapshot = shown.map, shown.snapshot
            return _answer(
                snapshot,
                points=len(found.rows),
                songs=found.songs,
                catalogue=snapshot.songs,
                explained=list(found.explained),
                projected=_PROJECTED[snapshot.model],
            )

        return await pages.make(read, "map")

    binary: dict[int | str, dict[str, Any]] = {
        200: {
            "content": {"application/octet-stream": {}},
            "description": "Little-endian, of P points: P pairs of float32 (places within [-1, 1]),"
            " P uint32 (numbers of songs), P uint8 (classes, 255 for none). The header "
            "`Fusionrec-Result` has the key of the result that they are of.",
        }
    }

    @app.get("/v1/map/points", response_class=Response, responses={**problems(503), **binary})
    async def points() -> Response:
        """The points of the map."""

        def read(shown: Shown) -> Response:
            return Response(
                shown.map.content,
                media_type="application/octet-stream",
                headers={"Fusionrec-Result": shown.snapshot.result},
            )

        return await pages.make(read, "map")

    @app.get("/v1/map/song", response_model=forms.PointSong, responses=problems(404, 422, 503))
    async def song(query: Annotated[forms.PointQuery, Query()]) -> Response:
        """The song of a point."""

        def read(shown: Shown) -> Response:
            snapshot = shown.snapshot
            if query.result != snapshot.result or query.number >= snapshot.batches.songs:
                raise NotFoundError("the map is of another result by now: load it again")
            (named,) = snapshot.numbered([query.number])
            return _answer(snapshot, song=named)

        return await pages.make(read)

    @app.post("/v1/map/places", response_model=forms.Places, responses=problems(400, 404, 422, 503))
    async def places(form: Annotated[forms.SongsForm, Body()]) -> Response:
        """Where songs lie on the map, also those that a sample leaves out."""

        def read(shown: Shown) -> Response:
            snapshot, found = shown.snapshot, []
            for row in [snapshot.row(each) for each in form.song_ids]:
                place, genre = shown.map.place(snapshot, row), int(shown.genres.of_song[row])
                found.append(
                    None
                    if place is None
                    else {"x": place[0], "y": place[1], "genre": None if genre < 0 else genre}
                )
            return _answer(snapshot, places=found)

        return await pages.make(read, "map")


def _add_reports(app: FastAPI, pages: Pages, problems: Problems) -> None:
    def uri(shown: Shown) -> str:
        return shown.snapshot.recommender.workspace.uri

    @app.get("/v1/comparison", response_model=forms.Comparison, responses=problems(503))
    async def comparison() -> Response:
        """The comparison of methods that the workspace has."""
        return await pages.make(lambda shown: _json(reports.comparison(uri(shown))))

    @app.get("/v1/ladder", response_model=forms.Ladder, responses=problems(503))
    async def ladder() -> Response:
        """The ladder of methods that the workspace has."""
        return await pages.make(lambda shown: _json(reports.ladder(uri(shown))))

    @app.get("/v1/report", response_model=forms.RunReport, responses=problems(503))
    async def report() -> Response:
        """What the run that is served read, and what it left out."""
        return await pages.make(lambda shown: _answer(shown.snapshot, **shown.report), "report")


def _reason(snapshot: Snapshot, song_id: str, reason: Reason) -> dict[str, Any]:
    named = snapshot.named([song for song, _ in reason.songs])
    heard = [{**song, "share": share} for song, (_, share) in zip(named, reason.songs, strict=True)]
    return {
        "song_id": song_id,
        "score": reason.score,
        "signals": reason.signals,
        "modalities": reason.modalities,
        "kinds": reason.kinds,
        "songs": heard,
    }


def _check(where: str, name: str, given: int, most: int) -> None:
    if given > most:
        what = {"type": "too_many", "loc": (where, name), "msg": f"is {given}: at most {most}"}
        raise RequestValidationError([what])


def _answer(snapshot: Snapshot, **content: Any) -> Response:
    return _json({"model": snapshot.model, "result": snapshot.result, **content})


def _json(content: Mapping[str, Any]) -> Response:
    return Response(json.dumps(content), media_type="application/json")
