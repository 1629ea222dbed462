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
from fusionrec.errors import SourceError, TooManyRejectsError
from fusionrec.formats import msd_hdf5, msd_sqlite, musixmatch, taste_profile
from fusionrec.formats.batch import Batch, Rejects
from fusionrec.formats.text import byte_ranges
from pipelines import cluster
from pipelines.stage import Counts, Stage, resumable
from pipelines.workspace import StageRun, Workspace, local_fingerprint

Shard = dict[str, Any]
Report = dict[str, Any]

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
    totals = _totals(reports, limit, "songs", config.source.songs)
    if totals["rows"] == 0:
        raise SourceError(
            f"{_place(config, config.source.songs)}: no readable track among "
            f"{totals['read']:,} files or rows; point source.songs at the Million Song Dataset"
        )
    mismatches = config.source.mismatches
    catalogue = cluster.run_task(
        _catalogue, run, str(_place(config, mismatches)) if mismatches else None
    )
    finished = cluster.map_shards(
        partial(_keep_catalogued, run), shards, description="writing the catalogue"
    )
    return {
        "tracks": totals["rows"],
        "tracks_with_mbtags": totals["with_mbtags"],
        "tracks_with_terms": totals["with_terms"],
        "tracks_rejected": totals["dropped"],
        "song_files_or_rows": totals["read"],
        **catalogue,
        "songs": sum(report["rows"] for report in finished),
        "songs_damaged_text": totals["damaged_text"],
        "song_rejects": totals["reasons"],
    }


def song_shards(config: Config) -> list[Shard]:
    """Where each shard of the song source lies: folders of the tree, or ranges of rows."""
    path = _place(config, config.source.songs)
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
        shard |= {"kind": "sqlite", "terms": str(_place(config, terms)) if terms else None}
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
    return _report(
        batch,
        with_mbtags=_non_empty(batch.table["mbtags"]),
        with_terms=_non_empty(batch.table["terms"]),
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


# --- lyrics ------------------------------------------------------------------------------


def read_lyrics(config: Config, run: StageRun, limit: float) -> Counts:
    """Bags to `lyrics`, in parts aligned with those of `songs`; the others to `other_lyrics`."""
    paths = [_place(config, path) for path in config.source.lyrics]
    if not paths:
        return {"lyrics": 0, "tracks_with_lyrics": 0, "songs_with_lyrics": 0, "lyrics_rejects": {}}
    shards: list[Shard] = []
    for path in paths:
        ranges = cluster.run_task(_lyrics_ranges, str(path), config.ingest)
        shards += [{"path": str(path), "start": a, "stop": b} for a, b in ranges]
    shards = [{**shard, "part": i} for i, shard in enumerate(shards)]
    vocabulary = cluster.run_task(_write_vocabulary, run, [str(path) for path in paths])
    reports = cluster.map_shards(
        resumable(run, "lyrics", partial(_read_lyrics_shard, run)),
        shards,
        description="reading lyrics",
    )
    totals = _totals(reports, limit, "lyrics", ", ".join(config.source.lyrics))
    return {
        "lyrics": totals["rows"],
        "lyrics_rejected": totals["dropped"],
        "vocabulary": vocabulary,
        **cluster.run_task(_join_lyrics, run),
        "lyrics_rejects": totals["reasons"],
    }


def _lyrics_ranges(path: str, config: Any) -> list[tuple[int, int]]:
    if path.endswith(".db"):
        tracks = musixmatch.num_lyrics_db(path)
        step = config.rows_per_shard
        return [(i, min(tracks, i + step)) for i in range(0, tracks, step)]
    return byte_ranges(path, config.bytes_per_shard)


def _write_vocabulary(run: StageRun, paths: list[str]) -> int:
    words = musixmatch.read_vocabulary(paths[0])
    for path in paths[1:]:
        if musixmatch.read_vocabulary(path) != words:
            raise SourceError(
                f"{path}: its vocabulary differs from that of {paths[0]}; "
                "source.lyrics must name files of one release"
            )
    run.write(pa.table({"word": words}, schema=schemas.VOCABULARY), "vocabulary")
    return len(words)


def _read_lyrics_shard(run: StageRun, shard: Shard) -> Report:
    read = musixmatch.read_lyrics_db if shard["path"].endswith(".db") else musixmatch.read_lyrics
    batch = read(shard["path"], shard["start"], shard["stop"])
    run.write(batch.table, "raw_lyrics", shard["part"])
    run.write(batch.rejects, "lyrics_rejects", shard["part"])
    return _report(batch)


def _join_lyrics(run: StageRun) -> Counts:
    workspace, stage = run.workspace, run.stage
    lyrics = workspace.read(stage, "raw_lyrics")
    first = np.unique(lyrics["track_id"].to_numpy(zero_copy_only=False), return_index=True)[1]
    repeated = lyrics.num_rows - len(first)
    lyrics = lyrics.take(np.sort(first))
    raw_tracks = workspace.read(stage, "raw_songs", ["track_id"])["track_id"].combine_chunks()
    known = pc.is_in(lyrics["track_id"], value_set=raw_tracks)
    matched = 0
    for part in workspace.parts(stage, "songs"):
        tracks = workspace.read_part(stage, "songs", part, ["track_id"])["track_id"]
        rows = pc.index_in(tracks, value_set=lyrics["track_id"].combine_chunks()).drop_null()
        matched += len(rows)
        run.write(lyrics.take(rows), "lyrics", int(part[5:10]))
    others = lyrics.filter(pc.invert(known))
    run.write(others, "other_lyrics")
    rejects = Rejects()
    for track in others["track_id"].to_pylist():
        rejects.add("lyrics", track, "track id not in the corpus", action="unmatched")
    run.write(rejects.to_table(), "lyrics_unmatched")
    return {
        "tracks_with_lyrics": lyrics.num_rows - others.num_rows,
        "songs_with_lyrics": matched,
        "lyrics_of_other_tracks": others.num_rows,
        "lyrics_repeated": repeated,
    }


# --- plays -------------------------------------------------------------------------------


def read_plays(config: Config, run: StageRun, limit: float) -> Counts:
    """Triplets to `plays`, as codes: a user's row in `users`, a song's row in `songs`."""
    shards: list[Shard] = []
    for path in config.source.plays:
        place = str(_place(config, path))
        ranges = cluster.run_task(byte_ranges, place, config.ingest.bytes_per_shard)
        shards += [{"path": place, "start": a, "stop": b} for a, b in ranges]
    shards = [{**shard, "part": i} for i, shard in enumerate(shards)]
    songs = cluster.submit(_song_ids, run)
    reports = cluster.map_shards(
        resumable(run, "plays", partial(_read_plays_shard, run, songs)),
        shards,
        description="reading plays",
    )
    totals = _totals(reports, limit, "plays", ", ".join(config.source.plays))
    users = cluster.submit(_write_users, run)
    cluster.map_shards(partial(_code_plays, run, users), shards, description="coding plays")
    unmatched = cluster.run_task(_write_unmatched, run)
    on_corpus = totals["on_songs"] + totals["on_mismatched"]
    return {
        "triplets": totals["rows"],
        "triplets_rejected": totals["dropped"],
        "triplets_on_corpus": on_corpus,
        "triplets_on_mismatched_songs": totals["on_mismatched"],
        "plays": totals["on_songs"],
        "users": len(cluster.gather([users])[0]),
        "play_songs_not_in_corpus": unmatched,
        "play_rejects": totals["reasons"],
    }


def _song_ids(run: StageRun) -> tuple[pa.Array, pa.Array]:
    songs = run.workspace.read(run.stage, "songs", ["song_id"])["song_id"].combine_chunks()
    wrong = run.workspace.read(run.stage, "mismatched")["song_id"].combine_chunks()
    return songs, wrong


def _read_plays_shard(run: StageRun, songs: Any, shard: Shard) -> Report:
    batch = taste_profile.read_triplets(shard["path"], shard["start"], shard["stop"])
    song_ids, wrong = cluster.gather([songs])[0]
    table = batch.table
    codes = pc.index_in(table["song_id"], value_set=song_ids).cast(pa.int32())
    known = pc.is_valid(codes)
    mismatched = pc.is_in(table["song_id"], value_set=wrong)
    strange = table["song_id"].filter(pc.and_not(pc.invert(known), mismatched))
    raw = pa.table({"user_id": table["user_id"], "song": codes, "plays": table["plays"]})
    run.write(raw.filter(known), "raw_plays", shard["part"])
    run.write(pa.table({"user_id": pc.unique(table["user_id"])}), "raw_users", shard["part"])
    counted = pc.value_counts(strange.combine_chunks())
    run.write(
        pa.table({"song_id": counted.field("values"), "rows": counted.field("counts")}),
        "raw_unmatched",
        shard["part"],
    )
    run.write(batch.rejects, "play_rejects", shard["part"])
    return _report(
        batch,
        on_songs=pc.sum(known).as_py() or 0,
        on_mismatched=pc.sum(mismatched).as_py() or 0,
    )


def _write_users(run: StageRun) -> pa.Array:
    """User ids in order of first appearance, so that codes run along the files."""
    workspace, stage = run.workspace, run.stage
    users = pa.array([], pa.string())
    for part in workspace.parts(stage, "raw_users"):
        here = workspace.read_part(stage, "raw_users", part)["user_id"]
        users = pc.unique(pa.chunked_array([users, *here.chunks]))
    run.write(pa.table({"user_id": users}, schema=schemas.USERS), "users")
    return users


def _code_plays(run: StageRun, users: Any, shard: Shard) -> Report:
    part = f"part-{shard['part']:05d}.parquet"
    raw = run.workspace.read_part(run.stage, "raw_plays", part)
    codes = pc.index_in(raw["user_id"], value_set=cluster.gather([users])[0]).cast(pa.int32())
    table = pa.table(
        {"user": codes, "song": raw["song"], "plays": raw["plays"]}, schema=schemas.PLAYS
    )
    run.write(table.sort_by([("user", "ascending"), ("song", "ascending")]), "plays", shard["part"])
    return {"rows": table.num_rows}


def _write_unmatched(run: StageRun) -> int:
    table = run.workspace.read(run.stage, "raw_unmatched")
    rejects = Rejects()
    for row in (
        table.group_by("song_id").aggregate([("rows", "sum")]).sort_by("song_id").to_pylist()
    ):
        rejects.add(
            "plays",
            row["song_id"],
            "song id not in the corpus",
            f"{row['rows_sum']} rows",
            "unmatched",
        )
    run.write(rejects.to_table(), "play_unmatched")
    return len(rejects.rows)


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


# --- reports -----------------------------------------------------------------------------


def _report(batch: Batch, **more: int) -> Report:
    dropped = pc.equal(batch.rejects["action"], "dropped")
    reasons = pc.value_counts(batch.rejects["reason"].combine_chunks())
    return {
        "read": batch.read,
        "rows": batch.table.num_rows,
        "dropped": pc.sum(dropped).as_py() or 0,
        "damaged_text": batch.damaged_text,
        "reasons": {row["values"]: row["counts"] for row in reasons.to_pylist()},
        **more,
    }


def _totals(reports: list[Report], limit: float, what: str, source: str) -> dict[str, Any]:
    totals: dict[str, Any] = {"read": 0, "rows": 0, "dropped": 0, "damaged_text": 0, "reasons": {}}
    for report in reports:
        for name, value in report.items():
            if name == "reasons":
                for reason, count in value.items():
                    totals[name][reason] = totals[name].get(reason, 0) + count
            else:
                totals[name] = totals.get(name, 0) + value
    if totals["dropped"] > limit * max(1, totals["read"]):
        listed = ", ".join(f"{count:,} x {reason}" for reason, count in totals["reasons"].items())
        raise TooManyRejectsError(
            f"{source}: {totals['dropped']:,} of {totals['read']:,} {what} rejected, more than "
            f"ingest.max_reject_share {limit:g} allows ({listed}); "
            "mend the file, or raise the share if this is expected"
        )
    return totals


def _non_empty(lists: pa.ChunkedArray) -> int:
    return int(pc.sum(pc.greater(pc.list_value_length(lists), 0)).as_py() or 0)


# --- where the source is -----------------------------------------------------------------


def _place(config: Config, path: str) -> Path:
    return Path(config.source.root).expanduser() / path


def _fingerprint(config: Config) -> Any:
    """Files by size and time; the tree by its folders' times, which change with their files."""
    source = config.source
    named = [source.songs, source.artist_terms, *source.lyrics, *source.plays, source.mismatches]
    paths: list[Path] = []
    for name in named:
        if name is None:
            continue
        path = _place(config, name)
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
