"""Vectors of one's own: those of a table, as ingest has them, song by song."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from fusionrec.errors import DataError
from fusionrec.tables import matrix
from pipelines.config import Config
from pipelines.embed.features import write_features
from pipelines.runtime import sharding
from pipelines.runtime.shards import Shard
from pipelines.runtime.stage import Counts, resumable
from pipelines.runtime.workspace import StageRun, part_name


@dataclass(frozen=True)
class OwnReport:
    """Songs of a part, those with a vector, and its width."""

    songs: int
    songs_with_vector: int
    dimension: int


def embed_own(name: str, config: Config, run: StageRun, parts: list[Shard]) -> Counts:
    """Take the vectors of the key `name` of `source.tables.features` for every part.

    Raises
    ------
    DataError
        No song has one.
    """
    reports = sharding.map_shards(
        run,
        resumable(run, name, partial(_own_part, run, name), OwnReport),
        parts,
        description=f"taking {name}",
    )
    with_vector = sum(report.songs_with_vector for report in reports)
    if with_vector == 0:
        raise DataError(
            f"no song of the corpus has a vector of {name}: its song ids in "
            f"source.tables.features.{name} are to be those of source.tables.songs. Correct them, "
            f"or leave {name} out of embed.modalities"
        )
    return {
        "songs": sum(report.songs for report in reports),
        "songs_with_vector": with_vector,
        "dimension": reports[0].dimension,
    }


def _own_part(run: StageRun, name: str, shard: Shard) -> OwnReport:
    table = run.workspace.read_part("ingest", f"vectors_{name}", part_name(shard.part))
    rows = matrix(table["vector"])
    present = table["present"].to_numpy(zero_copy_only=False)
    write_features(run, name, shard.part, table["song_id"], rows, present)
    return OwnReport(len(rows), int(present.sum()), rows.shape[1])
