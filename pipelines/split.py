"""Split: every song into train, validation or test (paper 5.3), in parts aligned with `songs`.

One task reads the songs' ids, artists and albums, about 110 MB at a million songs; under a split by
time also the plays' songs and times, a part after the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fusionrec import schemas
from fusionrec.errors import ConfigError, SourceError
from fusionrec.formats.tables import LAYOUTS
from fusionrec.ranking import split, timeline
from pipelines import ingest
from pipelines.config import Config
from pipelines.config.sources import SplitConfig
from pipelines.ingest.by_user import TIMES, has_times, timed_plays
from pipelines.runtime import tasks
from pipelines.runtime.command import as_command
from pipelines.runtime.stage import Counts, Stage
from pipelines.runtime.workspace import StageRun, Workspace, part_number

PARTS = ("train", "validation", "test")
LEFT_OUT = "none"
"""The part of songs that `split.require_tags` leaves out."""

TIMELESS = ("msd", *(layout.name for layout in LAYOUTS.values() if not layout.timed))
"""Formats of sources that never say when plays were."""


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
    of_time: Counts = {}
    if settings.by == "time":
        part, of_time = _by_time(settings, workspace, chosen.to_numpy(zero_copy_only=False))
        fold = np.full(len(part), -1, np.int32)
    else:
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
        **of_time,
    }


def _by_time(
    settings: SplitConfig, workspace: Workspace, chosen: np.ndarray
) -> tuple[np.ndarray, Counts]:
    """Parts of the chosen songs, a mask of all, and what became of the plays."""
    if not has_times(workspace):
        raise without_times("split.by")
    if settings.cut is None:
        cut = timeline.cut_at_share(partial(_times, workspace, "plays"), settings.test_share)
    else:
        cut = timeline.seconds_of(settings.cut)
    first = timeline.first_times(_songs_and_times(workspace), len(chosen))
    part, validation_cut = timeline.assign_by_time(first[chosen], cut, settings.validation)
    new = later = 0
    for song, time in _songs_and_times(workspace):
        test = first[song] >= cut
        new += int(test.sum())
        later += int(((time >= cut) & ~test).sum())
    plays, others = (
        workspace.require("ingest")["counts"][name] for name in ("plays", "other_plays")
    )
    timed = sum(len(time) for time in _times(workspace, "plays"))
    known_others = sum(int((time < cut).sum()) for time in _times(workspace, "other_plays"))
    return part, {
        "cut": cut,
        "cut_date": timeline.date_of(cut),
        "validation_cut": validation_cut,
        "songs_without_time": int((first[chosen] == timeline.NEVER).sum()),
        "plays_before_cut": timed - new - later,
        "plays_of_new_songs": new,
        "plays_after_cut": later,
        "plays_without_time": plays - timed,
        "other_plays_before_cut": known_others,
        "other_plays_left_out": others - known_others,
    }


def without_times(key: str) -> SourceError:
    """What is said where a key names time, and no play says when it was."""
    return SourceError(
        f"{key}: time needs to know when plays were, but the source does not say: name the column "
        f"that does (source.tables.plays.columns: {{timestamp: NAME}}), or set {key}: song, artist "
        "or album"
    )


def _times(workspace: Workspace, artifact: str) -> Iterator[np.ndarray]:
    """Times of `plays` or `other_plays`, a part after the other, without those that are unknown."""
    (column,) = schemas.PLAY_TIMES.names
    for name in workspace.parts("ingest", TIMES[artifact]):
        table = workspace.read_part("ingest", TIMES[artifact], name)
        yield table[column].drop_null().to_numpy()


def _songs_and_times(workspace: Workspace) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The same of `plays`, with the songs' codes."""
    (column,) = schemas.PLAY_TIMES.names
    for name in workspace.parts("ingest", TIMES["plays"]):
        table = timed_plays(workspace, "plays", name).select(["song", column]).drop_null()
        yield table["song"].to_numpy(), table[column].to_numpy()


def song_groups(workspace: Workspace, by: split.By) -> np.ndarray:
    """For each song of the corpus the number of its group: what a split keeps together, int32."""
    songs = workspace.read("ingest", "songs", ["song_id", "artist_id", "release"])
    ids, artists, releases = (
        [text or "" for text in column.to_pylist()] for column in songs.columns
    )
    found: np.ndarray = split.groups(ids, artists, releases, by)
    return found


def size_key(config: Config) -> str:
    """The key by which the test part becomes larger or smaller."""
    if config.split.by != "time":
        return "split.folds"
    return "split.test_share" if config.split.cut is None else "split.cut"


def key_settings(settings: SplitConfig, splits: Sequence[split.SplitBy]) -> dict[str, Any]:
    """What these splits depend on, besides which of them and which fold it is."""
    found = settings.model_dump(include={"folds", "validation", "require_tags"})
    return {**found, **(_cut(settings) if "time" in splits else {})}


def _cut(settings: SplitConfig) -> dict[str, Any]:
    if settings.cut is None:
        return {"test_share": settings.test_share}
    return {"cut": timeline.seconds_of(settings.cut)}


def _settings(config: Config) -> dict[str, Any]:
    settings = config.split
    tags = config.label.source if settings.require_tags else None
    if settings.by == "time":  # no hash of a seed has a say
        of_time = settings.model_dump(include={"by", "validation", "require_tags"})
        return {"split": {**of_time, **_cut(settings)}, "tags": tags}
    of_songs = settings.model_dump(exclude={"cut", "test_share"})
    return {"split": of_songs, "seed": config.seed, "tags": tags}


def check_times(config: Config, key: str, splits: Sequence[split.SplitBy]) -> None:
    """Raise a ConfigError where one of the splits is by time, and the source has none."""
    name, own = config.source.format, config.source.tables.plays.paths
    if "time" in splits and name in TIMELESS and not (name in LAYOUTS and own):
        where = "source.tables.plays" if name in LAYOUTS else "source.format: tables"
        raise ConfigError(
            f"{key} names time, but source.format: {name} does not say when plays were: read them "
            f"from tables with a timestamp ({where}), or split by song, artist or album"
        )


STAGE = Stage(
    name="split",
    needs=lambda config: (ingest.STAGE,),
    settings=_settings,
    work=work,
    check=lambda config: check_times(config, "split.by", (config.split.by,)),
)


if __name__ == "__main__":
    as_command(STAGE.name)
