"""Report: the paper's Table 1 and figures 4 to 10, measured on this workspace's songs.

Elbow curves and cluster sizes of both label embeddings are parallel tasks over k. Each row of
Table 1 is a training like any other, of a config of its own: it has checkpoints, an interrupted
report goes on, and a row that has been trained before is not trained again.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
import pyarrow as pa

from fusionrec.labels.classes import elbow, elbow_start, fit_kmeans, knee
from fusionrec.report import figures, paper
from fusionrec.report.text import as_csv
from fusionrec.tables import matrix, vectors
from pipelines import config as config_module
from pipelines import fuse, ingest, label, split, train
from pipelines.config import Config
from pipelines.label import embed_lists, tagged_songs
from pipelines.runtime import sharding, tasks
from pipelines.runtime.command import as_command
from pipelines.runtime.shards import Shard, Written
from pipelines.runtime.stage import Counts, Stage, resumable
from pipelines.runtime.workspace import StageRun, Workspace

EMBEDDINGS = {"multihot": paper.MULTIHOT_K, "word2vec": paper.WORD2VEC_K}
"""The label embeddings, and the k whose cluster sizes the paper shows."""


def work(config: Config, workspace: Workspace, run: StageRun) -> Counts:
    """Compute, then write tables and figures."""
    elbows = _elbows(config, run)
    rows: list[paper.MeasuredRun] = []
    curves: dict[str, Sequence[figures.EpochRow]] = {}
    for chosen in config.report.runs:
        row, curve = _table_1_row(config, workspace, run, chosen)
        rows.append(row)
        curves[f"k = {row.k}, eta = {row.eta:g}, p = {row.p:g}"] = curve
    run.write_bytes(as_csv([asdict(row) for row in rows]), "table_1.csv")
    table = paper.table_1(rows)
    run.write_bytes(table.encode(), "table_1.md")
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


@dataclass(frozen=True)
class EmbeddingShard(Shard):
    """A label embedding."""

    embedding: str


@dataclass(frozen=True)
class ClustersShard(EmbeddingShard):
    """A label embedding, and a number of clusters."""

    k: int


@dataclass(frozen=True)
class SizesReport:
    """Songs of each cluster."""

    embedding: str
    sizes: list[int]


def _elbows(config: Config, run: StageRun) -> dict[str, int | None]:
    """Draw elbow curves and cluster sizes; the elbow of each embedding."""
    shards = [EmbeddingShard(i, name) for i, name in enumerate(EMBEDDINGS)]
    sharding.map_shards(
        run,
        resumable(run, "lists", partial(_write_lists, config, run), Written),
        shards,
        description="label vectors",
    )
    ks = range(2, config.report.elbow_to + 1)
    points = [(name, k) for name in EMBEDDINGS for k in ks]
    sharding.map_shards(
        run,
        resumable(run, "starts", partial(_write_start, config.seed, run), Written),
        [ClustersShard(i, *point) for i, point in enumerate(points)],
        description="elbow curves",
    )
    found = tasks.gather([tasks.submit(run, _curve, run, name) for name in EMBEDDINGS])
    curves: dict[str, list[tuple[int, float]]] = dict(zip(EMBEDDINGS, found, strict=True))
    elbows = {name: knee(curve) for name, curve in curves.items()}
    _write(run, "elbow", figures.elbow_curves(curves, elbows))
    sizes = sharding.map_shards(
        run,
        partial(_sizes, config.seed, run),
        [ClustersShard(i, *point) for i, point in enumerate(EMBEDDINGS.items())],
        description="cluster sizes",
    )
    named = {f"{s.embedding}, k = {len(s.sizes)}": s.sizes for s in sizes}
    _write(run, "cluster_sizes", figures.cluster_sizes(named))
    return elbows


def _write_lists(config: Config, run: StageRun, shard: EmbeddingShard) -> Written:
    chosen = config_module.replaced(config, {"label.embedding": shard.embedding})
    songs = tagged_songs(chosen, run.workspace)
    list_vectors, _ = embed_lists(chosen, songs)
    columns = {"vector": vectors(list_vectors), "fitted_songs": pa.array(songs.fitted, pa.int32())}
    run.write(pa.table(columns), f"lists_{shard.embedding}")
    return Written(len(list_vectors))


def _read_lists(run: StageRun, embedding: str) -> tuple[np.ndarray, np.ndarray]:
    table = run.workspace.read(run.stage, f"lists_{embedding}")
    return matrix(table["vector"]), table["fitted_songs"].to_numpy()


def _write_start(seed: int, run: StageRun, shard: ClustersShard) -> Written:
    """Where the elbow curve starts from at this k; nowhere, if there are too few vectors."""
    list_vectors, songs = _read_lists(run, shard.embedding)
    fitted = songs > 0
    start = elbow_start(list_vectors[fitted], shard.k, sample_weight=songs[fitted], seed=seed)
    if start is None:
        return Written(0)
    run.write(pa.table({"centroid": vectors(start)}), _starts(shard.embedding), shard.k)
    return Written(len(start))


def _curve(run: StageRun, embedding: str) -> list[tuple[int, float]]:
    """The elbow curve over all k that have a start."""
    list_vectors, songs = _read_lists(run, embedding)
    workspace, fitted = run.workspace, songs > 0
    starts = (
        matrix(workspace.read_part(run.stage, _starts(embedding), name)["centroid"])
        for name in workspace.parts(run.stage, _starts(embedding))
    )
    return elbow(list_vectors[fitted], starts, sample_weight=songs[fitted])


def _starts(embedding: str) -> str:
    return f"starts_{embedding}"


def _sizes(seed: int, run: StageRun, shard: ClustersShard) -> SizesReport:
    list_vectors, songs = _read_lists(run, shard.embedding)
    fitted = songs > 0
    # A small corpus may have fewer distinct lists than the paper has clusters.
    k = min(shard.k, len(np.unique(list_vectors[fitted], axis=0)))
    classes = fit_kmeans(list_vectors[fitted], k, sample_weight=songs[fitted], seed=seed)
    of_list, _ = classes.predict(list_vectors[fitted])
    sizes = np.bincount(of_list, weights=songs[fitted], minlength=k)
    return SizesReport(shard.embedding, [int(size) for size in sizes])


# --- Table 1, figures 8 to 10 ------------------------------------------------------------


def _table_1_row(
    config: Config, workspace: Workspace, run: StageRun, chosen: config_module.TableRun
) -> tuple[paper.MeasuredRun, list[figures.EpochRow]]:
    """A row of Table 1, and the accuracies of its epochs."""
    values = {"label.k": chosen.k, "train.eta": chosen.eta, "train.p": chosen.p}
    row = train.of_classes(config_module.replaced(config, values))
    trained = train.STAGE.run(row, workspace, current=False)
    run.use(trained)
    counts = trained["counts"]
    content = workspace.at({"train": trained["key"]}).read_bytes("train", "epochs.csv")
    text = io.StringIO(content.decode())
    curve: list[figures.EpochRow] = [
        {key: float(value) if value else None for key, value in line.items()}
        for line in csv.DictReader(text)
    ]
    measured = paper.MeasuredRun(
        chosen.k,
        chosen.eta,
        chosen.p,
        counts["epochs"],
        counts["train_accuracy"],
        counts["test_accuracy"],
        counts["majority_share"],
    )
    return measured, curve


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
    needs=lambda config: (ingest.STAGE, split.STAGE, fuse.STAGE),
    settings=lambda config: {
        **train.key_settings(train.of_classes(config)),
        "label": config.label.model_dump(exclude={"k"}),
        "report": config.report.model_dump(mode="json"),
    },
    work=work,
    does=(label.STAGE, train.STAGE),
    refresh_first=(fuse.STAGE,),
    staging=tuple(map(_starts, EMBEDDINGS)),
    published=("*.md", "*.csv", "*.svg", "*.png"),
)


if __name__ == "__main__":
    as_command(STAGE.name)
