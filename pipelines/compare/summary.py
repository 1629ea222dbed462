"""The tables of a comparison from the ranks that its methods found, a split a task."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pyarrow.compute as pc

from fusionrec.errors import DataError
from fusionrec.evaluation import two_way
from fusionrec.evaluation.ceiling import expected_average_precision
from fusionrec.evaluation.repeats import over_repeats, times_drawn
from fusionrec.evaluation.significance import holm
from fusionrec.ranking.split import SplitBy
from fusionrec.report.summary import (
    Difference,
    Evaluated,
    ExternalLists,
    Measured,
    Row,
    Summary,
)
from pipelines.compare.folds import Fold, fold_workspace, labels_workspace, read_evaluation
from pipelines.compare.jobs import Outcome, method_names
from pipelines.compare.rankings import Cells, measured, read_cells
from pipelines.config import Config
from pipelines.runtime.workspace import Workspace, fingerprint


def summarise(
    config: Config, workspace: Workspace, by: SplitBy, outcomes: list[Outcome]
) -> Summary:
    """Every method's row of a split, the differences between them, and what was evaluated."""
    top, compare = config.recommend.top, config.compare
    failed = {each.job.name: each.failed for each in outcomes if each.failed}
    by_name: dict[str, dict[int, list[Outcome]]] = defaultdict(lambda: defaultdict(list))
    for outcome in outcomes:
        if outcome.job.name not in failed:
            by_name[outcome.job.name][outcome.job.seed].append(outcome)
    if not by_name:
        raise DataError(f"compare: no method could be computed: {failed}")
    cells = read_cells(workspace, by, next(iter(by_name.values())))
    rows_of: dict[str, Measured] = {}
    precision: dict[str, np.ndarray] = {}
    for name, seeds in by_name.items():
        rows_of[name], precision[name] = measured(workspace, seeds, top)
    draws = _draws(config, cells, precision)
    by_users = _resampled(config, cells, {n: p.mean(axis=0) for n, p in precision.items()}, False)
    names = sorted(rows_of, key=method_names(config).index)
    rows: list[Row] = []
    for name in names:
        low, high = two_way.interval(draws[name], config.evaluate.level)
        users_low, users_high = two_way.interval(by_users[name], config.evaluate.level)
        rows.append(
            {
                **rows_of[name],
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
        "differences": _differences(names, against, level, draws, config.evaluate.level),
        "failed": failed,
        "ceilings": _ceilings(config, workspace, outcomes),
        "external": {
            name: _external([each for of_seed in by_name[name].values() for each in of_seed])
            for name in config.compare.external
            if name in names
        },
        "folds": _folds(config, workspace, outcomes, cells),
    }


def _external(outcomes: list[Outcome]) -> ExternalLists:
    """What all folds have not found, and each of them for itself."""
    of_file, by_fold = outcomes[0].external, [each.external for each in outcomes]
    return {
        "lists": of_file["lists"],
        "unknown_users": of_file["unknown_users"],
        "unknown_songs": of_file["unknown_songs"],
        "without_list": sum(counts["without_list"] for counts in by_fold),
        "without_candidate": sum(counts["without_candidate"] for counts in by_fold),
    }


def _resampled(
    config: Config, cells: Cells, columns: Mapping[str, np.ndarray], two: bool
) -> dict[str, two_way.Draws]:
    return two_way.resample(
        cells.indptr,
        cells.songs,
        columns,
        clusters=cells.users,
        count="cells",
        seed=config.seed,
        resamples=config.compare.resamples,
        two_way=two,
    )


def _draws(
    config: Config, cells: Cells, precision: Mapping[str, np.ndarray]
) -> dict[str, two_way.Draws]:
    """Resampled mAP of every method: over users, songs, its own seeds, and cuts into folds."""
    cuts = np.unique(cells.again)
    of_cell = np.repeat(cells.again, np.diff(cells.indptr))
    columns = {
        # All cuts together are the mean over them.
        f"{seed} {cut} {name}": np.where(of_cell == cut, row, 0.0) * len(cuts)
        for name, rows in precision.items()
        for seed, row in enumerate(rows)
        for cut in cuts
    }
    drawn = _resampled(config, cells, columns, True)
    resamples = config.compare.resamples
    # The methods are on the same cuts, but a seed of one has nothing to do with that of another.
    of_cuts = times_drawn(len(cuts), resamples, seed=config.seed, purpose=0)
    found = {}
    for number, (name, rows) in enumerate(precision.items(), 1):
        of_seeds = times_drawn(len(rows), resamples, seed=config.seed, purpose=number)
        by_seed = [
            over_repeats(np.array([drawn[f"{seed} {cut} {name}"] for cut in cuts]), of_cuts)
            for seed in range(len(rows))
        ]
        found[name] = over_repeats(np.array(by_seed), of_seeds)
    return found


def _default_against(outcomes: list[Outcome], names: list[str]) -> str:
    jobs = [outcome.job for outcome in outcomes]
    networks = [job.name for job in jobs if job.method == "fusion" and job.name in names]
    return networks[-1] if networks else names[0]


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


def _of(outcomes: list[Outcome]) -> list[Fold]:
    """The folds of these, in order."""
    folds = {each.job.fold for each in outcomes}
    return sorted(folds, key=lambda fold: (fold.again, fold.number))


def _ceilings(config: Config, workspace: Workspace, outcomes: list[Outcome]) -> dict[str, float]:
    """By k: the mAP of knowing every song's class and how each user likes each class."""
    ks = sorted({each.job.fusion.k for each in outcomes if each.job.fusion and not each.failed})
    sums: dict[int, list[float]] = {k: [] for k in ks}
    for each in _of(outcomes):
        chosen = each.config(config)
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
    config: Config, workspace: Workspace, outcomes: list[Outcome], cells: Cells
) -> Evaluated:
    """What was evaluated, and a hash of it."""
    chosen = _of(outcomes)
    folds = [fold_workspace(fold.config(config), workspace) for fold in chosen]
    counts = [fold.require("users")["counts"] for fold in folds]
    relevant = np.diff(cells.indptr)
    left_out: dict[str, int] = defaultdict(int)
    for count in counts:
        for reason, users in count["users_left_out"].items():
            left_out[reason] += users
    shares = (0.0, 0.25, 0.5, 0.75, 0.95, 1.0)
    quantiles = np.quantile(relevant, shares, method="inverted_cdf")
    return {
        "folds": sorted({fold.number for fold in chosen}),
        "fold_seeds": len({fold.again for fold in chosen}),
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
