"""A workspace as it is served: one result, with all that it takes to answer, in memory."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fusionrec.errors import NotFoundError, WorkspaceError
from fusionrec.search.index import SearchIndex
from pipelines.opened import stored as stored_models
from pipelines.opened import updates
from pipelines.opened.asked import Listed
from pipelines.opened.batches import Batches
from pipelines.opened.catalogue import LISTS, Catalogue, list_of, user_code, why_left_out
from pipelines.opened.explained import reason
from pipelines.opened.likes import Likes
from pipelines.opened.reasons import Reason
from pipelines.opened.recommender import Model, Recommender
from pipelines.opened.stored import Stored
from pipelines.runtime.workspace import Workspace
from pipelines.serve.names import Names

log = logging.getLogger("fusionrec")

Json = dict[str, Any]

_LOOKS = 5
"""At the pointer of a workspace, until it is the same before and after."""


@dataclass(frozen=True)
class Opened:
    """What is to be served of a workspace: results that were current at one moment.

    Attributes
    ----------
    recommender
        What lists are made by.
    stage
        The stage whose stored lists are shown; None where there are none of what is opened.
    lists
        The workspace with these lists, as an update has them if there is one.
    """

    recommender: Recommender
    stage: str | None
    lists: Workspace | None

    @staticmethod
    def of(uri: str, model: Model | None) -> Opened:
        """By what is current now.

        Raises
        ------
        WorkspaceError
            There is no finished result of this model, or there is another one at every look.
        """
        base = Workspace(uri)
        for _ in range(_LOOKS):
            current = base.current()
            recommender = Recommender.open(uri, model)
            stage = _lists_stage(base, recommender.workspace)
            lists = None
            if stage is not None:
                lists = stored_models.lists_shown(base) if stage == "lists" else base.of(stage)
            if base.current() == current:
                return Opened(recommender, stage, lists)
        raise WorkspaceError(f"{uri}: other results become current while they are looked up")

    @property
    def keys(self) -> dict[str, str]:
        """All these results."""
        of_lists = {} if self.lists is None else self.lists.keys
        shown = {f"{stage} of the lists": key for stage, key in of_lists.items()}
        return {**self.recommender.workspace.keys, **shown}


def served_keys(uri: str, model: Model | None) -> dict[str, str]:
    """The results that a service of the workspace would be of by now, by stage."""
    return Opened.of(uri, model).keys


def _lists_stage(base: Workspace, opened: Workspace) -> str | None:
    """The stage whose stored lists are shown; None where there are none of what is opened."""
    stage = stored_models.stage_shown(base)
    manifest = base.manifest(stage)
    if manifest is None:
        return None
    of = {**manifest["lineage"], stage: manifest["key"]}
    learned = "blend" if "blend" in opened.keys and "blend" in of else "train"
    return stage if of.get(learned) == opened.key(learned) else None


@dataclass(frozen=True)
class UserList:
    """A stored list: rows of the catalogue, best first."""

    rows: NDArray[np.int64]
    scores: NDArray[np.float32]
    stored: Stored
    stage: str


class Snapshot:
    """One result of a workspace.

    Parameters
    ----------
    uri, model
        As of :meth:`pipelines.opened.Recommender.open`.
    similar_gb
        As of :class:`pipelines.serve.settings.Settings`.

    Attributes
    ----------
    keys
        What :func:`served_keys` said when it was read.
    batches
        Lists of many at once.
    names
        What songs are called.
    search
        Songs by artist and title.
    loaded
        When it was ready, seconds since the epoch.

    Raises
    ------
    WorkspaceError
        There is no finished result of this model.
    """

    def __init__(self, uri: str, model: Model | None, similar_gb: float) -> None:
        began = time.perf_counter()
        opened = Opened.of(uri, model)
        self.keys, self.stage, self._lists = opened.keys, opened.stage, opened.lists
        self.recommender = opened.recommender
        workspace = self.recommender.workspace
        self.batches = Batches(self.recommender)
        self.likes = self._likes(similar_gb)
        self.names = Names(workspace)
        listeners = self.batches.listeners
        texts = self.names.searched
        weight = np.zeros(len(texts["title"]), np.int64)
        weight[: len(listeners)] = listeners
        self.search = SearchIndex.of(texts, weight)
        self.search.find({"": "warm up"}, 1)  # compiles what a first query would wait for
        self.loaded = time.time()
        took = time.perf_counter() - began
        log.info("serving %s songs of %s, read in %.1f s", f"{self.songs:,}", workspace.uri, took)

    @property
    def songs(self) -> int:
        """Songs of the catalogue."""
        found: int = self.names.songs
        return found

    @property
    def model(self) -> Model:
        """What lists are ranked by."""
        return self.recommender.model

    @cached_property
    def result(self) -> str:
        """The keys of what made the songs' vectors: of the model, and of an update if there is one.

        By them songs have their numbers: those that an update adds are numbered by each anew.
        """
        stages = ("blend" if self.model == "blend" else "train", updates.STAGE)
        keys = self.recommender.workspace.keys
        return "-".join(keys[stage] for stage in stages if stage in keys)

    def _likes(self, similar_gb: float) -> Likes | None:
        if self.model == "blend":
            width = self.batches.ranked.layout.width
            takes = (2 * 4 + 1) * width * self.batches.songs / 2**30
            if takes > similar_gb:
                log.warning(
                    "songs like one would take %.1f GiB: they are read of files at each request "
                    "(--similar-gb)",
                    takes,
                )
                return None
        return Likes(self.recommender)

    # --- songs -----------------------------------------------------------------------------

    def named(self, song_ids: Sequence[str]) -> list[Json]:
        """What songs are called, by id: of the workspace, in its catalogue or not."""
        numbers = [self._number(song) for song in song_ids]
        if all(0 <= number < self.names.catalogue for number in numbers):
            return self.names.of(numbers)
        catalogue = Catalogue(self._lists or self.recommender.workspace)
        names = catalogue.names(song_ids)
        return [{"song_id": song, **asdict(names[song])} for song in song_ids]

    def numbered(self, numbers: Sequence[int]) -> list[Json]:
        """The same by number."""
        catalogue = Catalogue(self._lists or self.recommender.workspace)
        return self.named(catalogue.ids(np.asarray(numbers, np.int64)))

    @cached_property
    def listed(self) -> pa.Array:
        """Ids of the users who have a stored list, those that an update has added among them."""
        if self._lists is None or self.stage is None:
            return pa.array([], pa.string())
        late = self.stage == "lists" and updates.has(self._lists)
        stage = updates.STAGE if late else self.stage
        table = self._lists.read(stage, LISTS[self.stage], ["user_id"])
        found: pa.Array = table["user_id"].combine_chunks()
        return found

    def song(self, song_id: str) -> Json:
        """What one song of the catalogue, or of an update, is called, or a NotFoundError."""
        return self.names.of([self.row(song_id)])[0]

    def _number(self, song_id: str) -> int:
        return self.batches.row.get(song_id, -1)

    def row(self, song_id: str) -> int:
        """The number of a song that is ranked by, or a NotFoundError."""
        return self.batches.row_of(song_id)

    def read_similar(self, song_id: str, top: int) -> Listed:
        """Songs like one by the workspace's files, as :meth:`Recommender.similar` finds them."""
        self.row(song_id)
        like = stored_models.most_like(self.recommender.workspace, song_id, self.model, top)
        if like is None:
            raise no_features(song_id)
        stored, ids, scores = like
        rows = np.array([self.batches.row[song] for song in ids], np.int64)
        return Listed(rows, np.array(scores, np.float32), stored)

    # --- users of the workspace --------------------------------------------------------------

    def user_list(self, user: str, top: int) -> UserList:
        """A user's stored list, as `fusionrec recommend --user` shows it.

        Raises
        ------
        NotFoundError
            There is no such user, or none with a list.
        """
        seen, code = self._known(user)
        assert self.stage is not None
        row = list_of(seen, code, ["song_ids", "scores"], self.stage)
        if not row.num_rows:
            raise self._no_list(seen, user, code)
        songs = row["song_ids"].combine_chunks().flatten().slice(0, top).to_pylist()
        scores = row["scores"].combine_chunks().flatten().slice(0, top).to_numpy()
        rows = np.array([self._number(song) for song in songs], np.int64)
        return UserList(rows, scores, self._stored(seen, code), self.stage)

    def user_reason(self, user: str, song_id: str) -> Reason:
        """Why a song has its score for a user of the workspace who has a list."""
        row = self.row(song_id)
        if not self.batches.known[row]:
            raise NotFoundError(f"song {song_id}: has no vector, so that it has no score")
        return reason(self.batches.ranked, self.user_stored(user), song_id, row)

    def user_stored(self, user: str) -> Stored:
        """What the stored list of a user of the workspace was ranked by.

        Raises
        ------
        NotFoundError
            There is no such user, or none with a list.
        """
        seen, code = self._known(user)
        assert self.stage is not None
        if not list_of(seen, code, ["user"], self.stage).num_rows:
            raise self._no_list(seen, user, code)
        return self._stored(seen, code)

    def song_stored(self, song_id: str) -> Stored:
        """What a list of songs like one is ranked by.

        Raises
        ------
        NotFoundError
            There is no such song, or the model knows nothing of it.
        """
        self.row(song_id)
        stored = stored_models.of_song(self.recommender.workspace, song_id, self.model)
        if stored is None:
            raise no_features(song_id)
        return stored

    def _known(self, user: str) -> tuple[Workspace, int]:
        if self._lists is None:
            raise NotFoundError(
                "the workspace has no lists of the model that is served: POST /v1/lists ranks for "
                "any plays, and `fusionrec recommend --for everyone` makes lists for all users"
            )
        code = user_code(self._lists, user)
        if code < 0:
            raise NotFoundError(
                f"user {user}: no such user in the workspace; POST /v1/lists ranks for any plays"
            )
        return self._lists, code

    def _no_list(self, seen: Workspace, user: str, code: int) -> NotFoundError:
        because = why_left_out(seen, code) if self.stage == "recommend" else None
        return NotFoundError(
            f"user {user}: has no stored list{f' ({because})' if because else ''}; POST /v1/lists "
            "ranks for any plays"
        )

    def _stored(self, seen: Workspace, code: int) -> Stored:
        of = stored_models.of_everyone if self.stage == "lists" else stored_models.of_user
        return of(seen, code)


def no_features(song_id: str) -> NotFoundError:
    """What to say of a song of which the model knows nothing."""
    return NotFoundError(f"song {song_id}: has no features, so that no song is like it")


def listed_songs(
    snapshot: Snapshot, found: Listed | UserList
) -> tuple[list[Mapping[str, Any]], str]:
    """A list's songs with rank, score and match, and what `match` says."""
    scores = found.scores.tolist()
    matches, says = found.stored.match(scores) if scores else ([], "")
    songs: list[Mapping[str, Any]] = [
        {"rank": rank, **song, "score": score, "match": match}
        for rank, (song, score, match) in enumerate(
            zip(snapshot.names.of(found.rows), scores, matches, strict=True), 1
        )
    ]
    return songs, says
