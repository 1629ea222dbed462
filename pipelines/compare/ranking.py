"""The ranks of a method on a fold, and statistics of its lists."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import cast

import numpy as np
import pyarrow as pa

from fusionrec import schemas
from fusionrec.evaluation.beyond import Catalogue, ListStatistics
from fusionrec.evaluation.metrics import UNRANKED, mean_over_users, per_user_metrics
from fusionrec.ranking.packing import PackedSongs
from fusionrec.ranking.protocols import SongLists
from fusionrec.ranking.topk import rank_users
from pipelines.compare.context import Context, Listed, Scores
from pipelines.compare.methods import diversity_vectors
from pipelines.runtime.stage import Counts
from pipelines.runtime.workspace import StageRun

_USERS_AT_ONCE = 1_000


def rank_scores(context: Context, scores: Scores, run: StageRun) -> tuple[Counts, float]:
    """Rank all candidates for all users; write the ranks of their relevant songs.

    Returns also the seconds that ranking took alone.
    """
    evaluation, top = context.evaluation, context.config.recommend.top
    candidates = evaluation.candidates
    # Equal scores are ranked by column, so the columns are in an order that means nothing.
    order = np.random.default_rng(context.config.seed).permutation(len(candidates))
    relevant = _permuted(evaluation.relevant, order)
    started = time.perf_counter()
    packed = PackedSongs.of(scores.F[order])
    seconds = time.perf_counter() - started
    catalogue = _catalogue(context, candidates[order])
    statistics = ListStatistics.empty(len(candidates))
    ranks, songs = [], []
    for start in range(0, len(scores.V), _USERS_AT_ONCE):
        stop = min(start + _USERS_AT_ONCE, len(scores.V))
        block = _rows(relevant, start, stop)
        started = time.perf_counter()
        ranked = rank_users(scores.V[start:stop], packed, top, relevant=block)
        seconds += time.perf_counter() - started
        statistics.update(ranked.indices[:, : context.config.compare.lists], catalogue)
        ranks.append(ranked.ranks)
        songs.append(candidates[order[ranked.rank_songs]])
    counts: Counts = {
        **_write(context, np.concatenate(ranks), np.concatenate(songs), run),
        "dimensions": scores.F.shape[1],
        "measures": cast(Counts, scores.measures),
        "lists": asdict(statistics.finish(catalogue)),
    }
    return counts, seconds


def rank_lists(context: Context, listed: Listed, run: StageRun) -> Counts:
    """Write the ranks that lists made elsewhere give; None where no list defines a measure."""
    catalogue = _catalogue(context, context.evaluation.candidates)
    statistics = ListStatistics.empty(len(context.evaluation.candidates))
    for start in range(0, len(listed.first), _USERS_AT_ONCE):
        statistics.update(listed.first[start : start + _USERS_AT_ONCE], catalogue)
    written = _write(context, listed.ranks, listed.songs, run)
    means = dict(cast(dict[str, float], written["means"]))
    if (listed.ranks == UNRANKED).any():
        del means["auc"]  # of users of whom all is listed alone
    return {
        **written,
        "means": _defined(means),
        "dimensions": 0,
        "measures": {},
        "lists": _defined(asdict(statistics.finish(catalogue))),
        "external": dict(listed.counts),
    }


def _defined(measures: Mapping[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in measures.items()}


def _catalogue(context: Context, songs: np.ndarray) -> Catalogue:
    plays = context.plays_by_song(("train", "validation", "test"))
    return Catalogue.of(plays[songs], diversity_vectors(context)[songs])


def _write(context: Context, ranks: np.ndarray, songs: np.ndarray, run: StageRun) -> Counts:
    """Write the ranks of all users' relevant songs; the means of what they come to."""
    evaluation, indptr = context.evaluation, context.evaluation.relevant.indptr
    users, candidates = len(evaluation.users), len(evaluation.candidates)
    count = np.full(users, candidates, np.int32)
    columns = [
        pa.array(evaluation.users),
        pa.array(count),
        *(
            pa.ListArray.from_arrays(pa.array(indptr, pa.int32()), pa.array(each.astype(np.int32)))
            for each in (ranks, songs)
        ),
    ]
    run.write(pa.Table.from_arrays(columns, schema=schemas.RANKS), "ranks")
    metrics = per_user_metrics(indptr, ranks, count, context.config.recommend.top)
    return {"users": users, "candidates": candidates, "means": mean_over_users(metrics)}


def _permuted(lists: SongLists, order: np.ndarray) -> SongLists:
    """The same songs as positions in `order`, ascending within a user."""
    position = np.empty(len(order), np.int32)
    position[order] = np.arange(len(order), dtype=np.int32)
    user = np.repeat(np.arange(len(lists.indptr) - 1), np.diff(lists.indptr))
    columns = position[lists.songs]
    ascending = np.lexsort((columns, user))
    return SongLists(lists.indptr, columns[ascending], lists.plays[ascending])


def _rows(lists: SongLists, start: int, stop: int) -> SongLists:
    first, last = lists.indptr[start], lists.indptr[stop]
    indptr = lists.indptr[start : stop + 1] - first
    return SongLists(indptr, lists.songs[first:last], lists.plays[first:last])
