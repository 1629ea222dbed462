"""Ingest of tables: vectors of one's own, matched to the songs.

Those of all modalities are read and joined together, each in shards of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fusionrec import schemas
from fusionrec.formats.tables import feature_dimension, read_features, table_files
from fusionrec.formats.tables.spec import TableSpec
from pipelines.config import Config
from pipelines.ingest.catalogue import Catalogued
from pipelines.ingest.joining import Join, arrived, send_to_songs
from pipelines.ingest.reading import Tables, read_shards
from pipelines.ingest.song_groups import SongGroup
from pipelines.ingest.sources import Origin, ReadReport, origins, report, totals, with_lines
from pipelines.ingest.tables import TableShard, table_shards
from pipelines.runtime import tasks
from pipelines.runtime.shards import Written
from pipelines.runtime.stage import Counts, Json, resumable
from pipelines.runtime.workspace import StageRun

JOIN = Join("vectors", "song_id")


def artifact_of(modality: str) -> str:
    """Where the vectors of a modality of one's own are, in parts aligned with those of `songs`."""
    return f"vectors_{modality}"


@dataclass(frozen=True)
class VectorShard(TableShard):
    """With the length that all vectors of its modality must have."""

    dimension: int


def read_vectors(
    config: Config,
    run: StageRun,
    limit: float,
    songs: Catalogued,
    features: Mapping[str, TableSpec],
    dimensions: Mapping[str, int] | None = None,
    join: Join = JOIN,
) -> Counts:
    """Vectors to `vectors_NAME`, a row for each song, with zeros where it has none.

    Parameters
    ----------
    dimensions
        Of each modality; those of its first file, if none are given.
    join
        What is said of vectors of no song.

    Raises
    ------
    SourceError, TooManyRejectsError
        A table of a modality is not there or has no vectors, or too many that are of no use.
    """
    if not features:
        return {}
    sets: list[list[VectorShard]] = []
    for name, spec in features.items():
        dimension = (
            tasks.run_task(run, _dimension, spec) if dimensions is None else dimensions[name]
        )
        sets.append(_shards(config, run, name, spec, dimension, sum(map(len, sets))))
    reports, stream = read_shards(
        run,
        "vectors",
        _read_shard,
        [shard for each in sets for shard in each],
        ["raw_vectors", "vector_rejects"],
        ReadReport,
        description="reading vectors",
    )
    rest, total = iter(reports), {}
    places: list[Origin] = []
    for (name, spec), each in zip(features.items(), sets, strict=True):
        of_name = [next(rest) for _ in each]
        places += origins(each, of_name)
        total[name] = totals(of_name, limit, f"vectors of {name}", ", ".join(spec.paths))
    by_part = songs.by_part()
    matched = send_to_songs(
        run, join, sets, by_part, description="matching vectors", origins=places
    )
    counts: dict[str, Json] = {}
    unknown: dict[str, int] = {}
    repeated: dict[str, int] = {}
    for name, each, found in zip(features, sets, matched, strict=True):
        parts, dimension = [shard.part for shard in each], each[0].dimension
        collect = partial(_collect, run, name, dimension, parts)
        artifact = artifact_of(name)
        work = resumable(run, artifact, collect, Written)
        tasks.map_tasks(run, work, by_part.groups, description=f"vectors of {name}")
        counts[name] = {
            "dimension": dimension,
            "vectors": total[name].rows,
            "rejected": total[name].dropped,
            "songs": sum(of.songs for of in found),
            "rejects": total[name].reasons,
        }
        unknown[name] = sum(of.others for of in found)
        repeated[name] = sum(of.repeated for of in found)
    return {
        "vectors": counts,
        "vectors_of_unknown_songs": unknown,
        "vectors_repeated": repeated,
        "stream": stream,
    }


def _shards(
    config: Config, run: StageRun, name: str, spec: TableSpec, dimension: int, first: int
) -> list[VectorShard]:
    rows = max(1, config.ingest.bytes_per_shard // (4 * dimension))
    key = f"source.tables.features.{name}"
    shards, _ = table_shards(config, run, spec, key, rows=rows, first=first)
    return [VectorShard(**vars(shard), dimension=dimension) for shard in shards]


def _dimension(spec: TableSpec) -> int:
    """That of the first file; other vectors are rejected."""
    return feature_dimension(table_files(spec)[0], spec)


def _read_shard(shard: VectorShard) -> tuple[Tables, ReadReport]:
    batch = read_features(shard.path, shard.spec, shard.start, shard.stop, shard.dimension)
    rows = with_lines(batch, batch.table)
    return {"raw_vectors": rows, "vector_rejects": shard.rejects(batch)}, report(batch)


def _collect(
    run: StageRun, name: str, dimension: int, shards: Sequence[int], group: SongGroup
) -> Written:
    """Write the vectors of a group's parts, a row for each of their songs."""
    written = 0
    for part, songs, rows in arrived(run, JOIN, group, shards):
        given = rows["vector"].combine_chunks().flatten().to_numpy().reshape(-1, dimension)
        places = songs["place"].combine_chunks()
        present = pc.is_valid(places)
        vectors = np.zeros((len(songs), dimension), np.float32)
        vectors[present.to_numpy(zero_copy_only=False)] = given[places.drop_null().to_numpy()]
        values = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), dimension)
        table = pa.Table.from_arrays(
            [songs["song_id"], values, present], schema=schemas.features(dimension)
        )
        run.write(table, artifact_of(name), part)
        written += len(rows)
    return Written(written)
