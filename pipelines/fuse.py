"""Fuse: standard scaling and PCA (paper 3.2, 5.3), fitted on training songs.

PCA is fitted on the concatenated modalities, as in the paper, or on each modality, where the
fusion network is to see their borders. Two passes over the features, as map-reduce: moments of
each modality over the songs that have it, then the covariance of the scaled rows. What is
reduced are D x D sums in float64 (9 MB for D = 1,073), from at most `_GROUPS` tasks; their
number is fixed, so that rounding does not depend on the cluster.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial, reduce
from operator import add

import numpy as np
import pyarrow as pa
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from fusionrec import schemas
from fusionrec.errors import DataError
from fusionrec.features.fusing import Features, Plan
from fusionrec.features.moments import PCA, CoMoments, Moments, Scaler
from fusionrec.tables import matrix, vectors
from pipelines import embed, split
from pipelines.config import Config
from pipelines.runtime import sharding, tasks
from pipelines.runtime.command import as_command
from pipelines.runtime.shards import Shard
from pipelines.runtime.stage import Counts, Stage, resumable
from pipelines.runtime.workspace import StageRun, Workspace, part_name, part_number

_GROUPS = 16
Arrays = dict[str, np.ndarray]


def _modalities(config: Config) -> tuple[str, ...]:
    return config.fuse.modalities or config.embed.modalities


@dataclass(frozen=True)
class GroupShard(Shard):
    """Parts of the features whose sums are added up by one task."""

    parts: tuple[int, ...]


@dataclass(frozen=True)
class FusedReport:
    """Rows of a part, those with features, and those without each modality."""

    rows: int
    present: int
    missing: dict[str, int]


def work(config: Config, workspace: Workspace, run: StageRun) -> Counts:
    """Fit scaler and PCA on training songs, then transform all songs."""
    plan = Plan(_modalities(config), config.fuse.blockwise, config.fuse.missing == "drop")
    parts = [part_number(name) for name in workspace.parts("ingest", "songs")]
    groups = [
        GroupShard(i, tuple(group.tolist()))
        for i, group in enumerate(np.array_split(parts, min(_GROUPS, len(parts))))
    ]
    sharding.map_shards(
        run, partial(_moments, run, plan), groups, description="moments of the features"
    )
    tasks.run_task(run, _fit_scaler, run, len(groups))
    sharding.map_shards(
        run, partial(_covariance, run, plan), groups, description="covariance of the features"
    )
    fitted = tasks.run_task(run, _fit_pca, run, plan, len(groups), config.fuse.variance)
    reports = sharding.map_shards(
        run,
        resumable(run, "fused", partial(_transform, run, plan), FusedReport),
        [Shard(part) for part in parts],
        description="fusing",
    )
    return {
        **fitted,
        "songs": sum(report.rows for report in reports),
        "songs_with_features": sum(report.present for report in reports),
        "songs_without": {
            name: sum(report.missing[name] for report in reports) for name in plan.modalities
        },
    }


def read_features(workspace: Workspace, modalities: tuple[str, ...], part: int) -> Features:
    """One part's features of the modalities."""
    tables = [workspace.read_part("embed", modality, part_name(part)) for modality in modalities]
    rows = [matrix(table["vector"]) for table in tables]
    present = [table["present"].to_numpy(zero_copy_only=False) for table in tables]
    return Features(
        tables[0]["song_id"],
        np.concatenate(rows, axis=1),
        np.stack(present, axis=1),
        tuple(values.shape[1] for values in rows),
    )


def _training_rows(run: StageRun, plan: Plan, part: int) -> Features:
    features = read_features(run.workspace, plan.modalities, part)
    parts = run.workspace.read_part("split", "split", part_name(part), ["part"])["part"]
    train = parts.to_numpy(zero_copy_only=False) == "train"
    return replace(features, rows=features.rows[train], present=features.present[train])


def _moments(run: StageRun, plan: Plan, shard: GroupShard) -> None:
    found = (_training_rows(run, plan, part) for part in shard.parts)
    each = (Moments.of(features.rows, features.mask) for features in found)
    total = reduce(add, each)
    _save(run, "moments", shard.part, vars(total))


def _fit_scaler(run: StageRun, groups: int) -> None:
    total = reduce(add, (Moments(**_load(run, "moments", i)) for i in range(groups)))
    if not total.count.any():
        raise DataError("no training song has features; check the embed and split reports")
    scaler = Scaler.fit(total)
    _save(run, "scaler", 0, vars(scaler))


def _covariance(run: StageRun, plan: Plan, shard: GroupShard) -> None:
    scaler = Scaler(**_load(run, "scaler", 0))
    totals: dict[int, CoMoments] = {}
    for part in shard.parts:
        features = _training_rows(run, plan, part)
        scaled = scaler.transform(features.rows, features.mask)
        for i, (columns, modalities) in enumerate(plan.blocks(features.widths)):
            used = np.ones(len(scaled), bool)
            if plan.drop:
                used = features.complete
            elif plan.blockwise:
                used = features.with_all(modalities)
            sums = CoMoments.of(scaled[used, columns])
            totals[i] = totals[i] + sums if i in totals else sums
    for i, total in totals.items():
        arrays = {
            "total": total.total,
            "products": total.products,
            "count": np.array([total.count]),
        }
        _save(run, f"covariance-{i}", shard.part, arrays)


def _fit_pca(run: StageRun, plan: Plan, groups: int, variance: float) -> Counts:
    scaler = _load(run, "scaler", 0)
    fitted = {"scaler_mean": scaler["mean"], "scaler_scale": scaler["scale"]}
    count, pcas = 0, []
    for i in range(len(plan.modalities) if plan.blockwise else 1):
        sums = (_load(run, f"covariance-{i}", group) for group in range(groups))
        each = (CoMoments(int(s["count"][0]), s["total"], s["products"]) for s in sums)
        total = reduce(add, each)
        count = max(count, total.count)
        pca = PCA.fit(total, variance)
        fitted |= {f"pca_{name}_{i}": value for name, value in vars(pca).items()}
        pcas.append(pca)
    _save_transforms(run, fitted)
    return {
        "training_songs": count,
        "features": sum(len(pca.mean) for pca in pcas),
        "components": sum(len(pca.components) for pca in pcas),
        "blocks": [len(pca.components) for pca in pcas],
        "explained_variance": float(np.mean([pca.explained.sum() for pca in pcas])),
    }


def _save_transforms(run: StageRun, arrays: Arrays) -> None:
    content = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
    run.write_bytes(save_safetensors(content), "transforms.safetensors")


def _transform(run: StageRun, plan: Plan, shard: Shard) -> FusedReport:
    fitted = load_safetensors(run.workspace.read_bytes(run.stage, "transforms.safetensors"))
    features = read_features(run.workspace, plan.modalities, shard.part)
    rows, usable, flags = plan.fused(features, fitted)
    run.write(
        pa.Table.from_arrays(
            [
                features.songs.combine_chunks(),
                vectors(rows),
                pa.array(usable),
                pa.FixedSizeListArray.from_arrays(pa.array(flags.ravel()), flags.shape[1]),
            ],
            schema=schemas.fused(rows.shape[1], flags.shape[1]),
        ),
        "fused",
        shard.part,
    )
    absent = (~features.present).sum(axis=0).tolist()
    return FusedReport(
        len(usable), int(usable.sum()), dict(zip(plan.modalities, absent, strict=True))
    )


def _save(run: StageRun, name: str, number: int, arrays: Arrays) -> None:
    content = save_safetensors({k: np.ascontiguousarray(v) for k, v in arrays.items()})
    run.write_bytes(content, "sums", f"{name}-{number:05d}.safetensors")


def _load(run: StageRun, name: str, number: int) -> Arrays:
    path = (run.stage, "sums", f"{name}-{number:05d}.safetensors")
    arrays: Arrays = load_safetensors(run.workspace.read_bytes(*path))
    return arrays


STAGE = Stage(
    name="fuse",
    needs=lambda config: (split.STAGE, embed.STAGE),
    settings=lambda config: {
        "modalities": _modalities(config),
        "variance": config.fuse.variance,
        "blockwise": config.fuse.blockwise,
        "drop": config.fuse.missing == "drop",
    },
    work=work,
    staging=("sums",),
)


if __name__ == "__main__":
    as_command(STAGE.name)
