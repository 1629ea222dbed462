"""Golden results: a few figures of each stage on a sample corpus, and the version they are of.

    python -m tests.pipelines.golden

writes them anew, after a stage's `version` was raised.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from fusionrec.formats.sample.corpus import write_sample
from fusionrec.hashing import stable_hash
from fusionrec.tables import matrix
from pipelines.run import STAGES, run
from pipelines.runtime.workspace import Workspace
from tests.pipelines import beside
from tests.pipelines.inline import load, without_ray

FILE = Path(__file__).with_name("golden.json")

Figures = dict[str, float]


def _sum_of_hashes(values: list[object]) -> float:
    """One figure that changes with any of the values, whatever their order."""
    texts = [str(value) for value in values]
    return float(np.sum(stable_hash(texts, seed=0, purpose="golden").astype(np.float64)) / 2**63)


def _ingest(workspace: Workspace) -> Figures:
    counts = workspace.require("ingest")["counts"]
    songs, plays = workspace.read("ingest", "songs"), workspace.read("ingest", "plays")
    columns = {
        name: _sum_of_hashes(songs[name].to_pylist())
        for name in ("song_id", "title", "mbtags", "similar_artists")
    }
    return {
        **{name: counts[name] for name in ("tracks", "songs", "lyrics", "plays", "users")},
        **{name: counts[name] for name in ("other_songs", "other_plays")},
        **columns,
        "tempo": float(np.nansum(songs["tempo"].to_numpy())),
        "total_plays": float(plays["plays"].to_numpy().sum()),
        "rejects": workspace.read("ingest", "rejects").num_rows,
    }


def _split(workspace: Workspace) -> Figures:
    table = workspace.read("split", "split")
    pairs = zip(table["song_id"].to_pylist(), table["part"].to_pylist(), strict=True)
    return {"parts": _sum_of_hashes(list(pairs))}


def _label(workspace: Workspace) -> Figures:
    counts = workspace.require("label")["counts"]
    names = ("tagged_songs", "distinct_tag_lists", "inertia")
    return {name: counts[name] for name in names}


def _pretrain(workspace: Workspace) -> Figures:
    counts = workspace.require("pretrain")["counts"]
    return {n: counts[n] for n in ("bags", "steps", "parameters", "heldout_perplexity")}


def _embed(workspace: Workspace) -> Figures:
    found: Figures = {}
    for name in ("metadata", "lyrics"):
        table = workspace.read("embed", name)
        rows = matrix(table["vector"]).astype(np.float64)
        found[f"{name}_present"] = int(table["present"].to_numpy(zero_copy_only=False).sum())
        found[f"{name}_norm"] = float(np.linalg.norm(rows))
        found[f"{name}_spread"] = float(np.linalg.norm(rows - rows.mean(0)))
    return found


def _fuse(workspace: Workspace) -> Figures:
    counts = workspace.require("fuse")["counts"]
    rows = matrix(workspace.read("fuse", "fused")["vector"]).astype(np.float64)
    return {
        "features": counts["features"],
        "explained_variance": counts["explained_variance"],
        "norm": float(np.linalg.norm(rows)),
    }


def _train(workspace: Workspace) -> Figures:
    counts = workspace.require("train")["counts"]
    F = matrix(workspace.read("train", "song_vectors")["probabilities"]).astype(np.float64)
    entropy = -(F * np.log(np.maximum(F, 1e-12))).sum(1).mean()
    return {
        **{name: counts[name] for name in ("parameters", "classes", "train_songs", "epochs")},
        "loss": counts["loss"],
        "entropy": float(entropy),
        **_on_taste(workspace),
    }


def _on_taste(workspace: Workspace) -> Figures:
    """Of the trainings by the other objectives, which lie beside the current one."""
    found: Figures = {}
    for key in workspace.results("train"):
        reading = workspace.at({"train": key})
        counts = reading.require("train")["counts"]
        objective = counts.get("objective")
        if objective is not None:
            names = ("dimensions", "users_with_history", "loss", "validation_loss")
            found |= {f"{objective}_{name}": counts[name] for name in names}
            for artifact in ("song_vectors", "user_vectors"):
                rows = matrix(reading.read("train", artifact)["vector"]).astype(np.float64)
                found[f"{objective}_{artifact}"] = float(np.linalg.norm(rows))
    return found


def _blend(workspace: Workspace) -> Figures:
    counts = workspace.require("blend")["counts"]
    grams = [
        rows.T @ rows
        for rows in (
            matrix(workspace.read("blend", name)["vector"]).astype(np.float64)
            for name in ("songs", "users")
        )
    ]
    exact = ("signals", "songs_learned_from", "other_songs", "users_with_history")
    return {
        **{name: counts[name] for name in exact},
        "dimensions": counts["dimensions"],
        # The root of the sum of all squared scores.
        "norm": float(np.sqrt((grams[0] * grams[1]).sum())),
    }


def _recommend(workspace: Workspace) -> Figures:
    lists = workspace.read("recommend", "recommendations")
    return {
        "users": lists.num_rows,
        "candidates": float(lists["candidates"].to_numpy().sum()),
        "relevant": len(lists["relevant_ranks"].combine_chunks().flatten()),
    }


def _evaluate(workspace: Workspace) -> Figures:
    counts = workspace.require("evaluate")["counts"]
    return {name: counts[name] for name in ("random_map", "map", "auc", "users")}


def _report(workspace: Workspace) -> Figures:
    found: Figures = {}
    written = beside.tables(workspace, "report")
    for embedding in ("multihot", "word2vec"):
        curve = [row for row in written["elbow.csv"] if row["embedding"] == embedding]
        found[f"{embedding}_points"] = len(curve)
        found[f"{embedding}_inertia"] = sum(float(row["inertia"]) for row in curve)
    found["songs"] = sum(int(row["songs"]) for row in written["cluster_sizes.csv"])
    found["curves"] = len(written["accuracy.csv"])
    for number, row in enumerate(written["table_1.csv"]):
        found[f"majority_{number}"] = float(row["majority_share"])
    return found


def _tune(workspace: Workspace) -> Figures:
    trials = beside.tables(workspace, "tune")["trials.json"]
    counts = workspace.require("tune")["counts"]
    return {
        **{name: counts[name] for name in ("trials", "failed", "best")},
        "epochs": sum(row["epoch"] for row in trials),
        "map": float(np.mean([row["validation_map"] for row in trials])),
        "accuracy": float(np.mean([row["validation_accuracy"] for row in trials])),
    }


def _compare(workspace: Workspace) -> Figures:
    counts = workspace.require("compare")["counts"]
    (table,) = beside.tables(workspace, "compare")["comparison.json"].values()
    found: Figures = {name: counts[name] for name in ("folds", "rankings", "failed", "methods")}
    found |= {name: table["folds"][name] for name in ("users", "relevant_mean", "candidates_mean")}
    found["ceiling"] = float(np.mean([*table["ceilings"].values()]))
    for row in table["rows"]:
        method = row["method"]
        found[f"{method}_map"] = row["average_precision"]
        found[f"{method}_without_input"] = row["without_input"]
    popular = next(row for row in table["rows"] if row["method"] == "popularity")
    names = ("recall", "ndcg", "auc", "random_level", "low", "high", "users_low", "coverage")
    found |= {name: popular[name] for name in (*names, "gini", "novelty", "diversity")}
    return found


OF: dict[str, Callable[[Workspace], Figures]] = {
    "ingest": _ingest,
    "split": _split,
    "label": _label,
    "pretrain": _pretrain,
    "embed": _embed,
    "fuse": _fuse,
    "train": _train,
    "blend": _blend,
    "recommend": _recommend,
    "evaluate": _evaluate,
    "report": _report,
    "tune": _tune,
    "compare": _compare,
}


ALL = tuple({stage.name: stage for stage in (*STAGES, *beside.STAGES.values())}.values())


def golden(place: Path) -> dict[str, dict[str, object]]:
    """Version and figures of every stage of a workspace in which all are finished."""
    workspace = Workspace(str(place))
    return {s.name: {"version": s.version, "figures": OF[s.name](workspace)} for s in ALL}


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        corpus, place = Path(scratch) / "corpus", Path(scratch) / "w"
        write_sample(corpus, songs=150, users=60, seed=3)
        with without_ray():
            run(load(corpus, place))
        beside.finish(corpus, place)
        FILE.write_text(json.dumps(golden(place), indent=1) + "\n")


if __name__ == "__main__":
    main()
