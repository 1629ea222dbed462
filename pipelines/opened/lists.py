"""Lists of any users, by what a workspace ranks by."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fusionrec import schemas
from fusionrec.ranking.limited import TopLists
from fusionrec.ranking.lists import listed_columns
from fusionrec.ranking.protocols import SongLists
from fusionrec.ranking.topk import rank_users
from pipelines.opened.given import warn_of_unknown
from pipelines.opened.plays import GivenPlays
from pipelines.opened.ranked import Offered, Ranked
from pipelines.runtime.rows import find

RECOMMENDED = pa.schema(
    [
        *(schemas.LISTS.field(name) for name in ("user_id", "song_ids", "scores", "fallback")),
        ("used", pa.int32()),  # songs played that the user's vector is made of
        ("unused", pa.int32()),  # those that the workspace has, but the model knows nothing of
        ("unknown", pa.int32()),  # those that the workspace does not have
    ]
)
"""What :meth:`Recommender.recommend` returns: a row a user, in the order in which they are given.

`fallback` is true of whom the model knows nothing: the list is that of most people."""


def lists_of(
    ranked: Ranked, given: GivenPlays, offered: Offered, top: int, exclude_heard: bool
) -> pa.Table:
    """See :meth:`pipelines.opened.recommender.Recommender.recommend`."""
    own, other, counts = played(ranked, given)
    codes = find(ranked.workspace, "ingest", "user_index", given.users.to_pylist())
    made = ranked.users(own, other, codes)
    V, by_vector = made.V, made.own
    if made.nobody is not None:
        V[~made.own] = made.nobody
        by_vector = np.ones(len(V), bool)
    exclude = _heard(given, offered, exclude_heard)
    found = TopLists.empty(len(V), top)
    rows = np.flatnonzero(by_vector)
    best = rank_users(V[rows], offered.packed, top, exclude=exclude.of(by_vector))
    found.put(rows, TopLists.of(best))
    rows = np.flatnonzero(~by_vector)
    if len(rows):
        ones = np.ones((len(rows), 1), np.float32)
        best = rank_users(ones, offered.listeners(), top, exclude=exclude.of(~by_vector))
        found.put(rows, TopLists.of(best))
    every = np.arange(len(offered.ids))
    songs, scores = listed_columns(found.indices, found.scores, found.counts, every, offered.ids)
    told = (pa.array(counts[name], pa.int32()) for name in ("used", "unused", "unknown"))
    columns = [given.users, songs, scores, pa.array(~made.own), *told]
    return pa.Table.from_arrays(columns, schema=RECOMMENDED)


def played(
    ranked: Ranked, given: GivenPlays
) -> tuple[SongLists, SongLists, dict[str, NDArray[np.int64]]]:
    """What each user played of the catalogue, and outside it; and how many songs are of what use.

    The latter under `used`, `unused` and `unknown`, as of :data:`RECOMMENDED`.
    """
    users, songs = len(given.users), len(ranked.songs.ids)
    numbers = ranked.catalogue.rows(given.songs.to_pylist())
    number = numbers[given.song]
    own = (number >= 0) & (number < songs)
    own[own] = ranked.in_histories[number[own]]
    other = (number >= songs) & (number < songs + ranked.others)
    lists = [
        SongLists.of_plays(
            given.user[rows].astype(np.int32),
            (number[rows] - first).astype(np.int32),
            given.plays[rows].astype(np.int32),
            users,
        )
        for rows, first in ((own, 0), (other, songs))
    ]
    known, says = numbers >= 0, ranked.says
    useful = known & (numbers < len(says))
    useful[useful] = says[numbers[useful]]
    user, song = np.unique(np.stack([given.user, given.song]), axis=1)
    counts = {
        name: np.bincount(user[of[song]], minlength=users)
        for name, of in (("used", useful), ("unused", known & ~useful), ("unknown", ~known))
    }
    warn_of_unknown("the plays", given.songs.filter(pa.array(~known)), ranked.workspace.uri)
    return lists[0], lists[1], counts


def _heard(given: GivenPlays, offered: Offered, exclude: bool) -> SongLists:
    """Columns of the songs that each user played, if they are to be excluded."""
    column = pc.index_in(given.songs, value_set=offered.ids).fill_null(-1).to_numpy()[given.song]
    rows = (column >= 0) & exclude
    return SongLists.of_plays(
        given.user[rows].astype(np.int32),
        column[rows].astype(np.int32),
        given.plays[rows].astype(np.int32),
        len(given.users),
    )
