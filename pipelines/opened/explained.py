"""Why a song has its score, for a user of the workspace or for any plays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fusionrec.errors import ConfigError, NotFoundError
from fusionrec.ranking.topk import rank_users
from pipelines.opened import stored
from pipelines.opened.blended import Blended
from pipelines.opened.catalogue import list_of, user_code
from pipelines.opened.lists import played
from pipelines.opened.networked import Networked
from pipelines.opened.plays import GivenPlays
from pipelines.opened.ranked import VECTORS, Ranked
from pipelines.opened.reasons import Reason
from pipelines.opened.stored import Classes, Listened, Stored
from pipelines.runtime.workspace import Workspace


def reason(ranked: Ranked, found: Stored, song_id: str, row: int) -> Reason:
    """Of a song that has a vector, by its id and number."""
    return reasons(ranked, found, [song_id], [row])[0]


def reasons(
    ranked: Ranked, found: Stored, song_ids: Sequence[str], rows: Sequence[int]
) -> list[Reason]:
    """Of some songs that have vectors, by their ids and numbers."""
    scores = [0.0] * len(rows)  # those of classes and of a network are made of their parts
    if isinstance(found, Listened):
        scores = [float(ranked.listeners[row]) for row in rows]
    elif isinstance(found, Blended):
        v = found.v
        if v is not None:
            F = ranked.songs.F
            scores = [float(rank_users(v[None], F[row][None], 1).scores[0, 0]) for row in rows]
        elif not found.of_a_user:
            scores = found.scores_of(rows)
    return found.reasons([*song_ids], scores)


def of_user(ranked: Ranked, user: str) -> Stored:
    """The model of a user of the workspace, by the lists that `--why` explains."""
    base = Workspace(ranked.workspace.uri)
    stage = stored.stage_shown(base)
    seen = stored.lists_shown(base) if stage == "lists" else base.of(stage)
    learned = VECTORS[ranked.model][0]
    key = ranked.workspace.key(learned)
    if base.require(stage)["lineage"].get(learned) != key:
        raise ConfigError(
            f"explain: the lists of {base.uri} are of another model than {ranked.model!r}, which "
            "is opened: open the workspace without `model`, or give the plays instead of the id"
        )
    code = user_code(seen, user)
    if code < 0 or not list_of(seen, code, ["user"], stage).num_rows:
        what = "no such user" if code < 0 else "this user has no list"
        raise NotFoundError(
            f"user {user}: {what} in {base.uri}; give what the user played, {{song: plays}}"
        )
    return (stored.of_everyone if stage == "lists" else stored.of_user)(seen, code)


def of_plays(ranked: Ranked, plays: Mapping[str, int]) -> Stored:
    """The model of somebody who played that, and is no user of the workspace."""
    given = GivenPlays.of({"somebody": plays})
    own, other, _ = played(ranked, given)
    nobody = np.array([-1])
    made = ranked.users(own, other, nobody)
    if not made.own[0]:
        raise NotFoundError(
            "explain: the model knows nothing of these plays, so that a list is that of anybody"
        )
    workspace = ranked.workspace
    if ranked.model == "blend":
        history = np.concatenate([own.songs, other.songs + len(ranked.songs.ids)])
        counts = np.concatenate([own.plays, other.plays])
        told = ranked.told(own, other, nobody)[0]
        return Blended.of_plays(workspace, history, counts, told, made.V[0])
    profile = own.where(ranked.says[own.songs])
    if ranked.model == "network":
        about = workspace.read_json("train", "users", "about.json")
        return Networked(workspace, profile.songs, profile.plays, about)
    return Classes(workspace, profile, ranked.weighting, None)
