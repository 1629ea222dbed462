"""Metadata (paper 3.1.4): a Word2Vec for each text field, then every part is mapped.

The fields' models are fitted on training songs by three parallel tasks; each reads one column,
about 25 MB at a million songs.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fusionrec.features import metadata
from fusionrec.features.words import FieldWord2Vec, load_vectors
from pipelines.config import Config
from pipelines.embed.features import summed, write_features
from pipelines.runtime import resources, sharding, tasks
from pipelines.runtime.stage import Counts, resumable
from pipelines.runtime.workspace import StageRun, Workspace, part_name


def embed_metadata(config: Config, run: StageRun, parts: list[dict[str, Any]]) -> Counts:
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
        resumable(run, "metadata", partial(_metadata_part, run, means)),
        parts,
        description="embedding metadata",
    )
    return summed(reports)


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


def _metadata_part(run: StageRun, means: dict[str, float], shard: dict[str, Any]) -> Counts:
    songs = run.workspace.read_part("ingest", "songs", part_name(shard["part"]))
    fields = {
        field: FieldWord2Vec.from_bytes(
            run.workspace.read_bytes(run.stage, "word2vec", f"{field}.safetensors")
        )
        for field in metadata.TEXT_FIELDS
    }
    rows, counts = metadata.metadata_features(songs, fields, means)
    present = np.ones(len(rows), bool)
    write_features(run, "metadata", shard["part"], songs["song_id"], rows, present)
    return {"songs": len(rows), **counts, "dimension": rows.shape[1]}
