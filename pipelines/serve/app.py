"""The service as an ASGI application."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Body, FastAPI, Query
from fastapi.exceptions import RequestValidationError
from starlette.responses import Response

from fusionrec import __version__
from fusionrec.errors import NotFoundError
from pipelines.opened.asked import Asked
from pipelines.opened.reasons import Reason
from pipelines.serve import forms
from pipelines.serve.engine import Engine
from pipelines.serve.guard import Guard
from pipelines.serve.metrics import CONTENT_TYPE, Metrics
from pipelines.serve.page_files import add_page_files
from pipelines.serve.pages import TELL_NOTHING, add_pages
from pipelines.serve.problems import PROBLEM_JSON, answer_problems
from pipelines.serve.settings import Settings
from pipelines.serve.snapshot import Snapshot, listed_songs

_ABOUT = """Lists of songs by a finished fusionrec workspace, exact to the last bit.

Errors are `application/problem+json` (RFC 9457). With a token, every path but `/v1/health` and the
files of the page at `/` needs the header `Authorization: Bearer TOKEN`."""


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What an operation may answer beside what is asked for; any of them what the guard does."""
    guard = (401, 408, 413, 414, 421)
    content = {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        status: {"description": _SAYS[status], "content": content} for status in (*guard, *statuses)
    }


_SAYS = {
    400: "The body is no JSON.",
    401: "The token is missing or wrong.",
    404: "There is no such song or user, or the model knows nothing of it.",
    408: "The request did not arrive in time.",
    413: "The body is too long.",
    414: "The query is too long.",
    421: "This host's name is not served.",
    422: "A field is wrong: `errors` says which.",
    503: "The service has too much to do, or what is asked for is being made: come again.",
}


def create_app(settings: Settings, snapshot: Snapshot | None = None) -> FastAPI:
    """Make the application.

    It reads the workspace when it is started (the lifespan), unless that was read before.
    """
    metrics = Metrics()
    engine = Engine(settings, metrics, snapshot)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await engine.start()
        yield
        await engine.stop()
        pages.stop()

    app = FastAPI(
        title="fusionrec",
        version=__version__,
        description=_ABOUT,
        lifespan=lifespan,
        openapi_url="/v1/openapi.json",
        docs_url=None,  # they would load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.engine = engine
    answer_problems(app)
    _add_lists(app, engine, settings)
    _add_songs(app, engine, settings)
    _add_upkeep(app, engine, metrics)
    pages = add_pages(app, engine, settings, _problems)
    add_page_files(app, pages.begin)
    _describe(app, settings)
    paths = frozenset([*app.openapi()["paths"], "/v1/openapi.json"])
    app.add_middleware(Guard, settings=settings, metrics=metrics, paths=paths)
    return app


def _add_lists(app: FastAPI, engine: Engine, settings: Settings) -> None:
    @app.get("/v1/lists", response_model=forms.UserList, responses=_problems(404, 422, 503))
    async def user_list(query: Annotated[forms.UserQuery, Query()]) -> Response:
        """A user's stored list, as `fusionrec recommend --user` shows it."""
        _check("query", "top", query.top, settings.most_songs)

        def read(snapshot: Snapshot) -> Response:
            found = snapshot.user_list(query.user_id, query.top)
            songs, match = listed_songs(snapshot, found)
            more = {"user_id": query.user_id, "lists": found.stage}
            return _answer(snapshot, match=match, songs=songs, **more)

        return await engine.read(read)

    @app.post("/v1/lists", response_model=forms.MadeList, responses=_problems(400, 422, 503))
    async def made_list(form: Annotated[forms.ListForm, Body()]) -> Response:
        """A list for what somebody played, who need not be a user of the workspace."""
        _check("body", "top", form.top, settings.most_songs)
        _check("body", "plays", len(form.plays), settings.most_plays)
        asked = Asked(
            form.plays, form.top, form.user_id or None, form.candidates, form.exclude_heard
        )
        snapshot, found = await engine.list(asked)
        songs, match = listed_songs(snapshot, found)
        return _answer(
            snapshot,
            match=match,
            songs=songs,
            fallback=found.fallback,
            used=found.used,
            unused=found.unused,
            unknown=found.unknown,
        )

    @app.post("/v1/why", response_model=forms.Why, responses=_problems(400, 404, 422, 503))
    async def why(form: Annotated[forms.WhyForm, Body()]) -> Response:
        """What a song's score is made of, for a user's stored list or for some plays.

        Where the model knows nothing of the plays there are no reasons: 404, as of `/v1/reasons`.
        """
        if form.user_id:
            user = form.user_id
            return await engine.read(
                lambda snapshot: _why(
                    snapshot, form.song_id, snapshot.user_reason(user, form.song_id)
                )
            )
        _check("body", "plays", len(form.plays), settings.most_plays)
        engine.snapshot.row(form.song_id)
        snapshot, listed = await engine.list(Asked(form.plays, 1))
        if listed.fallback:
            raise NotFoundError(TELL_NOTHING)
        return await engine.read(
            lambda _: _why(snapshot, form.song_id, snapshot.batches.explain(listed, form.song_id))
        )


def _add_songs(app: FastAPI, engine: Engine, settings: Settings) -> None:
    @app.get("/v1/song", response_model=forms.Song, responses=_problems(404, 422))
    async def song(query: Annotated[forms.SongQuery, Query()]) -> Response:
        """What a song is called."""
        return _json(engine.snapshot.song(query.song_id))

    @app.get("/v1/similar", response_model=forms.SimilarList, responses=_problems(404, 422, 503))
    async def similar(query: Annotated[forms.SimilarQuery, Query()]) -> Response:
        """The songs that are best for whoever played one song, as `fusionrec recommend --like`."""
        _check("query", "top", query.top, settings.most_songs)
        snapshot, found = await engine.similar(query.song_id, query.top)
        songs, match = listed_songs(snapshot, found)
        return _answer(snapshot, match=match, like=snapshot.song(query.song_id), songs=songs)

    @app.get("/v1/search", response_model=forms.Found, responses=_problems(422, 503))
    async def search(query: Annotated[forms.SearchQuery, Query()]) -> Response:
        """Songs by words of their artists and titles, or the beginnings of words.

        Capital letters and accents do not count. In a word of four letters or more one typing error
        is forgiven, in one of eight or more two (a letter that is missing, one too many, another
        one, or neighbours that have changed places). All songs that fit so are found; those with
        the fewest errors come first, then those of which most words are typed out, then those with
        the most listeners. Where nothing is typed, nothing is found.
        """
        _check("query", "top", query.top, settings.most_songs)
        typed = {"": query.q, "artist": query.artist, "title": query.title}
        wanted = {name: text for name, text in typed.items() if text.strip()}

        def find(snapshot: Snapshot) -> Response:
            rows = snapshot.search.find(wanted, query.top)
            return _answer(snapshot, songs=snapshot.names.of(rows))

        return await engine.read(find)


def _add_upkeep(app: FastAPI, engine: Engine, metrics: Metrics) -> None:
    @app.get("/v1/health", response_model=forms.Health, responses=_problems())
    async def health() -> Response:
        """Whether the service answers, and by which result. It needs no token."""
        snapshot = engine.snapshot
        more = {"status": "ok", "songs": snapshot.songs, "loaded": snapshot.loaded}
        more |= {"results": snapshot.keys}
        return _answer(snapshot, version=__version__, takeover=engine.takeover, **more)

    text: dict[int | str, dict[str, Any]] = {
        200: {"content": {"text/plain": {}}, "description": "Prometheus' text format."}
    }

    @app.get("/metrics", response_class=Response, responses={**_problems(), **text})
    async def counted() -> Response:
        """What this process counts, for Prometheus."""
        return Response(metrics.text(), headers={"Content-Type": CONTENT_TYPE})


def _check(where: str, name: str, given: int, most: int) -> None:
    """Raise for what is more than the service was told to give or take."""
    if given > most:
        what = {"type": "too_many", "loc": (where, name), "msg": f"is {given}: at most {most}"}
        raise RequestValidationError([what])


def _why(snapshot: Snapshot, song_id: str, reason: Reason) -> Response:
    named = snapshot.named([song for song, _ in reason.songs])
    heard = [{**song, "share": share} for song, (_, share) in zip(named, reason.songs, strict=True)]
    parts = {"signals": reason.signals, "modalities": reason.modalities, "kinds": reason.kinds}
    song = snapshot.song(song_id)
    return _answer(snapshot, song=song, score=reason.score, **parts, songs=heard)


def _answer(snapshot: Snapshot, **content: Any) -> Response:
    return _json({"model": snapshot.model, "result": snapshot.result, **content})


def _json(content: Mapping[str, Any]) -> Response:
    return Response(json.dumps(content), media_type="application/json")


def _describe(app: FastAPI, settings: Settings) -> None:
    """Complete the OpenAPI description: limits, problems and the token."""
    described = app.openapi()
    schemas = described["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):  # the framework's own, not sent
        schemas.pop(name, None)
    reference = "#/components/schemas/{model}"
    schemas.update(forms.Problem.model_json_schema(ref_template=reference).pop("$defs"))
    problem = forms.Problem.model_json_schema(ref_template=reference)
    problem.pop("$defs")
    schemas["Problem"] = problem
    for operations in described["paths"].values():
        for operation in operations.values():
            for each in operation.get("parameters", ()):
                if each["name"] == "top":
                    each["schema"]["maximum"] = settings.most_songs
    for form in ("ListForm", "WhyForm", "ReasonsForm", "MixturesForm"):
        properties = schemas[form]["properties"]
        if "top" in properties:
            properties["top"]["maximum"] = settings.most_songs
        properties["plays"]["maxProperties"] = settings.most_plays
    if settings.token:
        described["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        described["security"] = [{"token": []}]
        described["paths"]["/v1/health"]["get"]["security"] = []
