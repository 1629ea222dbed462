"""Report: the paper's Table 1 and figures 4 to 10, measured on this workspace's songs.

Elbow curves and cluster sizes of both label embeddings are parallel tasks over k. Each row of
Table 1 is a workspace of its own below the stage's folder, with its own `label` and `train`
and the features of this one; so it has checkpoints, and an interrupted report goes on.
"""

from __future__ import annotations

import csv
import io
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from fusionrec.labels.classes import fit_kmeans, knee
from fusionrec.report import figures, paper
from fusionrec.report.text import as_csv
from fusionrec.tables import matrix, vectors
from pipelines import config as config_module
from pipelines import fuse, label, train
from pipelines.config import Config
from pipelines.label import elbow_curve, embed_lists, tagged_songs, write_start
from pipelines.runtime import sharding, tasks
from pipelines.runtime.command import as_command
from pipelines.runtime.stage import Counts, Stage, resumable
from pipelines.runtime.workspace import StageRun, Workspace

EMBEDDINGS = {"multihot": paper.MULTIHOT_K, "word2vec": paper.WORD2VEC_K}
"""The label embeddings, and the k whose cluster sizes the paper shows."""


def work(config: Config, workspace: Workspace, run: StageRun) -> Counts:
    """Compute, then write tables and figures."""
    elbows = _elbows(config, run)
    rows = [_table_1_row(config, workspace, run, chosen) for chosen in config.report.runs]
    run.write_bytes(as_csv([{**row, "curve": None} for row in rows]), "table_1.csv")
    table = paper.table_1(rows)
    run.write_bytes(table.encode(), "table_1.md")
    curves = {f"k = {r['k']}, eta = {r['eta']:g}, p = {r['p']:g}": r["curve"] for r in rows}
    _write(run, "accuracy", figures.accuracy_by_epoch(curves))
    run.write_bytes(_markdown(config, table, elbows).encode(), "report.md")
    return {
        **{f"elbow of {name}": elbow for name, elbow in elbows.items()},
        "runs": len(rows),
    }


def _write(run: StageRun, name: str, drawing: figures.Drawing) -> None:
    for file, content in drawing.files(name).items():
        run.write_bytes(content, file)


# --- figures 4 to 7 ----------------------------------------------------------------------


def _elbows(config: Config, run: StageRun) -> dict[str, int | None]:
    """Draw elbow curves and cluster sizes; the elbow of each embedding."""
    shards = [{"part": i, "embedding": name} for i, name in enumerate(EMBEDDINGS)]
    sharding.map_shards(
        run,
        resumable(run, "lists", partial(_write_lists, config, run)),
        shards,
        description="label vectors",
    )
    ks = range(2, config.report.elbow_to + 1)
    points = [{"embedding": name, "k": k} for name in EMBEDDINGS for k in ks]
    sharding.map_shards(
        run,
        resumable(run, "starts", partial(_start, config.seed, run)),
        [{"part": i, **point} for i, point in enumerate(points)],
        description="elbow curves",
    )
    found = [tasks.submit(run, _curve, run, name) for name in EMBEDDINGS]
    curves: dict[str, list[tuple[int, float]]] = dict(
        zip(EMBEDDINGS, tasks.gather(found), strict=True)
    )
    elbows = {name: knee(curve) for name, curve in curves.items()}
    _write(run, "elbow", figures.elbow_curves(curves, elbows))
    sizes = sharding.map_shards(
        run,
        partial(_sizes, config.seed, run),
        [{"embedding": name, "k": k} for name, k in EMBEDDINGS.items()],
        description="cluster sizes",
    )
    named = {f"{s['embedding']}, k = {len(s['sizes'])}": s["sizes"] for s in sizes}
    _write(run, "cluster_sizes", figures.cluster_sizes(named))
    return elbows


def _write_lists(config: Config, run: StageRun, shard: dict[str, Any]) -> Counts:
    chosen = config_module.replaced(config, {"label.embedding": shard["embedding"]})
    songs = tagged_songs(chosen, run.workspace)
    list_vectors, _ = embed_lists(chosen, songs)
    columns = {"vector": vectors(list_vectors), "fitted_songs": pa.array(songs.fitted, pa.int32())}
    run.write(pa.table(columns), f"lists_{shard['embedding']}")
    return {"lists": len(list_vectors)}


def _read_lists(run: StageRun, embedding: str) -> tuple[np.ndarray, np.ndarray]:
    table = run.workspace.read(run.stage, f"lists_{embedding}")
    return matrix(table["vector"]), table["fitted_songs"].to_numpy()


def _start(seed: int, run: StageRun, shard: dict[str, Any]) -> Counts:
    name = shard["embedding"]
    return write_start(run, f"starts_{name}", *_read_lists(run, name), shard["k"], seed)


def _curve(run: StageRun, embedding: str) -> list[tuple[int, float]]:
    return elbow_curve(run, f"starts_{embedding}", *_read_lists(run, embedding))


def _sizes(seed: int, run: StageRun, shard: dict[str, Any]) -> Counts:
    list_vectors, songs = _read_lists(run, shard["embedding"])
    fitted = songs > 0
    # A small corpus may have fewer distinct lists than the paper has clusters.
    k = min(shard["k"], len(np.unique(list_vectors[fitted], axis=0)))
    classes = fit_kmeans(list_vectors[fitted], k, sample_weight=songs[fitted], seed=seed)
    of_list, _ = classes.predict(list_vectors[fitted])
    sizes = np.bincount(of_list, weights=songs[fitted], minlength=k)
    return {"embedding": shard["embedding"], "sizes": [int(size) for size in sizes]}


# --- Table 1, figures 8 to 10 ------------------------------------------------------------


def _table_1_row(
    config: Config, workspace: Workspace, run: StageRun, chosen: config_module.TableRun
) -> dict[str, Any]:
    values = {"label.k": chosen.k, "train.eta": chosen.eta, "train.p": chosen.p}
    row = config_module.replaced(config, {**values, "label.elbow": []})
    name = f"k{chosen.k}-eta{chosen.eta:g}-p{chosen.p:g}"
    shared = ("ingest", "split", "embed", "fuse")
    variant = workspace.variant(run.stage, "runs", name, stages=shared)
    label.STAGE.run(row, variant)
    counts = train.STAGE.run(row, variant)["counts"]
    text = io.StringIO(variant.read_bytes("train", "epochs.csv").decode())
    curve = [
        {key: float(value) if value else None for key, value in line.items()}
        for line in csv.DictReader(text)
    ]
    measured = ("epochs", "train_accuracy", "test_accuracy", "majority_share")
    return {
        "k": chosen.k,
        "eta": chosen.eta,
        "p": chosen.p,
        **{key: counts[key] for key in measured},
        "curve": curve,
    }


def _markdown(config: Config, table: str, elbows: dict[str, int | None]) -> str:
    found = ", ".join(f"{name} {elbow or 'none'}" for name, elbow in elbows.items())
    return "\n".join(
        (
            "# Report",
            "",
            f"Split by {config.split.by}, seed {config.seed}; label classes from "
            f"{config.label.source} ({config.label.embedding}); features: "
            f"{', '.join(config.embed.modalities)}. The paper's figures (Öman & Choi, Table 1) "
            "are of 116,479 songs of the Million Song Dataset, 2,000 epochs.",
            "",
            "## Table 1: accuracy",
            "",
            table,
            "![accuracy by epoch](accuracy.svg)",
            "",
            "## Label classes",
            "",
            f"Elbows: {found}.",
            "",
            "![elbow curves](elbow.svg)",
            "",
            "![cluster sizes](cluster_sizes.svg)",
            "",
        )
    )


STAGE = Stage(
    name="report",
    needs=lambda config: ("ingest", "split", "fuse"),
    settings=lambda config: {
        **train.key_settings(config),
        "label": config.label.model_dump(exclude={"elbow", "k"}),
        "report": config.report.model_dump(mode="json"),
    },
    work=work,
    refresh_first=(fuse.STAGE,),
)


if __name__ == "__main__":
    as_command(STAGE.name)
