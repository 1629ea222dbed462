"""The tables of a comparison from the ranks that its methods found, a split a task."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import cast, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fusionrec.errors import DataError
from fusionrec.evaluation import two_way
from fusionrec.evaluation.ceiling import expected_average_precision
from fusionrec.evaluation.metrics import METRICS, mean_over_users, per_user_metrics
from fusionrec.evaluation.significance import holm
from fusionrec.report.summary import (
    ClassMeasure,
    ClassMeasures,
    Difference,
    Evaluated,
    Measured,
    Row,
    Summary,
)
from pipelines.compare.folds import Fold, fold_workspace, labels_workspace, read_evaluation
from pipelines.compare.jobs import RANKING, Outcome, method_names
from pipelines.config import Config
from pipelines.config.compare import REFERENCES
from pipelines.runtime.workspace import Workspace, fingerprint


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
    """

    indptr: np.ndarray
    songs: np.ndarray
    users: np.ndarray
    candidates: np.ndarray


def summarise(config: Config, workspace: Workspace, by: str, outcomes: list[Outcome]) -> Summary:
    """Every method's row of a split, the differences between them, and what was evaluated."""
    top, compare = config.recommend.top, config.compare
    failed = {each.job.name: each.failed for each in outcomes if each.failed}
    by_name: dict[str, dict[int, list[Outcome]]] = defaultdict(lambda: defaultdict(list))
    for outcome in outcomes:
        if outcome.job.name not in failed:
            by_name[outcome.job.name][outcome.job.seed].append(outcome)
    if not by_name:
        raise DataError(f"compare: no method could be computed: {failed}")
    cells = _cells(workspace, by, next(iter(by_name.values())))
    measured: dict[str, Measured] = {}
    precision: dict[str, np.ndarray] = {}
    for name, seeds in by_name.items():
        measured[name], precision[name] = _measured(workspace, seeds, top)
    draws = {
        two: two_way.resample(
            cells.indptr,
            cells.songs,
            precision,
            clusters=cells.users,
            count="cells",
            seed=config.seed,
            resamples=compare.resamples,
            two_way=two,
        )
        for two in (True, False)
    }
    names = sorted(measured, key=method_names(config).index)
    rows: list[Row] = []
    for name in names:
        low, high = two_way.interval(draws[True][name], config.evaluate.level)
        users_low, users_high = two_way.interval(draws[False][name], config.evaluate.level)
        rows.append(
            {
                **measured[name],
                "low": low,
                "high": high,
                "users_low": users_low,
                "users_high": users_high,
            }
        )
    level = {row["name"]: row["average_precision"] for row in rows}
    against = compare.against
    if against is None or against not in names:
        against = _default_against(outcomes, names)
    return {
        "by": by,
        "against": against,
        "rows": rows,
        "differences": _differences(names, against, level, draws[True], config.evaluate.level),
        "failed": failed,
        "ceilings": _ceilings(config, workspace, by, outcomes),
        "folds": _folds(config, workspace, by, outcomes, cells),
    }


def _default_against(outcomes: list[Outcome], names: list[str]) -> str:
    jobs = [outcome.job for outcome in outcomes]
    networks = [job.name for job in jobs if job.method == "fusion" and job.name in names]
    return networks[-1] if networks else names[0]


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


def _cells(workspace: Workspace, by: str, seeds: dict[int, list[Outcome]]) -> Cells:
    """What all methods have in common, from any one of them."""
    groups = _groups(workspace, by)
    offsets, songs, users, candidates = [np.zeros(1, np.int64)], [], [], []
    for outcome in next(iter(seeds.values())):
        table = _read(workspace, outcome)
        indptr, _, found = _ranks(table)
        offsets.append(indptr[1:] + offsets[-1][-1])
        songs.append(groups[found[_song_order(indptr, found)]])
        users.append(table["user"].to_numpy())
        candidates.append(table["candidates"].to_numpy())
    return Cells(
        np.concatenate(offsets),
        np.concatenate(songs),
        np.concatenate(users),
        np.concatenate(candidates),
    )


def _groups(workspace: Workspace, by: str) -> np.ndarray:
    """For each song the number of its group: what the split keeps together, int32."""
    columns = {"song": ["song_id"], "artist": ["artist_id"], "album": ["artist_id", "release"]}
    songs = workspace.read("ingest", "songs", ["song_id", "artist_id", "release"])
    own = songs["song_id"].to_pylist()
    values = zip(*(songs[name].to_pylist() for name in columns[by]), strict=True)
    # A song without an artist is a group of its own, as in the split.
    keys = [repr(v) if all(v) else f"song {song}" for v, song in zip(values, own, strict=True)]
    codes = pa.array(keys).dictionary_encode().indices.to_numpy()
    found: np.ndarray = codes.astype(np.int32)
    return found


def _measured(
    workspace: Workspace, seeds: dict[int, list[Outcome]], top: int
) -> tuple[Measured, np.ndarray]:
    """A method's row, and each cell's part in its user's average precision (mean over seeds)."""
    by_seed, precision = [], np.zeros(0)
    for of_seed in seeds.values():
        found: list[dict[str, np.ndarray]] = []
        parts = []
        for outcome in of_seed:
            table = _read(workspace, outcome)
            indptr, ranks, songs = _ranks(table)
            found.append(per_user_metrics(indptr, ranks, table["candidates"].to_numpy(), top))
            parts.append(_parts_of_ap(indptr, ranks, top)[_song_order(indptr, songs)])
        columns = {name: np.concatenate([f[name] for f in found]) for name in METRICS}
        by_seed.append(mean_over_users(columns))
        together = np.concatenate(parts) / len(seeds)
        precision = together if not len(precision) else precision + together
    outcomes = [outcome for of_seed in seeds.values() for outcome in of_seed]
    first = outcomes[0].job
    maps = [means["average_precision"] for means in by_seed]
    means = {name: float(np.mean([means[name] for means in by_seed])) for name in METRICS}
    lists = {
        name: float(np.mean([each.lists[name] for each in outcomes])) for name in outcomes[0].lists
    }
    row: Measured = {
        "name": first.name,
        "method": first.method,
        "k": first.fusion.k if first.fusion else None,
        "modalities": (
            list(first.fusion.modalities) if first.fusion and first.method == "fusion" else None
        ),
        "reference": first.method in REFERENCES,
        "seeds": len(seeds),
        "average_precision": means["average_precision"],
        "recall": means["recall"],
        "ndcg": means["ndcg"],
        "reciprocal_rank": means["reciprocal_rank"],
        "auc": means["auc"],
        "random_level": means["random_level"],
        "spread": float(np.std(maps, ddof=1)) if len(maps) > 1 else None,
        "by_seed": maps,
        "without_input": sum(each.without_input for each in next(iter(seeds.values()))),
        "seconds": sum(each.seconds for each in outcomes),
        "lift": means["average_precision"] / means["random_level"],
        "coverage": lists["coverage"],
        "gini": lists["gini"],
        "popularity": lists["popularity"],
        "popularity_bias": lists["popularity_bias"],
        "diversity": lists["diversity"],
        "novelty": lists["novelty"],
        **_mean_quality([each.measures for each in outcomes if each.measures]),
    }
    return row, precision


def _mean_quality(measured: Sequence[ClassMeasures]) -> ClassMeasures:
    """Means of each measure over the folds and seeds in which it is defined."""
    means: dict[ClassMeasure, float | None] = {}
    names: tuple[ClassMeasure, ...] = get_args(ClassMeasure)
    for name in names if measured else ():
        values = [value for each in measured if (value := each.get(name)) is not None]
        means[name] = float(np.mean(values)) if values else None
    return cast(ClassMeasures, means)


def _parts_of_ap(indptr: np.ndarray, ranks: np.ndarray, top: int) -> np.ndarray:
    """Of each relevant song, a number whose mean over its user's songs is AP at `top`."""
    sizes = np.diff(indptr)
    divisor = np.repeat(sizes / np.maximum(np.minimum(sizes, top), 1), sizes)
    found: np.ndarray = two_way.precisions(indptr, ranks, top) * divisor
    return found


def _differences(
    names: list[str],
    against: str,
    level: dict[str, float],
    draws: Mapping[str, two_way.Draws],
    confidence: float,
) -> list[Difference]:
    """All pairs, with Holm's correction over all of them, and over those with `against`."""
    found = {}
    for a, b in combinations(names, 2):
        found[a, b] = two_way.paired(draws[a], draws[b], level[a] - level[b], confidence)
    p = {_pair(*pair): difference.p for pair, difference in found.items()}
    adjusted = holm(p)
    adjusted_against = holm({_pair(*pair): p[_pair(*pair)] for pair in found if against in pair})
    return [
        {
            "a": a,
            "b": b,
            "difference": d.mean,
            "low": d.low,
            "high": d.high,
            "p": d.p,
            "p_holm": adjusted[_pair(a, b)],
            "p_holm_against": adjusted_against.get(_pair(a, b)),
        }
        for (a, b), d in found.items()
    ]


def _pair(a: str, b: str) -> str:
    return f"{a} against {b}"


def _ceilings(
    config: Config, workspace: Workspace, by: str, outcomes: list[Outcome]
) -> dict[str, float]:
    """By k: the mAP of knowing every song's class and how each user likes each class."""
    ks = sorted({each.job.fusion.k for each in outcomes if each.job.fusion and not each.failed})
    numbers = sorted({each.job.fold.number for each in outcomes})
    sums: dict[int, list[float]] = {k: [] for k in ks}
    for number in numbers:
        chosen = Fold(by, number).config(config)
        fold = fold_workspace(chosen, workspace)
        evaluation = read_evaluation(fold)
        relevant = evaluation.relevant
        ids = fold.read("ingest", "songs", ["song_id"])["song_id"].combine_chunks()
        user = np.repeat(np.arange(len(evaluation.users)), np.diff(relevant.indptr))
        for k in ks:
            labels = labels_workspace(chosen, fold, k).read("label", "labels", ["song_id", "class"])
            of_song = np.full(len(ids), k)  # songs without tags are a class of their own
            of_song[pc.index_in(labels["song_id"], value_set=ids).to_numpy()] = labels["class"]
            classes = of_song[evaluation.candidates]
            sizes = np.bincount(classes, minlength=k + 1)
            cells = user * (k + 1) + classes[relevant.songs]
            liked = np.bincount(cells, minlength=len(evaluation.users) * (k + 1))
            liked = liked.reshape(-1, k + 1)
            # The best order of the classes: by the share of their songs that the user likes.
            share = liked / np.maximum(sizes, 1)
            order = np.argsort(-share, axis=1, kind="stable")
            expected = expected_average_precision(
                sizes[order], np.take_along_axis(liked, order, axis=1), config.recommend.top
            )
            sums[k] += expected.tolist()
    return {str(k): float(np.mean(values)) for k, values in sums.items()}


def _folds(
    config: Config, workspace: Workspace, by: str, outcomes: list[Outcome], cells: Cells
) -> Evaluated:
    """What was evaluated, and a hash of it."""
    numbers = sorted({each.job.fold.number for each in outcomes})
    folds = [fold_workspace(Fold(by, number).config(config), workspace) for number in numbers]
    counts = [fold.require("users")["counts"] for fold in folds]
    relevant = np.diff(cells.indptr)
    left_out: dict[str, int] = defaultdict(int)
    for count in counts:
        for reason, users in count["users_left_out"].items():
            left_out[reason] += users
    shares = (0.0, 0.25, 0.5, 0.75, 0.95, 1.0)
    quantiles = np.quantile(relevant, shares, method="inverted_cdf")
    return {
        "folds": numbers,
        "users": len(relevant),
        "distinct_users": len(np.unique(cells.users)),
        "evaluable": sum(count["evaluable"] for count in counts),
        "users_left_out": dict(left_out),
        "candidates_mean": float(cells.candidates.mean()),
        "relevant_mean": float(relevant.mean()),
        "relevant_quantiles": {str(q): int(v) for q, v in zip(shares, quantiles, strict=True)},
        "hash": fingerprint(
            [[fold.require(stage)["key"] for stage in ("split", "users")] for fold in folds]
        ),
    }
