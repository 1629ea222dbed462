"""Evaluate: one row of metrics a user, and their means beside what chance reaches (paper 3.3).

Intervals are of users and of what the split keeps together: songs, or all songs of an artist. The
summary task holds five numbers a user, 40 MB at a million users, and four a song.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fusionrec import schemas
from fusionrec.evaluation.intervals import bootstrap_mean
from fusionrec.evaluation.metrics import (
    METRICS,
    mean_over_users,
    per_song_shares,
    per_user_metrics,
)
from fusionrec.ranking.split import kept_together
from pipelines import ingest, recommend, split, train
from pipelines.config import Config
from pipelines.runtime import sharding, tasks
from pipelines.runtime.command import as_command
from pipelines.runtime.shards import Shard, Written, shards_of
from pipelines.runtime.stage import Counts, Stage, resumable
from pipelines.runtime.workspace import StageRun, Workspace, part_name
from pipelines.split import song_groups


@dataclass(frozen=True)
class Evaluation:
    """The results of a run; the means are over `users`, accuracies of the test and training songs.

    Attributes
    ----------
    majority_share
        Accuracy of guessing the commonest class; None, as the accuracy, without test songs.
    train_songs, test_songs
        Songs that the accuracies are of.
    classes
        How many; None, as all accuracies, where the network was trained on taste, not on classes.
    map_interval, auc_interval
        Ends of the bootstrap intervals at `level`, of users and songs (artists, albums) both.
    random_map
        What a random order reaches; `lift` is `map` over it.
    candidates, relevant
        Songs ranked for a user, and those of them that are relevant.
    candidate_songs
        Songs ranked for anyone.
    users_left_out
        Why the other users have no list, with their numbers.
    top
        Songs of a list.
    """

    test_accuracy: float | None
    train_accuracy: float | None
    majority_share: float | None
    train_songs: int
    test_songs: int
    classes: int | None
    map: float
    map_interval: list[float]
    random_map: float
    lift: float
    auc: float
    auc_interval: list[float]
    recall: float
    ndcg: float
    reciprocal_rank: float
    candidates: float
    candidate_songs: int
    relevant: float
    users: int
    users_left_out: dict[str, int]
    level: float
    top: int


def work(config: Config, workspace: Workspace, run: StageRun) -> Counts:
    """Metrics of every part of the recommendations, then their summary."""
    top = workspace.require("recommend")["content"]["settings"]["recommend"]["top"]
    sharding.map_shards(
        run,
        resumable(run, "metrics", partial(_metrics_part, run, top), Written),
        shards_of(workspace, "recommend", "recommendations"),
        description="metrics",
    )
    summary = asdict(tasks.run_task(run, _summarise, config, run, top))
    run.write_json(summary, "summary.json")
    return summary


def _metrics_part(run: StageRun, top: int, shard: Shard) -> Written:
    table = run.workspace.read_part(
        "recommend",
        "recommendations",
        part_name(shard.part),
        ["user_id", "candidates", "relevant_ranks", "relevant_songs"],
    )
    lists = table["relevant_ranks"].combine_chunks()
    relevant = lists.value_lengths().to_numpy()
    indptr = np.concatenate([[0], np.cumsum(relevant)])
    ranks = lists.flatten().to_numpy()
    candidates = table["candidates"].to_numpy()
    columns = per_user_metrics(indptr, ranks, candidates, top)
    auc = columns["auc"]
    arrays = [table["user_id"].combine_chunks()]
    for field in list(schemas.METRICS)[1:]:
        undefined = np.isnan(auc) if field.name == "auc" else None
        arrays.append(pa.array(columns[field.name], field.type, mask=undefined))
    shares = per_song_shares(indptr, ranks, candidates, top)
    songs = pa.table({"song_id": table["relevant_songs"].combine_chunks().flatten(), **shares})
    run.write(_by_song(songs), "song_shares", shard.part)
    run.write(pa.Table.from_arrays(arrays, schema=schemas.METRICS), "metrics", shard.part)
    return Written(table.num_rows)


def _by_song(shares: pa.Table) -> pa.Table:
    """Shares added up, a row a song, by song id."""
    names = schemas.SONG_SHARES.names
    # Threads would add them up in another order each time.
    sums = shares.group_by("song_id", use_threads=False).aggregate(
        [(name, "sum") for name in names[1:]]
    )
    columns = [sums["song_id"], *(sums[f"{name}_sum"] for name in names[1:])]
    return pa.Table.from_arrays(columns, schema=schemas.SONG_SHARES).sort_by("song_id")


def _by_group(config: Config, workspace: Workspace) -> dict[str, np.ndarray]:
    """The shares of all users, added up over what the split keeps together, float64 (groups,)."""
    shares = _by_song(workspace.read("evaluate", "song_shares"))
    ids = workspace.read("ingest", "songs", ["song_id"])["song_id"].combine_chunks()
    group = song_groups(workspace, kept_together(config.split.by))[
        pc.index_in(shares["song_id"], value_set=ids).to_numpy()
    ]
    numbers = np.unique(group, return_inverse=True)[1]
    return {
        name: np.bincount(numbers, shares[name].to_numpy())
        for name in schemas.SONG_SHARES.names[1:]
    }


def _summarise(config: Config, run: StageRun, top: int) -> Evaluation:
    workspace, settings = run.workspace, config.evaluate
    table = workspace.read("evaluate", "metrics")

    def values(name: str) -> np.ndarray:
        return np.asarray(table[name].to_numpy(zero_copy_only=False), np.float64)

    shares = _by_group(config, workspace)

    def interval(name: str, users: str) -> list[float]:
        return list(
            bootstrap_mean(
                values(name),
                songs=(shares[name], shares[users]),
                seed=config.seed,
                resamples=settings.resamples,
                level=settings.level,
            )
        )

    trained = workspace.require("train")["counts"]
    ranked = workspace.require("recommend")["counts"]
    means = mean_over_users({name: values(name) for name in METRICS})
    return Evaluation(
        test_accuracy=trained.get("test_accuracy"),
        train_accuracy=trained.get("train_accuracy"),
        majority_share=trained.get("majority_share"),
        train_songs=trained["train_songs"],
        test_songs=trained["test_songs"],
        classes=trained.get("classes"),
        map=means["average_precision"],
        map_interval=interval("average_precision", "users"),
        random_map=means["random_level"],
        lift=means["average_precision"] / means["random_level"],
        auc=means["auc"],
        auc_interval=interval("auc", "auc_users"),
        recall=means["recall"],
        ndcg=means["ndcg"],
        reciprocal_rank=means["reciprocal_rank"],
        candidates=float(values("candidates").mean()),
        candidate_songs=ranked["candidates"],
        relevant=float(values("relevant").mean()),
        users=table.num_rows,
        users_left_out=ranked["users_left_out"],
        level=settings.level,
        top=top,
    )


STAGE = Stage(
    name="evaluate",
    needs=lambda config: (ingest.STAGE, split.STAGE, train.STAGE, recommend.STAGE),
    settings=lambda config: {"evaluate": config.evaluate.model_dump(), "seed": config.seed},
    work=work,
    version=2,
    published=("summary.json",),
)


if __name__ == "__main__":
    as_command(STAGE.name)
