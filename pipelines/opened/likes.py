"""Songs like some, by the kernel and from memory: what a server holds beside its lists."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fusionrec.ranking.on_cpu import coded
from fusionrec.ranking.packing import PackedSongs
from fusionrec.ranking.protocols import SongLists
from fusionrec.ranking.topk import rank_users
from pipelines.opened import updates
from pipelines.opened.asked import Listed
from pipelines.opened.blended import Blended
from pipelines.opened.networked import Networked
from pipelines.opened.recommender import Recommender
from pipelines.opened.stored import Classes, Stored
from pipelines.opened.users import read_taste
from pipelines.runtime.rows import matrix_blocks
from pipelines.runtime.workspace import Workspace

Floats = NDArray[np.float32]


class Likes:
    """Songs like each of some, as :meth:`pipelines.opened.Recommender.similar` has them.

    To rounding: the kernel sums in another order than a matrix library, so that songs whose scores
    differ in the last digits may change places.

    Parameters
    ----------
    recommender
        The opened workspace. By a blend all signals have a say: what it has stored of every song is
        read here, eight times the bytes of the vectors that lists are ranked by.
    """

    def __init__(self, recommender: Recommender) -> None:
        self._ranked = recommender.ranked
        ranked, workspace = self._ranked, self._ranked.workspace
        songs = len(ranked.songs.ids)
        if ranked.model == "blend":
            self._rows, features = _all_features(workspace)
            self._packed = coded(PackedSongs.of(features))
        else:
            self._rows = np.flatnonzero(ranked.songs.known)
            self._packed = ranked.candidates("all", again=True).packed
        self._column = np.full(songs, -1, np.int64)
        self._column[self._rows] = np.arange(len(self._rows))
        if ranked.model == "network":
            self._taste = read_taste(workspace)

    def similar(self, rows: Sequence[int], tops: Sequence[int]) -> list[Listed | None]:
        """The best songs for whoever played each of some, by number, in one ranking.

        None for a song of which the model knows nothing. The song itself is on no list of its own.
        """
        V = self._vectors(np.asarray(rows, np.int64))
        some = np.flatnonzero(V.any(axis=1))
        own = self._column[np.asarray(rows, np.int64)[some]]
        exclude = SongLists(
            np.concatenate([[0], np.cumsum(own >= 0)]).astype(np.int64),
            own[own >= 0].astype(np.int32),
            np.ones(int((own >= 0).sum()), np.int64),
        )
        found: list[Listed | None] = [None] * len(rows)
        if not len(some):
            return found
        longest = min(max(tops), len(self._rows))
        best = rank_users(V[some], self._packed, longest, exclude=exclude)
        for at, request in enumerate(some.tolist()):
            length = min(int(best.counts[at]), tops[request])
            songs = self._rows[best.indices[at, :length]]
            found[request] = Listed(songs, best.scores[at, :length], self._stored(rows[request]))
        return found

    def _vectors(self, rows: NDArray[np.int64]) -> Floats:
        """Of users who played one song each, once; zeros where nothing is known of it."""
        ranked = self._ranked
        if ranked.model == "genre":
            return ranked.songs.F[rows]
        found = np.zeros((len(rows), self._packed.rows.shape[1]), np.float32)
        once = np.ones(1, np.float32)
        if ranked.model == "blend":
            atoms = updates.blend_rows(ranked.workspace, "history", rows)
            for request in range(len(rows)):
                found[request] = ranked.layout.user(atoms[[request]], once)
            return found
        taste = ranked.taste
        for request, row in enumerate(rows.tolist()):
            if ranked.songs.known[row]:
                adds = self._taste.adds(taste.songs[[row]], taste.cold[[row]], once)
                found[request, : adds.shape[1]] = adds[0]  # a song's bias is one for everybody
        return found

    def _stored(self, row: int) -> Stored:
        """What such a list was ranked by."""
        ranked, one = self._ranked, np.array([row], np.int32)
        workspace, once = ranked.workspace, np.ones(1, np.int64)
        if ranked.model == "genre":
            profile = SongLists(np.array([0, 1]), one, once)
            return Classes(workspace, profile, "binary", None, of_a_user=False)
        if ranked.model == "network":
            about = workspace.read_json("train", "users", "about.json")
            return Networked(workspace, one, once, about, of_a_user=False)
        found = Blended.of_song(workspace, str(ranked.songs.ids[row]))
        assert found is not None  # of one without a vector there is no list
        return found


def _all_features(workspace: Workspace) -> tuple[NDArray[np.int64], Floats]:
    """Songs that a blend ranks by all signals, by number, and their rows, float32 (songs, D)."""
    songs = int(workspace.require("ingest")["counts"]["songs"])
    rows, found = np.arange(songs), [*matrix_blocks(workspace, "blend", "features", songs)]
    if updates.has(workspace):
        present = updates.Added.read(workspace).present
        added = np.concatenate([found[0][:0], *updates.blend_added(workspace, "features")])
        rows = np.concatenate([rows, updates.first(workspace) + np.flatnonzero(present)])
        found.append(added[present])
    return rows, np.concatenate(found)
