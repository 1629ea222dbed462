"""Evaluate: one row of metrics a user, and their means beside what chance reaches (paper 3.3).

The summary task holds five numbers a user, 40 MB at a million users.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from fusionrec import schemas
from fusionrec.evaluation.intervals import bootstrap_mean
from fusionrec.evaluation.metrics import METRICS, mean_over_users, per_user_metrics
from pipelines.config import Config
from pipelines.runtime import sharding, tasks
from pipelines.runtime.command import as_command
from pipelines.runtime.stage import Counts, Stage, resumable
from pipelines.runtime.workspace import StageRun, Workspace, part_name


def work(config: Config, workspace: Workspace, run: StageRun) -> Counts:
    """Metrics of every part of the recommendations, then their summary."""
    top = workspace.require("recommend")["config"]["settings"]["recommend"]["top"]
    parts = [{"part": int(n[5:10])} for n in workspace.parts("recommend", "recommendations")]
    sharding.map_shards(
        run,
        resumable(run, "metrics", partial(_metrics_part, run, top)),
        parts,
        description="metrics",
    )
    summary = {**tasks.run_task(run, _summarise, config, run), "top": top}
    run.write_json(summary, "summary.json")
    return summary


def _metrics_part(run: StageRun, top: int, shard: dict[str, Any]) -> Counts:
    table = run.workspace.read_part(
        "recommend",
        "recommendations",
        part_name(shard["part"]),
        ["user_id", "candidates", "relevant_ranks"],
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
    run.write(pa.Table.from_arrays(arrays, schema=schemas.METRICS), "metrics", shard["part"])
    return {"users": table.num_rows}


def _summarise(config: Config, run: StageRun) -> Counts:
    workspace, settings = run.workspace, config.evaluate
    table = workspace.read("evaluate", "metrics")

    def values(name: str) -> np.ndarray:
        return np.asarray(table[name].to_numpy(zero_copy_only=False), np.float64)

    def interval(name: str) -> list[float]:
        return list(
            bootstrap_mean(
                values(name),
                seed=config.seed,
                resamples=settings.resamples,
                level=settings.level,
            )
        )

    trained = workspace.require("train")["counts"]
    ranked = workspace.require("recommend")["counts"]
    means = mean_over_users({name: values(name) for name in METRICS})
    return {
        "test_accuracy": trained["test_accuracy"],
        "train_accuracy": trained["train_accuracy"],
        "majority_share": trained["majority_share"],
        "train_songs": trained["train_songs"],
        "test_songs": trained["test_songs"],
        "classes": trained["classes"],
        "map": means["average_precision"],
        "map_interval": interval("average_precision"),
        "random_map": means["random_level"],
        "lift": means["average_precision"] / means["random_level"],
        "auc": means["auc"],
        "auc_interval": interval("auc"),
        "recall": means["recall"],
        "ndcg": means["ndcg"],
        "reciprocal_rank": means["reciprocal_rank"],
        "candidates": float(values("candidates").mean()),
        "candidate_songs": ranked["candidates"],
        "relevant": float(values("relevant").mean()),
        "users": table.num_rows,
        "users_left_out": ranked["users_left_out"],
        "level": settings.level,
    }


STAGE = Stage(
    name="evaluate",
    needs=lambda config: ("train", "recommend"),
    settings=lambda config: {"evaluate": config.evaluate.model_dump(), "seed": config.seed},
    work=work,
)


if __name__ == "__main__":
    as_command(STAGE.name)
