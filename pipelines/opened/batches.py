"""Many requests in one call of the kernel: what a server holds of a workspace, ready in memory.

The results are those of :class:`pipelines.opened.Recommender`; what it looks up in files at each
call (numbers of ids, what makes a network's users) is read once here, and looked up in memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fusionrec.errors import NotFoundError
from fusionrec.models.shares import TasteUsers
from fusionrec.ranking.protocols import SongLists
from fusionrec.ranking.topk import rank_users
from pipelines.opened import updates
from pipelines.opened.asked import Asked, Listed
from pipelines.opened.blended import Blended
from pipelines.opened.explained import reason
from pipelines.opened.networked import Networked
from pipelines.opened.ranked import Offered
from pipelines.opened.reasons import Reason
from pipelines.opened.recommender import Recommender
from pipelines.opened.stored import Classes, Listened, Stored
from pipelines.opened.users import Made, read_taste
from pipelines.runtime.rows import find


@dataclass(frozen=True)
class _Chosen:
    """Songs to choose from: their numbers, and the column of each song, -1 of one that is none."""

    offered: Offered
    rows: NDArray[np.int64]
    column: NDArray[np.int64]


class Batches:
    """A workspace in memory, for lists of many at once.

    Parameters
    ----------
    recommender
        The opened workspace. All of it is read here.

    Attributes
    ----------
    ranked
        What it ranks by.
    songs
        How many have numbers to rank by: those of the catalogue, and with an update those that it
        has added, behind songs that are known by plays alone.
    row
        The number of each song by id (:class:`pipelines.opened.catalogue.Catalogue`).
    """

    def __init__(self, recommender: Recommender) -> None:
        self.recommender = recommender
        self.ranked = recommender.ranked
        self._chosen: dict[str, _Chosen] = {}
        ids = self.ranked.songs.ids.to_pylist()
        self.songs = len(ids)
        workspace = self.ranked.workspace
        self._catalogue = int(workspace.require("ingest")["counts"]["songs"])
        # Those known by plays alone are behind the catalogue, where with an update nothing is
        # called. One that is a song since has its new number: the last one.
        others = updates.other_ids(workspace).to_pylist()
        self.row = {song: row for row, song in enumerate(others, self._catalogue)}
        self.row |= {song: row for row, song in enumerate(ids) if song is not None}
        self._added = updates.first(workspace) if updates.has(workspace) else self.songs
        self.lists([Asked({ids[0]: 1} if ids else {}, 1)])
        _ = self.ranked.listeners

    @property
    def known(self) -> NDArray[np.bool_]:
        """Songs of the catalogue with a vector, (songs,)."""
        return self.ranked.songs.known

    @property
    def listeners(self) -> NDArray[np.int64]:
        """Users who played each song of the catalogue, (songs,)."""
        return self.ranked.listeners

    # --- lists ---------------------------------------------------------------------------

    def lists(self, asked: Sequence[Asked]) -> list[Listed]:
        """Lists as :meth:`pipelines.opened.Recommender.recommend` makes them, in one ranking.

        What is asked for beside it has no influence on a list, to the last bit. Where there are no
        songs to choose from, a list is empty.
        """
        if not asked:
            return []
        user = np.repeat(np.arange(len(asked)), [len(each.plays) for each in asked])
        number = np.array([self.row.get(s, -1) for each in asked for s in each.plays], np.int64)
        plays = np.array([n for each in asked for n in each.plays.values()], np.int64)
        own, other = self._histories(user, number, plays, len(asked))
        codes = self._codes(asked)
        made = self._users(own, other, codes)
        V, by_vector = made.V, made.own.copy()
        if made.nobody is not None:
            V[~made.own] = made.nobody
            by_vector[:] = True
        counts = self._counts(user, number, len(asked))
        found: list[Listed | None] = [None] * len(asked)
        for name in {each.candidates for each in asked}:
            here = np.array([each.candidates == name for each in asked])
            for by in (True, False):
                some = np.flatnonzero(here & (by_vector == by))
                if len(some):
                    lists = self._rank(asked, some, V if by else None, own, name)
                    for request, (rows, scores) in zip(some.tolist(), lists, strict=True):
                        found[request] = Listed(
                            rows,
                            scores,
                            self._stored(request, own, other, made, codes, by),
                            not bool(made.own[request]),
                            *(int(of[request]) for of in counts),
                        )
        return [each for each in found if each is not None]

    def _rank(
        self,
        asked: Sequence[Asked],
        some: NDArray[np.int64],
        V: NDArray[np.float32] | None,
        own: SongLists,
        name: str,
    ) -> list[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Lists of some of the requests, by their vectors, or by listeners without any."""
        chosen = self._choose(name)
        if chosen is None:
            return [(np.zeros(0, np.int64), np.zeros(0, np.float32))] * len(some)
        mask = np.zeros(len(asked), bool)
        mask[some] = True
        heard = own.of(mask)
        columns = chosen.column[heard.songs]
        excludes = np.array([asked[request].exclude_heard for request in some.tolist()])
        out = (columns >= 0) & np.repeat(excludes, heard.sizes)
        exclude = heard.where(out)
        exclude = SongLists(exclude.indptr, columns[out].astype(np.int32), exclude.plays)
        tops = [asked[request].top for request in some.tolist()]
        vectors, songs = (
            (np.ones((len(some), 1), np.float32), chosen.offered.listeners())
            if V is None
            else (V[some], chosen.offered.packed)
        )
        best = rank_users(vectors, songs, min(max(tops), len(chosen.rows)), exclude=exclude)
        return [
            (chosen.rows[best.indices[row, :length]], best.scores[row, :length])
            for row, length in enumerate(np.minimum(best.counts, tops).tolist())
        ]

    def _choose(self, name: str) -> _Chosen | None:
        """The songs of a name; None if there are none."""
        if name not in self._chosen:
            rows = np.flatnonzero(self.ranked.named(name) & self.known)
            if not len(rows):
                return None
            offered = self.ranked.candidates(name, again=True)
            column = np.full(self.songs, -1, np.int64)
            column[rows] = np.arange(len(rows))
            self._chosen[name] = _Chosen(offered, rows, column)
        return self._chosen[name]

    def _histories(
        self, user: NDArray[np.int64], number: NDArray[np.int64], plays: NDArray[np.int64], n: int
    ) -> tuple[SongLists, SongLists]:
        """What each played of the catalogue, and outside of what says something."""
        both = []
        for first, last in ((0, self.songs), (self.songs, self.songs + self.ranked.others)):
            rows = (number >= first) & (number < last)
            if not first:
                rows[rows] = self.ranked.in_histories[number[rows]]
            of, song, count = (
                each.astype(np.int32) for each in (user[rows], number[rows] - first, plays[rows])
            )
            both.append(SongLists.of_plays(of, song, count, n))
        return both[0], both[1]

    def _codes(self, asked: Sequence[Asked]) -> NDArray[np.int64]:
        """Numbers of users of the workspace; -1 of who is none."""
        codes = np.full(len(asked), -1, np.int64)
        named = [row for row, each in enumerate(asked) if each.user is not None]
        if named:
            ids = [str(asked[row].user) for row in named]
            codes[named] = find(self.ranked.workspace, "ingest", "user_index", ids)
        return codes

    def _counts(
        self, user: NDArray[np.int64], number: NDArray[np.int64], n: int
    ) -> tuple[NDArray[np.int64], ...]:
        """Songs that are used, unused and unknown, of each."""
        known, says = number >= 0, self.ranked.says
        useful = known & (number < len(says))
        useful[useful] = says[number[useful]]
        kinds = (useful, known & ~useful, ~known)
        return tuple(np.bincount(user[kind], minlength=n) for kind in kinds)

    def _users(self, own: SongLists, other: SongLists, codes: NDArray[np.int64]) -> Made:
        if self.ranked.model == "network":
            return self.ranked.taste.vectors(own, self._taste)
        return self.ranked.users(own, other, codes)

    @cached_property
    def _taste(self) -> TasteUsers:
        return read_taste(self.ranked.workspace)

    @cached_property
    def _about_users(self) -> Mapping[str, object]:
        about: Mapping[str, object] = self.ranked.workspace.read_json(
            "train", "users", "about.json"
        )
        return about

    def _stored(
        self,
        request: int,
        own: SongLists,
        other: SongLists,
        made: Made,
        codes: NDArray[np.int64],
        by_vector: bool,
    ) -> Stored:
        """What a list was ranked by."""
        if not by_vector:
            return Listened()
        workspace, ranked = self.ranked.workspace, self.ranked
        mask = np.zeros(len(made.own), bool)
        mask[request] = True
        mine = own.of(mask)
        if ranked.model == "blend":
            others = other.of(mask)
            songs = np.concatenate([mine.songs, others.songs + self.songs])
            plays = np.concatenate([mine.plays, others.plays])
            told = ranked.told(mine, others, codes[[request]])[0]
            return Blended.of_plays(workspace, songs, plays, told, made.V[request])
        profile = mine.where(ranked.says[mine.songs])
        if ranked.model == "network":
            return Networked(workspace, profile.songs, profile.plays, self._about_users)
        return Classes(workspace, profile, ranked.weighting, None)

    def explain(self, listed: Listed, song_id: str) -> Reason:
        """Why a song has its score for whom a list was made, whether it is on the list or not.

        Raises
        ------
        NotFoundError
            The song has no vector.
        """
        row = self.row_of(song_id)
        if not self.known[row]:
            raise NotFoundError(f"song {song_id}: has no vector, so that it has no score")
        return reason(self.ranked, listed.stored, song_id, row)

    def row_of(self, song_id: str) -> int:
        """The number of a song of the catalogue.

        Raises
        ------
        NotFoundError
            It is none of them.
        """
        row = self.row.get(song_id, -1)
        if not (0 <= row < self._catalogue or self._added <= row < self.songs):
            raise NotFoundError(
                f"song {song_id}: is not in the catalogue; /v1/search finds songs by artist and "
                "title"
            )
        return row
