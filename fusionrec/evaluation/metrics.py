"""Ranking metrics from the ranks of the relevant songs (paper 3.3: mAP over the top 500).

All functions take the ranks of all users one after the other: user u's are
`ranks[indptr[u]:indptr[u + 1]]`, from 1, ascending, among all of the user's candidates (as
:func:`fusionrec.ranking.topk.rank_users` returns them). They return float64 arrays of shape
(users,), with NaN for a user without a relevant song, who is in no mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusionrec.evaluation.closed_forms import random_average_precision

Offsets = NDArray[np.integer[Any]]
Ranks = NDArray[np.integer[Any]]
PerUser = NDArray[np.float64]

UNRANKED = int(np.iinfo(np.int32).max)
"""The rank of a relevant song that a list leaves out: behind all that it has, and in no metric."""

METRICS = ("average_precision", "recall", "ndcg", "reciprocal_rank", "auc", "random_level")
"""The columns of :func:`per_user_metrics` that are averaged over users."""


def average_precision(indptr: Offsets, ranks: Ranks, k: int) -> PerUser:
    """AP@K: the precisions at the relevant songs among the first K, over min(relevant, K).

    The divisor is that of the Million Song Dataset Challenge: a perfect list scores 1 also
    where more than K songs are relevant.
    """
    hits = np.arange(len(ranks)) - np.repeat(indptr[:-1], np.diff(indptr)) + 1
    found = _sum(indptr, np.where(ranks <= k, hits / ranks, 0.0))
    return _divide(found, np.minimum(np.diff(indptr), k))


def recall(indptr: Offsets, ranks: Ranks, k: int) -> PerUser:
    """Share of the relevant songs that are among the first K."""
    return _divide(_sum(indptr, (ranks <= k).astype(np.float64)), np.diff(indptr))


def ndcg(indptr: Offsets, ranks: Ranks, k: int) -> PerUser:
    """NDCG@K with gains 0 and 1 and discount log2(1 + rank).

    The ideal list has min(relevant, K) relevant songs first.
    """
    gained = _sum(indptr, np.where(ranks <= k, 1.0 / np.log2(1.0 + ranks), 0.0))
    found = np.minimum(np.diff(indptr), k)
    longest = int(found.max(initial=0))
    ideal = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(2, longest + 2)))])
    return _divide(gained, ideal[found])


def reciprocal_rank(indptr: Offsets, ranks: Ranks, k: int) -> PerUser:
    """1/rank of the first relevant song; 0 where none is among the first K."""
    first = np.zeros(len(ranks))
    starts = indptr[:-1][np.diff(indptr) > 0]
    first[starts] = np.where(ranks[starts] <= k, 1.0 / ranks[starts], 0.0)
    return _divide(_sum(indptr, first), np.diff(indptr) > 0)


def auc(indptr: Offsets, ranks: Ranks, candidates: NDArray[np.integer[Any]]) -> PerUser:
    """Share of the pairs (relevant song, other candidate) that are in the right order.

    Over all candidates, not just the first K; NaN also where every candidate is relevant, or a
    relevant song is :data:`UNRANKED`.
    Songs of equal score count as they were ranked (by ascending song index).

    Parameters
    ----------
    candidates
        Shape (users,): songs ranked for each user.
    """
    relevant = np.diff(indptr).astype(np.int64)
    others = candidates.astype(np.int64) - relevant
    # Of the songs above relevant song j (from 0), all but j are others, ranked too high.
    j = np.arange(len(ranks)) - np.repeat(indptr[:-1], relevant)
    wrong = _sum(indptr, np.where(ranks == UNRANKED, np.nan, ranks - 1.0 - j))
    return _divide(relevant * others - wrong, relevant * others)


def per_user_metrics(
    indptr: Offsets, ranks: Ranks, candidates: NDArray[np.integer[Any]], k: int
) -> dict[str, NDArray[Any]]:
    """Every metric of every user.

    Parameters
    ----------
    indptr, ranks
        See the module; a user's relevant songs are all candidates, so their number is the
        number of their ranks. The last ones of a user may be :data:`UNRANKED`.
    candidates
        Shape (users,): songs ranked for each user.
    k
        The K of the metrics at K, at least 1.

    Returns
    -------
    The columns of :data:`fusionrec.schemas.METRICS` but `user_id`, each of shape (users,).

    Raises
    ------
    ValueError
        Ranks that are not distinct, ascending and between 1 and the user's candidates.
    """
    indptr, ranks, candidates = np.asarray(indptr), np.asarray(ranks), np.asarray(candidates)
    _check(indptr, ranks, candidates, k)
    relevant = np.diff(indptr)
    random_level = np.full(len(relevant), np.nan)
    some = relevant > 0
    random_level[some] = random_average_precision(candidates[some], relevant[some], k)
    return {
        "average_precision": average_precision(indptr, ranks, k),
        "recall": recall(indptr, ranks, k),
        "ndcg": ndcg(indptr, ranks, k),
        "reciprocal_rank": reciprocal_rank(indptr, ranks, k),
        "auc": auc(indptr, ranks, candidates),
        "candidates": candidates.astype(np.int32),
        "relevant": relevant.astype(np.int32),
        "random_level": random_level,
    }


def per_song_shares(
    indptr: Offsets, ranks: Ranks, candidates: NDArray[np.integer[Any]], k: int
) -> dict[str, NDArray[np.float64]]:
    """What each relevant song adds to the sums over users of AP@K and AUC, and to their number.

    Parameters
    ----------
    indptr, ranks, candidates, k
        As in :func:`per_user_metrics`.

    Returns
    -------
    `average_precision` and `auc`, each like `ranks`: they add up to the user's; `auc` is 0 where
    the user's is not defined, as where a song is :data:`UNRANKED`. `users` and `auc_users`: 1 over
    the user's relevant songs, which add up to 1 a user, or to 0 where the user's AUC is not
    defined.
    """
    relevant = np.diff(indptr).astype(np.int64)
    users = np.repeat(1.0 / np.maximum(relevant, 1), relevant)
    j = np.arange(len(ranks)) - np.repeat(indptr[:-1], relevant)
    found = np.where(ranks <= k, (j + 1) / ranks, 0.0)
    others = np.repeat(candidates.astype(np.int64) - relevant, relevant)
    right = 1.0 - np.divide(ranks - 1 - j, others, out=np.zeros(len(ranks)), where=others > 0)
    whole = _sum(indptr, (ranks == UNRANKED).astype(np.float64)) == 0
    auc_users = np.where((others > 0) & np.repeat(whole, relevant), users, 0.0)
    return {
        "average_precision": found / np.repeat(np.maximum(np.minimum(relevant, k), 1), relevant),
        "users": users,
        "auc": right * auc_users,
        "auc_users": auc_users,
    }


def mean_over_users(metrics: Mapping[str, NDArray[Any]]) -> dict[str, float]:
    """Mean of each of :data:`METRICS` over the users for whom it is defined (NaN if for none).

    The mean of `average_precision` is mAP@K.
    """
    means = {}
    for name in METRICS:
        values = metrics[name][~np.isnan(metrics[name])]
        means[name] = float(values.mean()) if len(values) else float("nan")
    return means


def _check(indptr: Offsets, ranks: Ranks, candidates: NDArray[np.integer[Any]], k: int) -> None:
    if k < 1:
        raise ValueError(f"k is {k}: it must be 1 or more")
    if len(indptr) != len(candidates) + 1 or indptr[0] != 0 or indptr[-1] != len(ranks):
        raise ValueError(
            f"{len(indptr)} offsets do not fit {len(candidates)} users and {len(ranks)} ranks"
        )
    user = np.repeat(np.arange(len(candidates)), np.diff(indptr))
    same_user = user[1:] == user[:-1]
    ranked = ranks != UNRANKED
    if np.any(ranks < 1) or np.any((ranks > candidates[user]) & ranked):
        raise ValueError("ranks must be between 1 and the user's candidates")
    ascending = (np.diff(ranks.astype(np.int64)) > 0) | ~ranked[:-1] & ~ranked[1:]
    if not np.all(ascending[same_user]):
        raise ValueError("ranks must ascend within a user, each at most once")


def _sum(indptr: Offsets, values: PerUser) -> PerUser:
    users = len(indptr) - 1
    user = np.repeat(np.arange(users), np.diff(indptr))
    total: PerUser = np.bincount(user, weights=values, minlength=users).astype(
        np.float64, copy=False
    )
    return total


def _divide(numerator: NDArray[Any], denominator: NDArray[Any]) -> PerUser:
    quotient = np.full(len(numerator), np.nan)
    np.divide(numerator, denominator, out=quotient, where=denominator > 0)
    return quotient
