"""Split: every song into train, validation or test (paper 5.3), in parts aligned with `songs`.

One task reads the songs' ids, artists and albums, about 110 MB at a million songs.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fusionrec import schemas
from fusionrec.ranking import split
from pipelines import ingest
from pipelines.config import Config
from pipelines.runtime import tasks
from pipelines.runtime.command import as_command
from pipelines.runtime.stage import Counts, Stage
from pipelines.runtime.workspace import StageRun, Workspace, part_number

PARTS = ("train", "validation", "test")
LEFT_OUT = "none"
"""The part of songs that `split.require_tags` leaves out."""


def work(config: Config, workspace: Workspace, run: StageRun) -> Counts:
    """Assign all songs in one task."""
    return tasks.run_task(run, _assign, config, run)


def _assign(config: Config, run: StageRun) -> Counts:
    workspace, settings = run.workspace, config.split
    songs = workspace.read(
        "ingest", "songs", ["song_id", "artist_id", "release", config.label.source]
    )
    chosen = pa.array([True]).take(pa.array([0] * songs.num_rows))
    if settings.require_tags:
        tagged = pc.greater(pc.list_value_length(songs[config.label.source]), 0)
        chosen = tagged.combine_chunks()
    used = songs.filter(chosen)
    part, fold = split.assign(
        used["song_id"].to_pylist(),
        [artist or "" for artist in used["artist_id"].to_pylist()],
        [release or "" for release in used["release"].to_pylist()],
        by=settings.by,
        folds=settings.folds,
        test_fold=settings.test_fold,
        validation=settings.validation,
        seed=config.seed,
    )
    where = pc.subtract(pc.cumulative_sum(pc.cast(chosen, pa.int64())), 1)
    where = pc.if_else(chosen, where, pa.scalar(None, pa.int64()))
    table = pa.table(
        {
            "song_id": songs["song_id"],
            "artist_id": songs["artist_id"],
            "part": pc.fill_null(pa.array(list(part), pa.string()).take(where), LEFT_OUT),
            "fold": pc.fill_null(pa.array(fold, pa.int32()).take(where), -1),
        },
        schema=schemas.SPLIT,
    )
    start = 0
    for name in workspace.parts("ingest", "songs"):
        rows = workspace.read_part("ingest", "songs", name, ["song_id"]).num_rows
        run.write(table.slice(start, rows), "split", part_number(name))
        start += rows
    counted = pc.value_counts(table["part"].combine_chunks()).to_pylist()
    sizes = {row["values"]: row["counts"] for row in counted}
    return {
        "train": sizes.get("train", 0),
        "validation": sizes.get("validation", 0),
        "test": sizes.get("test", 0),
        "left_out_without_tags": sizes.get(LEFT_OUT, 0),
        "artists": pc.count_distinct(table["artist_id"]).as_py(),
    }


def song_groups(workspace: Workspace, by: split.By) -> np.ndarray:
    """For each song of the corpus the number of its group: what a split keeps together, int32."""
    songs = workspace.read("ingest", "songs", ["song_id", "artist_id", "release"])
    ids, artists, releases = (
        [text or "" for text in column.to_pylist()] for column in songs.columns
    )
    found: np.ndarray = split.groups(ids, artists, releases, by)
    return found


STAGE = Stage(
    name="split",
    needs=lambda config: (ingest.STAGE,),
    settings=lambda config: {
        "split": config.split.model_dump(),
        "seed": config.seed,
        "tags": config.label.source if config.split.require_tags else None,
    },
    work=work,
)


if __name__ == "__main__":
    as_command(STAGE.name)
