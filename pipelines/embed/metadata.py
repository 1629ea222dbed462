"""Metadata (paper 3.1.4): a Word2Vec for each text field, then every part is mapped.

The fields' models are fitted on training songs by three parallel tasks; each reads one column,
about 25 MB at a million songs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fusionrec.features import metadata
from fusionrec.features.words import FieldWord2Vec, load_vectors
from pipelines.config import Config
from pipelines.embed.features import write_features
from pipelines.runtime import resources, sharding, tasks
from pipelines.runtime.shards import Shard
from pipelines.runtime.stage import Counts, resumable
from pipelines.runtime.workspace import StageRun, Workspace, part_name


@dataclass(frozen=True)
class MetadataReport:
    """Songs of a part, what its texts and numbers lack, and the width of its vectors."""

    songs: int
    lacks: dict[str, int]
    dimension: int


def embed_metadata(config: Config, run: StageRun, parts: list[Shard]) -> Counts:
    """Fit one Word2Vec a field, then transform every part."""
    # Three at a time, or one after the other where each wants all CPUs of a node.
    threads = min(config.embed.metadata.threads, resources.node_cpus())
    fits = [
        tasks.submit(run, _fit_field, config, run, field, num_cpus=threads)
        for field in metadata.TEXT_FIELDS
    ]
    numbers = tasks.submit(run, _number_statistics, run)
    means: dict[str, float] = tasks.gather([*fits, numbers])[-1]
    reports = sharding.map_shards(
        run,
        resumable(run, "metadata", partial(_metadata_part, run, means), MetadataReport),
        parts,
        description="embedding metadata",
    )
    return {
        "songs": sum(report.songs for report in reports),
        **{name: sum(report.lacks[name] for report in reports) for name in reports[0].lacks},
        "dimension": reports[0].dimension,
    }


def _training_songs(workspace: Workspace, columns: list[str]) -> pa.Table:
    songs = workspace.read("ingest", "songs", columns)
    part = workspace.read("split", "split", ["part"])["part"]
    return songs.filter(pc.equal(part, "train"))


def _fit_field(config: Config, run: StageRun, field: str) -> int:
    settings = config.embed.metadata
    texts = _training_songs(run.workspace, [field])[field].to_pylist()
    model = FieldWord2Vec.fit(
        texts,
        dimension=settings.dimension,
        epochs=settings.epochs,
        seed=config.seed,
        threads=settings.threads,
        initial=load_vectors(settings.vectors) if settings.vectors else None,
    )
    run.write_bytes(model.to_bytes(), "word2vec", f"{field}.safetensors")
    return len(texts)


def _number_statistics(run: StageRun) -> dict[str, float]:
    means = metadata.number_statistics(_training_songs(run.workspace, list(metadata.NUMBERS)))
    run.write_json(means, "word2vec", "number_means.json")
    return means


def _metadata_part(run: StageRun, means: dict[str, float], shard: Shard) -> MetadataReport:
    songs = run.workspace.read_part("ingest", "songs", part_name(shard.part))
    fields = {
        field: FieldWord2Vec.from_bytes(
            run.workspace.read_bytes(run.stage, "word2vec", f"{field}.safetensors")
        )
        for field in metadata.TEXT_FIELDS
    }
    rows, lacks = metadata.metadata_features(songs, fields, means)
    present = np.ones(len(rows), bool)
    write_features(run, "metadata", shard.part, songs["song_id"], rows, present)
    return MetadataReport(len(rows), lacks, rows.shape[1])
