"""`fusionrec recommend`: all lists; or one of a finished workspace, at once and without Ray."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.compute as pc
import typer
from rich.table import Table

from fusionrec.errors import ConfigError, NotFoundError
from pipelines.cli.options import AsJson, ConfigPath, Overrides, console, loaded
from pipelines.cli.options import Workspace as WorkspaceOption
from pipelines.cli.stages import run_stage
from pipelines.cli.user_lists import SAYS, no_list, no_song, stage_of
from pipelines.cli.why import Why, lines_of, named
from pipelines.opened.catalogue import Catalogue, list_of, user_code
from pipelines.opened.stored import (
    Stored,
    lists_shown,
    model_of,
    most_like,
    of_everyone,
    of_user,
    seen_by,
    stage_shown,
)
from pipelines.opened.updates import songs_added
from pipelines.runtime.workspace import Workspace


@dataclass(frozen=True)
class ListedSong:
    """A row of a list; `score` is what it is sorted by, `match` the same from 0 to 1."""

    rank: int
    artist: str
    title: str
    release: str
    match: float
    score: float
    song_id: str
    why: Why | None = None


@dataclass(frozen=True)
class SongList:
    """A list for a user or beside a song; `match` says what its songs' `match` is."""

    title: str
    id: str
    match: str
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
    why: Annotated[
        bool,
        typer.Option(
            "--why", help="With --user or --like: what each score is made of, and which songs."
        ),
    ] = False,
    whose: Annotated[
        str | None,
        typer.Option(
            "--for",
            help="everyone: lists for all users, by all plays (`lists.*`); evaluation: those that "
            "are graded, by `recommend.*` (without --user the default). With --user, which of "
            "both it is to be of.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Rank lists; with --user or --like, print one, without Ray."""
    stage = None if whose is None else stage_of(whose)
    resolved = loaded(config_path, overrides, workspace)
    if user is None and like is None:
        if why:
            raise ConfigError("--why explains a list: give --user or --like with it")
        run_stage(stage or "recommend", resolved, as_json)
        return
    if like is not None and stage is not None:
        raise ConfigError("--for says whose lists are made or shown: leave it out with --like")
    if user is not None and like is not None:
        raise ConfigError("--user and --like: give one of them, not both")
    if user is not None:
        found = for_user(resolved.workspace, user, top, why, stage)
    else:
        assert like is not None
        found = similar_to(resolved.workspace, like, top, why)
    if as_json:
        print(json.dumps(asdict(found)))
        return
    console().print(list_table(found))
    for song in found.songs:
        if song.why is not None:
            heading = f"\n{song.rank}  {song.artist} - {song.title}  score {song.score:+.3f}"
            console().print(heading, highlight=False)
            console().print("\n".join(lines_of(song.why)), highlight=False)


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


def for_user(
    uri: str, user: str, top: int, why: bool = False, stage: str | None = None
) -> SongList:
    """The first `top` songs of a user's list.

    Parameters
    ----------
    why
        Also what each score is made of.
    stage
        `lists`, or `recommend`; if not given, lists for everyone where they are of what is current.

    Raises
    ------
    NotFoundError
        If there is no such user, or none with a list or a song on it.
    WorkspaceError
        If the workspace has no such finished stage.
    """
    stage = stage or stage_shown(Workspace(uri))
    workspace = Workspace(uri)
    workspace = lists_shown(workspace) if stage == "lists" else workspace.of(stage)
    code = user_code(workspace, user)
    if code >= 0:
        row = list_of(workspace, code, ["song_ids", "scores"], stage)
        if row.num_rows:
            songs, scores = row["song_ids"][0].as_py()[:top], row["scores"][0].as_py()[:top]
            if not songs:
                raise no_song(workspace, user, stage)
            stored = (of_everyone if stage == "lists" else of_user)(workspace, code)
            title = f"For user {user}: {SAYS[stage]}"
            return _listed(workspace, title, user, stored, songs, scores, why)
    raise no_list(workspace, user, code)


def similar_to(uri: str, text: str, top: int, why: bool = False) -> SongList:
    """The songs that are best for whoever played one song, by what the workspace ranks by.

    By class probabilities these are the songs whose probabilities have the largest product with
    its own; by a blend, all signals have a say but popularity and those whose users are no sums
    over histories; by a network trained on taste, the songs for a user who played it alone, but for
    what makes a song one for everybody.

    Raises
    ------
    NotFoundError
        If no song, or no song with features, has that artist and title.
    WorkspaceError
        If the workspace has no finished `train` stage, where it does not rank by a blend.
    """
    model = model_of(Workspace(uri))
    workspace = seen_by(Workspace(uri), model)
    artist, separator, title = text.partition(" - ")
    if not separator:
        raise NotFoundError(f'--like {text!r}: write it as "artist - title"')
    columns = ["song_id", "artist_name", "title"]
    old, new = workspace.read("ingest", "songs", columns), songs_added(workspace, columns)
    songs = pa.concat_tables([old, new])
    found = songs.filter(
        pc.and_(_equal(songs["artist_name"], artist), _equal(songs["title"], title))
    )
    if found.num_rows == 0:
        raise NotFoundError(f"--like {text!r}: no such song in {uri}{_hint(songs, artist, title)}")
    song_id = found["song_id"][0].as_py()
    like = most_like(workspace, song_id, model, top)
    if like is None:
        raise NotFoundError(f"--like {text!r}: this song has no features, so it cannot be ranked")
    title = f"Like {found['artist_name'][0]} - {found['title'][0]}"
    return _listed(workspace, title, song_id, like[0], like[1], like[2], why)


def _listed(
    workspace: Workspace,
    title: str,
    of: str,
    stored: Stored,
    ids: list[str],
    scores: list[float],
    why: bool,
) -> SongList:
    matches, says = stored.match(scores)
    reasons = stored.reasons(ids, scores) if why else []
    heard = {song for reason in reasons for song, _ in reason.songs}
    names = Catalogue(workspace).names([*{*ids, *heard}])
    songs = [
        ListedSong(
            rank,
            names[song].artist,
            names[song].title,
            names[song].release,
            match,
            score,
            song,
            named(reasons[rank - 1], names) if why else None,
        )
        for rank, (song, score, match) in enumerate(zip(ids, scores, matches, strict=True), 1)
    ]
    return SongList(title, of, says, songs)


def _equal(column: Any, text: str) -> Any:
    return pc.fill_null(pc.equal(pc.utf8_lower(column), text.strip().lower()), False)


def _hint(songs: Any, artist: str, title: str) -> str:
    for name, value in (("artist_name", artist), ("title", title)):
        near = songs.filter(_equal(songs[name], value))
        if near.num_rows:
            row = near.slice(0, 1).to_pylist()[0]
            return f'; did you mean "{row["artist_name"]} - {row["title"]}"?'
    return ""
