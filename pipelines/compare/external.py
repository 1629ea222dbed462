"""Lists that were made elsewhere (`compare.external`), on the users and candidates of a fold.

A file's lists are read once, as codes; each fold ranks what they have of its candidates. Songs that
a list leaves out have no rank: they count as not found, however short the list is. (One list a user
does for all folds of a split, as each song is a candidate of one of them.)
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fusionrec.errors import DataError, SourceError
from fusionrec.evaluation.metrics import UNRANKED
from fusionrec.formats import files, user_lists
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


def located(external: Mapping[str, str]) -> dict[str, str]:
    """The paths of `compare.external` as any process on this machine opens them.

    Local ones are absolute and without `~`: a worker is not in the folder of the command.
    """
    return {
        name: path if files.is_uri(path) else os.path.abspath(os.path.expanduser(path))
        for name, path in external.items()
    }


def fingerprint(name: str, path: str) -> str:
    """The hash of what a file holds; a SourceError names its place in the config as well."""
    with _named(name):
        return user_lists.fingerprint(path)


def check(name: str, path: str) -> None:
    """As :func:`fusionrec.formats.user_lists.check`, with the place in the config."""
    with _named(name):
        user_lists.check(path)


@contextmanager
def _named(name: str) -> Iterator[None]:
    try:
        yield
    except SourceError as error:
        raise SourceError(f"compare.external.{name}: {error}") from None


def read(workspace: Workspace, name: str, path: str, expected: str) -> CodedLists:
    """Read a file's lists; ids that the corpus does not have are counted and left out.

    Parameters
    ----------
    name
        Its name in `compare.external`.
    expected
        Its hash (:func:`fingerprint`), which the results are stored by.

    Raises
    ------
    SourceError
        As :func:`fusionrec.formats.user_lists.read`; or it is not the file of that hash.
    """
    with _named(name):
        found = user_lists.read(path)
        # Afterwards, so that a change during the reading is seen as well.
        if user_lists.fingerprint(path) != expected:
            raise SourceError(
                f"{path} changed, or this node has another one; run the command again"
            )
    users = workspace.require("ingest")["counts"]["users"]
    known_users = user_ids_of(workspace, 0, users)
    known_songs = workspace.read("ingest", "songs", ["song_id"])["song_id"]
    user = _codes(found.users, known_users)
    distinct = found.songs.dictionary_encode()
    of_distinct = _codes(distinct.dictionary, known_songs).astype(np.int32)
    song = of_distinct[distinct.indices.to_numpy()]
    lists = np.repeat(np.arange(len(user), dtype=np.int32), np.diff(found.indptr))
    kept = (user[lists] >= 0) & (song >= 0)
    order = np.argsort(user, kind="stable")[int((user < 0).sum()) :]
    place = np.full(len(user), -1, np.int32)
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


def _codes(ids: pa.Array, known: pa.ChunkedArray) -> np.ndarray:
    """Places of ids among the known ones, int64; -1 for others."""
    values = known.cast(ids.type).combine_chunks()
    found: np.ndarray = pc.fill_null(pc.index_in(ids, value_set=values), -1).to_numpy()
    return found.astype(np.int64)


def _ranked(evaluation: Evaluation, lists: CodedLists) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each listed candidate: the user's row, the place in `candidates`, the rank from 1."""
    row = np.full(int(max(lists.users[-1], evaluation.users.max())) + 1, -1, np.int32)
    row[evaluation.users] = np.arange(len(evaluation.users))
    place = np.full(len(evaluation.part), -1, np.int32)
    place[evaluation.candidates] = np.arange(len(evaluation.candidates))
    user, column = np.repeat(row[lists.users], np.diff(lists.indptr)), place[lists.songs]
    kept = (user >= 0) & (column >= 0)
    # Wide only now: a fold has a part of the songs. By user, as lists are.
    user, column = user[kept].astype(np.int64), column[kept].astype(np.int64)
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
