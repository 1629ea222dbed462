"""`fusionrec recommend`: all lists; or one of a finished workspace, at once and without Ray."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import numpy as np
import pyarrow.compute as pc
import typer
from rich.table import Table

from fusionrec.errors import ConfigError, NotFoundError
from fusionrec.ranking.protocols import profiles_and_relevant
from fusionrec.ranking.users import user_vectors
from fusionrec.tables import matrix
from pipelines.cli.options import AsJson, ConfigPath, Overrides, console, loaded
from pipelines.cli.options import Workspace as WorkspaceOption
from pipelines.cli.stages import run_stage
from pipelines.runtime.workspace import Workspace

_MATCH = (
    "how likely one class drawn from {mine} and one drawn from the listed song are the same, "
    "by their class probabilities"
)


@dataclass(frozen=True)
class ListedSong:
    """A row of a list; `score` is what it is sorted by, `match` the same as a probability."""

    rank: int
    artist: str
    title: str
    release: str
    match: float
    score: float
    song_id: str


@dataclass(frozen=True)
class SongList:
    """A list for a user or beside a song; `match` says what its songs' `match` is."""

    title: str
    id: str
    match: str
    songs: list[ListedSong]


_NAMES = ("song_id", "artist_name", "title", "release")


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
    if user is not None:
        found = for_user(resolved.workspace, user, top)
    else:
        assert like is not None
        found = similar_to(resolved.workspace, like, top)
    if as_json:
        print(json.dumps(asdict(found)))
        return
    console().print(list_table(found))


def list_table(found: SongList) -> Table:
    """A list for people, with what its last but one column says below it."""
    table = Table(
        title=found.title,
        title_justify="left",
        caption=f"match: {found.match}",
        caption_justify="left",
    )
    for column in ("", "artist", "title", "match", "release"):
        table.add_column(column, justify="right" if column in ("", "match") else "left")
    for song in found.songs:
        match = f"{song.match:.1%}"
        table.add_row(str(song.rank), song.artist, song.title, match, song.release)
    return table


def for_user(uri: str, user: str, top: int) -> SongList:
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
            whole = mean_weight(workspace, user)
            matches = [min(score / whole, 1.0) for score in scores]
            return SongList(
                f"For user {user}",
                user,
                _MATCH.format(mine="the songs of the user's profile, weighted by plays,"),
                _named(workspace, songs, scores, matches),
            )
    raise NotFoundError(
        f"--user {user}: no such user among the recommendations in {uri}; user ids are those of "
        "the triplets file, and users without a test song have no list"
    )


def mean_weight(workspace: Workspace, user: str) -> float:
    """The mean weight of the songs in a user's profile.

    A user's vector is the weighted sum of songs' class probabilities over their number
    (:func:`fusionrec.ranking.users.user_vectors`), so it adds up to this: divided by it, the
    vector is a distribution over classes, and a score a probability.
    """
    settings = workspace.require("recommend")["content"]["settings"]
    users = workspace.read("ingest", "users")["user_id"]
    code = pc.index(users, user).as_py()
    plays = workspace.read("ingest", "plays", filters=[("user", "=", code)])
    song_ids = workspace.read("ingest", "songs", ["song_id"])["song_id"].combine_chunks()
    ranked = workspace.read("train", "song_vectors", ["song_id"])["song_id"].combine_chunks()
    profile = profiles_and_relevant(
        np.zeros(plays.num_rows, np.int32),
        plays["song"].to_numpy(),
        plays["plays"].to_numpy(),
        part=workspace.read("split", "split", ["part"])["part"].to_numpy(zero_copy_only=False),
        usable=pc.is_in(song_ids, value_set=ranked).to_numpy(zero_copy_only=False),
        protocol=settings["recommend"]["protocol"],
        user_ids=users.slice(code, 1),
        song_ids=song_ids,
        seed=settings["seed"],
    ).profiles
    ones = np.ones((len(song_ids), 1), np.float32)
    weighting = settings["recommend"]["weighting"]
    vector = user_vectors(profile.indptr, profile.songs, profile.plays, ones, weighting)
    return float(vector[0, 0])


def similar_to(uri: str, text: str, top: int) -> SongList:
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
    ids, products = table["song_id"].take(best).to_pylist(), scores[best].tolist()
    return SongList(
        f"Like {found['artist_name'][0]} - {found['title'][0]}",
        found["song_id"][0].as_py(),
        _MATCH.format(mine="this song"),
        _named(workspace, ids, products, products),
    )


def _named(
    workspace: Workspace, ids: list[str], scores: list[float], matches: list[float]
) -> list[ListedSong]:
    songs = workspace.read("ingest", "songs", list(_NAMES), filters=[("song_id", "in", ids)])
    names = {row["song_id"]: row for row in songs.to_pylist()}
    return [
        ListedSong(
            rank,
            names[song]["artist_name"] or "(no artist)",
            names[song]["title"] or f"({song})",
            names[song]["release"] or "",
            match,
            score,
            song,
        )
        for rank, (song, score, match) in enumerate(zip(ids, scores, matches, strict=True), 1)
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
