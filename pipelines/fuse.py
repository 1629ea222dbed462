"""Fuse: standard scaling, concatenation and PCA (paper 3.2, 5.3), fitted on training songs.

Two passes over the features, as map-reduce: moments of each modality over the songs that
have it, then the covariance of the scaled, concatenated rows. What is reduced are D x D
sums in float64 (9 MB for D = 1,073), from at most `_GROUPS` tasks; their number is fixed,
so that rounding does not depend on the cluster.
"""

from __future__ import annotations

from functools import partial, reduce
from operator import add
from typing import Any

import numpy as np
import pyarrow as pa
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from fusionrec import schemas
from fusionrec.config import Config
from fusionrec.errors import DataError
from fusionrec.features.moments import PCA, CoMoments, Moments, Scaler
from pipelines import cluster
from pipelines.stage import Counts, Stage, resumable
from pipelines.tables import matrix, vectors
from pipelines.workspace import StageRun, Workspace, part_name, part_number

_GROUPS = 16
Arrays = dict[str, np.ndarray]


def work(config: Config, workspace: Workspace, run: StageRun) -> Counts:
    """Fit scaler and PCA on training songs, then transform all songs."""
    parts = [part_number(name) for name in workspace.parts("ingest", "songs")]
    groups = [
        {"part": i, "parts": group.tolist()}
        for i, group in enumerate(np.array_split(parts, min(_GROUPS, len(parts))))
    ]
    modalities = config.embed.modalities
    cluster.map_shards(
        partial(_moments, run, modalities), groups, description="moments of the features"
    )
    cluster.run_task(_fit_scaler, run, len(groups))
    cluster.map_shards(
        partial(_covariance, run, modalities, config.fuse.missing),
        groups,
        description="covariance of the features",
    )
    fitted = cluster.run_task(_fit_pca, run, len(groups), config.fuse.variance)
    reports = cluster.map_shards(
        resumable(run, "fused", partial(_transform, run, modalities, config.fuse.missing)),
        [{"part": part} for part in parts],
        description="fusing",
    )
    workspace.delete(run.stage, "sums")
    return {
        **fitted,
        "songs": sum(report["rows"] for report in reports),
        "songs_with_features": sum(report["present"] for report in reports),
        "songs_without": {
            name: sum(report["missing"][name] for report in reports) for name in modalities
        },
    }


def read_features(
    workspace: Workspace, modalities: tuple[str, ...], part: int
) -> tuple[pa.ChunkedArray, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """One part's song ids, rows (n, D), mask (n, D) and each modality's presence (n,)."""
    rows, masks, present = [], [], {}
    songs = None
    for modality in modalities:
        table = workspace.read_part("embed", modality, part_name(part))
        songs = table["song_id"]
        values = matrix(table["vector"])
        here = table["present"].to_numpy(zero_copy_only=False)
        rows.append(values)
        masks.append(np.broadcast_to(here[:, None], values.shape))
        present[modality] = here
    assert songs is not None
    return songs, np.concatenate(rows, axis=1), np.concatenate(masks, axis=1), present


def _training_rows(
    run: StageRun, modalities: tuple[str, ...], part: int
) -> tuple[np.ndarray, np.ndarray]:
    _, rows, mask, _ = read_features(run.workspace, modalities, part)
    split = run.workspace.read_part("split", "split", part_name(part), ["part"])["part"]
    train = split.to_numpy(zero_copy_only=False) == "train"
    return rows[train], mask[train]


def _moments(run: StageRun, modalities: tuple[str, ...], shard: dict[str, Any]) -> Counts:
    each = (Moments.of(*_training_rows(run, modalities, part)) for part in shard["parts"])
    total = reduce(add, each)
    _save(run, "moments", shard["part"], vars(total))
    return {}


def _fit_scaler(run: StageRun, groups: int) -> None:
    total = reduce(add, (Moments(**_load(run, "moments", i)) for i in range(groups)))
    if not total.count.any():
        raise DataError("no training song has features; check the embed and split reports")
    scaler = Scaler.fit(total)
    _save(run, "scaler", 0, vars(scaler))


def _covariance(
    run: StageRun, modalities: tuple[str, ...], missing: str, shard: dict[str, Any]
) -> Counts:
    scaler = Scaler(**_load(run, "scaler", 0))
    total = None
    for part in shard["parts"]:
        rows, mask = _training_rows(run, modalities, part)
        if missing == "drop":
            complete = mask.all(axis=1)
            rows, mask = rows[complete], mask[complete]
        sums = CoMoments.of(scaler.transform(rows, mask))
        total = sums if total is None else total + sums
    assert total is not None
    arrays = {"total": total.total, "products": total.products, "count": np.array([total.count])}
    _save(run, "covariance", shard["part"], arrays)
    return {}


def _fit_pca(run: StageRun, groups: int, variance: float) -> Counts:
    sums = (_load(run, "covariance", i) for i in range(groups))
    total = reduce(add, (CoMoments(int(s["count"][0]), s["total"], s["products"]) for s in sums))
    pca = PCA.fit(total, variance)
    scaler = _load(run, "scaler", 0)
    run.write_bytes(
        save_safetensors(
            {
                "scaler_mean": scaler["mean"],
                "scaler_scale": scaler["scale"],
                "pca_mean": np.ascontiguousarray(pca.mean),
                "pca_components": np.ascontiguousarray(pca.components),
                "pca_explained": np.ascontiguousarray(pca.explained),
            }
        ),
        "transforms.safetensors",
    )
    return {
        "training_songs": total.count,
        "features": len(pca.mean),
        "components": len(pca.components),
        "explained_variance": float(pca.explained.sum()),
    }


def _transform(
    run: StageRun, modalities: tuple[str, ...], missing: str, shard: dict[str, Any]
) -> Counts:
    fitted = load_safetensors(run.workspace.read_bytes(run.stage, "transforms.safetensors"))
    scaler = Scaler(fitted["scaler_mean"], fitted["scaler_scale"])
    pca = PCA(fitted["pca_mean"], fitted["pca_components"], fitted["pca_explained"])
    songs, rows, mask, present = read_features(run.workspace, modalities, shard["part"])
    fused = pca.transform(scaler.transform(rows, mask))
    usable: np.ndarray = np.all(mask, axis=1) if missing == "drop" else np.any(mask, axis=1)
    run.write(
        pa.Table.from_arrays(
            [songs.combine_chunks(), vectors(fused), pa.array(usable)],
            schema=schemas.features(fused.shape[1]),
        ),
        "fused",
        shard["part"],
    )
    return {
        "rows": len(usable),
        "present": int(usable.sum()),
        "missing": {name: int((~here).sum()) for name, here in present.items()},
    }


def _save(run: StageRun, name: str, number: int, arrays: Arrays) -> None:
    content = save_safetensors({k: np.ascontiguousarray(v) for k, v in arrays.items()})
    run.write_bytes(content, "sums", f"{name}-{number:05d}.safetensors")


def _load(run: StageRun, name: str, number: int) -> Arrays:
    place = (run.stage, "sums", f"{name}-{number:05d}.safetensors")
    arrays: Arrays = load_safetensors(run.workspace.read_bytes(*place))
    return arrays


STAGE = Stage(
    name="fuse",
    needs=lambda config: ("split", "embed"),
    settings=lambda config: {
        "fuse": config.fuse.model_dump(),
        "modalities": config.embed.modalities,
    },
    work=work,
)


if __name__ == "__main__":
    from pipelines.cli import stage_main

    stage_main(STAGE.name)
