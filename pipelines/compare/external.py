"""Lists that were made elsewhere (`compare.external`), on the users and candidates of a fold.

A file's lists are read once, as codes; each fold ranks what they have of its candidates. Songs that
a list leaves out have no rank: they count as not found, however short the list is. (One list a user
does for all folds of a split, as each song is a candidate of one of them.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from fusionrec.errors import DataError
from fusionrec.evaluation.metrics import UNRANKED
from fusionrec.formats import user_lists
from pipelines.compare.context import Context, Listed
from pipelines.compare.folds import Evaluation
from pipelines.ingest.by_user import user_ids_of
from pipelines.runtime import tasks
from pipelines.runtime.workspace import Workspace


@dataclass(frozen=True)
class CodedLists:
    """The lists of a file as codes.

    Attributes
    ----------
    users
        Codes, int64 (lists,), ascending.
    indptr
        Shape (lists + 1,), int64: list u is `songs[indptr[u]:indptr[u + 1]]`.
    songs
        Codes, int32, best first.
    counts
        Lists of the file, and of which unknown users and songs it has how many.
    """

    users: np.ndarray
    indptr: np.ndarray
    songs: np.ndarray
    counts: dict[str, int]


def read(workspace: Workspace, path: str) -> CodedLists:
    """Read a file's lists; ids that the corpus does not have are counted and left out.

    Raises
    ------
    SourceError
        As :func:`fusionrec.formats.user_lists.read`.
    """
    found = user_lists.read(path)
    users = workspace.require("ingest")["counts"]["users"]
    known_users = user_ids_of(workspace, 0, users).combine_chunks()
    known_songs = workspace.read("ingest", "songs", ["song_id"])["song_id"].combine_chunks()
    user = _codes(found.users, known_users)
    distinct = found.songs.dictionary_encode()
    of_distinct = _codes(distinct.dictionary, known_songs)
    song = of_distinct[distinct.indices.to_numpy()]
    lists = np.repeat(np.arange(len(user)), np.diff(found.indptr))
    kept = (user[lists] >= 0) & (song >= 0)
    order = np.argsort(user, kind="stable")[int((user < 0).sum()) :]
    place = np.full(len(user), -1)
    place[order] = np.arange(len(order))
    lists, song = place[lists[kept]], song[kept]
    by_list = np.argsort(lists, kind="stable")
    lengths = np.bincount(lists, minlength=len(order))
    counts = {
        "lists": len(user),
        "unknown_users": int((user < 0).sum()),
        "unknown_songs": int((of_distinct < 0).sum()),
    }
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return CodedLists(user[order], indptr, song[by_list].astype(np.int32), counts)


def listed(context: Context) -> Listed:
    """The ranks of the relevant songs of a fold.

    Raises
    ------
    DataError
        There is no list for any of the users.
    """
    assert context.external is not None
    lists: CodedLists = tasks.gather([context.external.lists])[0]
    evaluation = context.evaluation
    users, candidates = len(evaluation.users), len(evaluation.candidates)
    has = np.isin(evaluation.users, lists.users)
    if not has.any():
        raise DataError(
            f"none of the {users:,} users of a fold has a list; is user_id of this corpus?"
        )
    user, column, rank = _ranked(evaluation, lists)
    ranks, songs = _of_relevant(evaluation, user, column, rank)
    first = np.full((users, context.config.compare.lists), -1, np.int32)
    shown = rank <= first.shape[1]
    first[user[shown], rank[shown] - 1] = column[shown]
    counts = {
        **lists.counts,
        "without_list": int((~has).sum()),
        "without_candidate": int(has.sum() - len(np.unique(user))),
    }
    return Listed(ranks, songs, first, candidates - len(np.unique(column)), counts)


def _codes(ids: object, known: object) -> np.ndarray:
    """Places of ids among the known ones, int64; -1 for others."""
    found: np.ndarray = pc.fill_null(pc.index_in(ids, value_set=known), -1).to_numpy()
    return found.astype(np.int64)


def _ranked(evaluation: Evaluation, lists: CodedLists) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each listed candidate: the user's row, the place in `candidates`, the rank from 1."""
    row = np.full(int(max(lists.users[-1], evaluation.users[-1])) + 1, -1)
    row[evaluation.users] = np.arange(len(evaluation.users))
    user = np.repeat(row[lists.users], np.diff(lists.indptr))
    place = np.full(len(evaluation.part), -1)
    place[evaluation.candidates] = np.arange(len(evaluation.candidates))
    column = place[lists.songs]
    kept = (user >= 0) & (column >= 0)
    user, column = user[kept], column[kept]  # by user, as lists are
    lengths = np.bincount(user, minlength=len(evaluation.users))
    begins = np.cumsum(lengths) - lengths
    return user, column, np.arange(len(user)) - begins[user] + 1


def _of_relevant(
    evaluation: Evaluation, user: np.ndarray, column: np.ndarray, rank: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Ranks of the relevant songs, ascending within a user, and the songs."""
    relevant, width = evaluation.relevant, len(evaluation.candidates)
    of_user = np.repeat(np.arange(len(evaluation.users)), np.diff(relevant.indptr))
    keys, wanted = user * width + column, of_user * width + relevant.songs
    order = np.argsort(keys)
    found = np.full(len(wanted), UNRANKED, np.int64)
    if len(keys):
        at = np.minimum(np.searchsorted(keys[order], wanted), len(keys) - 1)
        same = keys[order][at] == wanted
        found[same] = rank[order][at[same]]
    ascending = np.lexsort((relevant.songs, found, of_user))
    songs = evaluation.candidates[relevant.songs[ascending]]
    return found[ascending].astype(np.int32), songs.astype(np.int32)
