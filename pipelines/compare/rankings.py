"""What the rankings of a comparison's methods hold: each method's row, and its cells."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fusionrec.evaluation import two_way
from fusionrec.evaluation.metrics import METRICS, UNRANKED, mean_over_users, per_user_metrics
from fusionrec.ranking.split import SplitBy, kept_together
from fusionrec.report.summary import ClassMeasure, ClassMeasures, Measured
from pipelines.compare.jobs import RANKING, Outcome
from pipelines.config.compare import REFERENCES
from pipelines.runtime.workspace import Workspace
from pipelines.split import song_groups

SHORT = 20
"""Songs that a person may look at: recall and NDCG are of lists of so many, too."""


@dataclass(frozen=True)
class Cells:
    """The relevant songs of all users of all folds; a row is a user in a fold.

    Attributes
    ----------
    indptr
        Shape (rows + 1,), int64.
    songs
        Groups of the split (songs, artists or albums), int32.
    users
        User codes of the rows, int32.
    candidates
        Candidates of the rows, int32.
    again
        Which cut of the songs into folds the rows are of.
    """

    indptr: np.ndarray
    songs: np.ndarray
    users: np.ndarray
    candidates: np.ndarray
    again: np.ndarray


def _read(workspace: Workspace, outcome: Outcome) -> pa.Table:
    return workspace.at({RANKING: outcome.key}).read(RANKING, "ranks").combine_chunks()


def _ranks(table: pa.Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where each user's ranks begin, the ranks, and their songs."""
    lengths = pc.list_value_length(table["ranks"]).to_numpy()
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    flat = (pc.list_flatten(table[name]).to_numpy() for name in ("ranks", "songs"))
    return indptr, *flat


def _song_order(indptr: np.ndarray, songs: np.ndarray) -> np.ndarray:
    """Users' songs in an order that is the same for all methods."""
    user = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    order: np.ndarray = np.lexsort((songs, user))
    return order


def read_cells(workspace: Workspace, by: SplitBy, seeds: dict[int, list[Outcome]]) -> Cells:
    """What all methods have in common, from any one of them."""
    groups = song_groups(workspace, kept_together(by))
    offsets, songs, users, candidates, again = [np.zeros(1, np.int64)], [], [], [], []
    for outcome in next(iter(seeds.values())):
        table = _read(workspace, outcome)
        indptr, _, found = _ranks(table)
        offsets.append(indptr[1:] + offsets[-1][-1])
        songs.append(groups[found[_song_order(indptr, found)]])
        users.append(table["user"].to_numpy())
        candidates.append(table["candidates"].to_numpy())
        again.append(np.full(table.num_rows, outcome.job.fold.again))
    return Cells(
        np.concatenate(offsets),
        np.concatenate(songs),
        np.concatenate(users),
        np.concatenate(candidates),
        np.concatenate(again),
    )


def measured(
    workspace: Workspace, seeds: dict[int, list[Outcome]], top: int
) -> tuple[Measured, np.ndarray]:
    """A method's row, and each cell's part in its user's average precision, (seeds, cells)."""
    by_seed, precision, whole = [], [], True
    for of_seed in seeds.values():
        found: list[dict[str, np.ndarray]] = []
        short: list[dict[str, np.ndarray]] = []
        parts = []
        for outcome in of_seed:
            table = _read(workspace, outcome)
            indptr, ranks, songs = _ranks(table)
            count = table["candidates"].to_numpy()
            # Of users of whom all is listed alone, the mean would be another's.
            whole = whole and not (ranks == UNRANKED).any()
            found.append(per_user_metrics(indptr, ranks, count, top))
            short.append(per_user_metrics(indptr, ranks, count, SHORT))
            parts.append(_parts_of_ap(indptr, ranks, top)[_song_order(indptr, songs)])
        of_short = _means(short)
        by_seed.append(
            {**_means(found), "recall_short": of_short["recall"], "ndcg_short": of_short["ndcg"]}
        )
        precision.append(np.concatenate(parts))
    outcomes = [outcome for of_seed in seeds.values() for outcome in of_seed]
    first = outcomes[0].job
    network = first.fusion if first.method == "fusion" else None
    maps = [means["average_precision"] for means in by_seed]
    means = {name: float(np.mean([means[name] for means in by_seed])) for name in by_seed[0]}
    lists = {name: _mean([each.lists[name] for each in outcomes]) for name in outcomes[0].lists}
    row: Measured = {
        "name": first.name,
        "method": first.method,
        "k": first.fusion.k if first.fusion else None,
        "modalities": list(network.modalities) if network else None,
        "operator": network.operator if network else None,
        "reference": first.method in REFERENCES,
        "seeds": len(seeds),
        "average_precision": means["average_precision"],
        "recall": means["recall"],
        "ndcg": means["ndcg"],
        "recall_short": means["recall_short"],
        "ndcg_short": means["ndcg_short"],
        "reciprocal_rank": means["reciprocal_rank"],
        "auc": _mean([of_seed["auc"] for of_seed in by_seed]) if whole else None,
        "random_level": means["random_level"],
        "spread": float(np.std(maps, ddof=1)) if len(maps) > 1 else None,
        "by_seed": maps,
        "without_input": sum(each.without_input for each in next(iter(seeds.values()))),
        "seconds": sum(each.seconds for each in outcomes),
        "ranking_seconds": sum(each.ranking for each in outcomes),
        "rankings": len(outcomes),
        "dimensions": max(each.dimensions for each in outcomes),
        "lift": means["average_precision"] / means["random_level"],
        "coverage": lists["coverage"],
        "gini": lists["gini"],
        "popularity": lists["popularity"],
        "popularity_bias": lists["popularity_bias"],
        "diversity": lists["diversity"],
        "novelty": lists["novelty"],
        **_mean_quality([each.measures for each in outcomes if each.measures]),
    }
    return row, np.array(precision)


def _means(of_folds: Sequence[dict[str, np.ndarray]]) -> dict[str, float]:
    """Means over the users of all folds."""
    return mean_over_users(
        {name: np.concatenate([fold[name] for fold in of_folds]) for name in METRICS}
    )


def _mean_quality(measured: Sequence[ClassMeasures]) -> ClassMeasures:
    """Means of each measure over the folds and seeds in which it is defined."""
    means: dict[ClassMeasure, float | None] = {}
    names: tuple[ClassMeasure, ...] = get_args(ClassMeasure)
    for name in names if measured else ():
        means[name] = _mean([each.get(name) for each in measured])
    return cast(ClassMeasures, means)


def _mean(values: Sequence[float | None]) -> float | None:
    """Over those that are defined, neither None nor NaN; None if none is."""
    found = [value for value in values if value is not None and not math.isnan(value)]
    return float(np.mean(found)) if found else None


def _parts_of_ap(indptr: np.ndarray, ranks: np.ndarray, top: int) -> np.ndarray:
    """Of each relevant song, a number whose mean over its user's songs is AP at `top`."""
    sizes = np.diff(indptr)
    divisor = np.repeat(sizes / np.maximum(np.minimum(sizes, top), 1), sizes)
    found: np.ndarray = two_way.precisions(indptr, ranks, top) * divisor
    return found
