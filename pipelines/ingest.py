"""Ingest: the official files into Parquet, with every rejection listed and counted.

Shards of the source are read in parallel by Ray Data, and each task writes its own
parts. What is not per shard runs in single tasks, never on the driver; at a million
songs and a million users the largest hold

- the catalogue task: (song_id, track_id) of every track, about 100 MB;
- the lyrics join: the musiXmatch bags, 237,662 x 80 pairs, about 100 MB;
- the users task: one copy of each user id, about 60 MB;
- the id maps broadcast through the object store: 40 MB for songs, 60 MB for users.

The driver holds a list of folders (17,576 in the full tree) and a report a shard.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fusionrec import schemas
from fusionrec.config import Config
from fusionrec.errors import SourceError
from fusionrec.formats import msd_hdf5, msd_sqlite, taste_profile
from pipelines import cluster
from pipelines.ingest_lyrics import read_lyrics
from pipelines.ingest_plays import read_plays
from pipelines.sources import Report, Shard, non_empty, place, report, totals
from pipelines.stage import Counts, Stage, resumable
from pipelines.workspace import StageRun, Workspace, local_fingerprint

_STAGING = (
    "raw_songs",
    "kept",
    "mismatched",
    "raw_lyrics",
    "raw_plays",
    "raw_users",
    "raw_unmatched",
)
_REJECTS = (
    "song_rejects",
    "mismatch_rejects",
    "lyrics_rejects",
    "lyrics_unmatched",
    "play_rejects",
    "play_unmatched",
)


def work(config: Config, workspace: Workspace, run: StageRun) -> Counts:
    """Read songs, then lyrics, then plays."""
    limit = config.ingest.max_reject_share
    songs = read_songs(config, run, limit)
    lyrics = read_lyrics(config, run, limit)
    plays = read_plays(config, run, limit)
    counts = {**songs, **lyrics, **plays, **cluster.run_task(_merge_rejects, run)}
    for staging in (*_STAGING, *_REJECTS, "reports"):
        workspace.delete(run.stage, staging)
    run.write_json(counts, "report.json")
    return counts


# --- songs -------------------------------------------------------------------------------


def read_songs(config: Config, run: StageRun, limit: float) -> Counts:
    """Tracks to `songs` (and `segments`): one track a song id, mismatched pairs left out."""
    shards = song_shards(config)
    segments = config.ingest.segments == "full"
    reports = cluster.map_shards(
        resumable(run, "songs", partial(_read_song_shard, run, segments)),
        shards,
        description="reading songs",
    )
    total = totals(reports, limit, "songs", config.source.songs)
    if total["rows"] == 0:
        raise SourceError(
            f"{place(config, config.source.songs)}: no readable track among "
            f"{total['read']:,} files or rows; point source.songs at the Million Song Dataset"
        )
    mismatches = config.source.mismatches
    catalogue = cluster.run_task(
        _catalogue, run, str(place(config, mismatches)) if mismatches else None
    )
    finished = cluster.map_shards(
        partial(_keep_catalogued, run), shards, description="writing the catalogue"
    )
    return {
        "tracks": total["rows"],
        "tracks_with_mbtags": total["with_mbtags"],
        "tracks_with_terms": total["with_terms"],
        "tracks_rejected": total["dropped"],
        "song_files_or_rows": total["read"],
        **catalogue,
        "songs": sum(shard["rows"] for shard in finished),
        "songs_damaged_text": total["damaged_text"],
        "song_rejects": total["reasons"],
    }


def song_shards(config: Config) -> list[Shard]:
    """Where each shard of the song source lies: folders of the tree, or ranges of rows."""
    path = place(config, config.source.songs)
    if not path.exists():
        raise SourceError(f"{path}: does not exist; set source.root and source.songs")
    step = config.ingest.rows_per_shard
    if path.is_dir():
        folders = msd_hdf5.track_dirs(str(path))
        if not folders:
            raise SourceError(f"{path}: holds no .h5 file; set source.songs to the HDF5 tree")
        size = config.ingest.folders_per_shard
        groups = [folders[i : i + size] for i in range(0, len(folders), size)]
        return [
            {"part": i, "kind": "tree", "path": str(path), "folders": group}
            for i, group in enumerate(groups)
        ]
    terms = config.source.artist_terms
    shard: Shard = {"path": str(path)}
    if path.suffix == ".db":
        rows = cluster.run_task(msd_sqlite.num_rows, str(path))
        shard |= {"kind": "sqlite", "terms": str(place(config, terms)) if terms else None}
    elif path.suffix in (".h5", ".hdf5"):
        rows = cluster.run_task(msd_hdf5.num_rows, str(path))
        shard |= {"kind": "aggregate"}
    else:
        raise SourceError(f"{path}: source.songs must be a folder, a .h5 or a .db file")
    return [
        {**shard, "part": i, "start": start, "stop": min(rows, start + step)}
        for i, start in enumerate(range(0, rows, step))
    ]


def _read_song_shard(run: StageRun, segments: bool, shard: Shard) -> Report:
    path = shard["path"]
    if shard["kind"] == "tree":
        files = [f for folder in shard["folders"] for f in msd_hdf5.track_files(path, folder)]
        batch = msd_hdf5.read_tracks(files, path, segments=segments)
    elif shard["kind"] == "sqlite":
        batch = msd_sqlite.read_songs(path, shard["terms"], shard["start"], shard["stop"])
    else:
        batch = msd_hdf5.read_aggregate(path, shard["start"], shard["stop"], segments=segments)
    run.write(batch.table, "raw_songs", shard["part"])
    if batch.segments is not None:
        run.write(batch.segments, "segments", shard["part"])
    run.write(batch.rejects, "song_rejects", shard["part"])
    return report(
        batch,
        with_mbtags=non_empty(batch.table["mbtags"]),
        with_terms=non_empty(batch.table["terms"]),
    )


def _catalogue(run: StageRun, mismatches: str | None) -> Counts:
    """Decide which tracks leave: mismatched pairs, and all but one track of a song id."""
    columns = ["song_id", "track_id"]
    table = run.workspace.read(run.stage, "raw_songs", columns).to_pandas()
    rejected = 0
    wrong = np.zeros(len(table), bool)
    if mismatches is not None:
        batch = taste_profile.read_mismatches(mismatches)
        rejected = batch.rejects.num_rows
        run.write(batch.rejects, "mismatch_rejects")
        pairs = set(zip(*(batch.table[name].to_pylist() for name in columns), strict=True))
        wrong = np.fromiter(
            (pair in pairs for pair in zip(table.song_id, table.track_id, strict=True)),
            bool,
            len(table),
        )
    right = table[~wrong].sort_values("track_id", kind="stable")
    kept = right.drop_duplicates("track_id").drop_duplicates("song_id")
    run.write(pa.table({"track_id": pa.array(kept.track_id, pa.string())}), "kept")
    mismatched = set(table.song_id[wrong]) - set(kept.song_id)
    run.write(pa.table({"song_id": pa.array(sorted(mismatched), pa.string())}), "mismatched")
    return {
        "tracks_mismatched": int(wrong.sum()),
        "tracks_sharing_a_song_id": len(right) - len(kept),
        "mismatch_lines_rejected": rejected,
    }


def _keep_catalogued(run: StageRun, shard: Shard) -> Report:
    part = shard["part"]
    kept = run.workspace.read(run.stage, "kept")["track_id"].combine_chunks()
    raw = run.workspace.read_part(run.stage, "raw_songs", f"part-{part:05d}.parquet")
    table = raw.filter(pc.is_in(raw["track_id"], value_set=kept))
    # A track listed twice within one part: the first reading stays.
    first = np.unique(table["track_id"].to_numpy(zero_copy_only=False), return_index=True)[1]
    table = table.take(np.sort(first))
    run.write(table, "songs", part)
    return {"rows": table.num_rows}


def _merge_rejects(run: StageRun) -> Counts:
    actions = dict.fromkeys(schemas.REJECT_ACTIONS, 0)
    for number, artifact in enumerate(_REJECTS):
        tables = [
            run.workspace.read_part(run.stage, artifact, part)
            for part in run.workspace.parts(run.stage, artifact)
        ]
        table = pa.concat_tables([schemas.REJECTS.empty_table(), *tables])
        run.write(table, "rejects", number)
        for row in pc.value_counts(table["action"].combine_chunks()).to_pylist():
            actions[row["values"]] += row["counts"]
    return {"rejects": actions}


def _fingerprint(config: Config) -> Any:
    """Files by size and time; the tree by its folders' times, which change with their files."""
    source = config.source
    named = [source.songs, source.artist_terms, *source.lyrics, *source.plays, source.mismatches]
    paths: list[Path] = []
    for name in named:
        if name is None:
            continue
        path = place(config, name)
        if not path.exists():
            raise SourceError(
                f"{path}: does not exist; set source.root to the folder of the corpus "
                "and the keys below it to the files it holds"
            )
        if path.is_dir():
            tree = path / "data" if (path / "data").is_dir() else path
            paths += [tree / folder for folder in msd_hdf5.track_dirs(str(path))]
        else:
            paths.append(path)
    return local_fingerprint(paths)


STAGE = Stage(
    name="ingest",
    needs=lambda config: (),
    settings=lambda config: {
        "source": config.source.model_dump(),
        "ingest": config.ingest.model_dump(exclude={"max_reject_share"}),
    },
    work=work,
    fingerprint=_fingerprint,
)


if __name__ == "__main__":
    from pipelines.cli import stage_main

    stage_main(STAGE.name)
