"""`fusionrec recommend`: all lists; or one of a finished workspace, at once and without Ray."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import numpy as np
import pyarrow.compute as pc
import typer
from rich.console import Console
from rich.table import Table

from fusionrec.errors import ConfigError, NotFoundError
from fusionrec.tables import matrix
from pipelines.cli.options import AsJson, ConfigPath, Overrides, loaded
from pipelines.cli.options import Workspace as WorkspaceOption
from pipelines.cli.stages import run_stage
from pipelines.runtime.workspace import Workspace

_NAMES = ("song_id", "artist_name", "title", "release")


@dataclass(frozen=True)
class ListedSong:
    """A song of a list, with its rank from 1."""

    rank: int
    song_id: str
    artist: str
    title: str
    release: str
    score: float


@dataclass(frozen=True)
class UsersList:
    """A user's first songs."""

    title: str
    user_id: str
    songs: list[ListedSong]


@dataclass(frozen=True)
class SimilarSongs:
    """Songs like one song."""

    title: str
    song_id: str
    songs: list[ListedSong]


def recommend(
    config_path: ConfigPath = None,
    overrides: Overrides = None,
    workspace: WorkspaceOption = None,
    user: Annotated[
        str | None, typer.Option("--user", help="Print this user's list from a finished workspace.")
    ] = None,
    like: Annotated[
        str | None,
        typer.Option("--like", help='Print songs like this one: "artist - title".'),
    ] = None,
    top: Annotated[int, typer.Option("--top", "-n", min=1, help="Songs to print.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Rank every user's top 500. With --user or --like, print one list, without Ray."""
    resolved = loaded(config_path, overrides, workspace)
    if user is None and like is None:
        run_stage("recommend", resolved, as_json)
        return
    if user is not None and like is not None:
        raise ConfigError("--user and --like: give one of them, not both")
    found: UsersList | SimilarSongs
    if user is not None:
        found = for_user(resolved.workspace, user, top)
    else:
        assert like is not None
        found = similar_to(resolved.workspace, like, top)
    if as_json:
        print(json.dumps(asdict(found)))
        return
    table = Table(title=found.title, title_justify="left")
    for column in ("", "artist", "title", "release", "score"):
        table.add_column(column, justify="right" if column in ("", "score") else "left")
    for song in found.songs:
        table.add_row(str(song.rank), song.artist, song.title, song.release, f"{song.score:.3f}")
    Console().print(table)


def for_user(uri: str, user: str, top: int) -> UsersList:
    """The first `top` songs of a user's list.

    Raises
    ------
    NotFoundError
        If the workspace has no list for this user.
    WorkspaceError
        If the workspace has no finished `recommend` stage.
    """
    workspace = Workspace(uri).of("recommend")
    for name in workspace.parts("recommend", "recommendations"):
        rows = workspace.read_part(
            "recommend",
            "recommendations",
            name,
            ["song_ids", "scores"],
            filters=[("user_id", "=", user)],
        )
        if rows.num_rows:
            songs, scores = rows["song_ids"][0].as_py()[:top], rows["scores"][0].as_py()[:top]
            return UsersList(f"For user {user}", user, _named(workspace, songs, scores))
    raise NotFoundError(
        f"--user {user}: no such user among the recommendations in {uri}; user ids are those of "
        "the triplets file, and users without a test song have no list"
    )


def similar_to(uri: str, text: str, top: int) -> SimilarSongs:
    """The songs whose class probabilities have the largest product with those of one song.

    Raises
    ------
    NotFoundError
        If no song, or no song with features, has that artist and title.
    WorkspaceError
        If the workspace has no finished `train` stage.
    """
    workspace = Workspace(uri).of("train")
    artist, separator, title = text.partition(" - ")
    if not separator:
        raise NotFoundError(f'--like {text!r}: write it as "artist - title"')
    songs = workspace.read("ingest", "songs", list(_NAMES))
    found = songs.filter(
        pc.and_(_equal(songs["artist_name"], artist), _equal(songs["title"], title))
    )
    if found.num_rows == 0:
        raise NotFoundError(f"--like {text!r}: no such song in {uri}{_hint(songs, artist, title)}")
    table = workspace.read("train", "song_vectors", ["song_id", "probabilities"])
    probabilities = matrix(table["probabilities"])
    where = pc.index_in(found["song_id"][:1], value_set=table["song_id"].combine_chunks())[
        0
    ].as_py()
    if where is None:
        raise NotFoundError(f"--like {text!r}: this song has no features, so it cannot be ranked")
    scores = probabilities @ probabilities[where]
    scores[where] = -np.inf
    best = np.argsort(-scores, kind="stable")[: min(top, len(scores) - 1)]
    return SimilarSongs(
        f"Like {found['artist_name'][0]} - {found['title'][0]}",
        found["song_id"][0].as_py(),
        _named(workspace, table["song_id"].take(best).to_pylist(), scores[best].tolist()),
    )


def _named(workspace: Workspace, ids: list[str], scores: list[float]) -> list[ListedSong]:
    songs = workspace.read("ingest", "songs", list(_NAMES), filters=[("song_id", "in", ids)])
    names = {row["song_id"]: row for row in songs.to_pylist()}
    return [
        ListedSong(
            rank,
            song,
            names[song]["artist_name"] or "",
            names[song]["title"] or "",
            names[song]["release"] or "",
            float(score),
        )
        for rank, (song, score) in enumerate(zip(ids, scores, strict=True), 1)
    ]


def _equal(column: Any, text: str) -> Any:
    return pc.fill_null(pc.equal(pc.utf8_lower(column), text.strip().lower()), False)


def _hint(songs: Any, artist: str, title: str) -> str:
    for name, value in (("artist_name", artist), ("title", title)):
        near = songs.filter(_equal(songs[name], value))
        if near.num_rows:
            row = near.slice(0, 1).to_pylist()[0]
            return f'; did you mean "{row["artist_name"]} - {row["title"]}"?'
    return ""
