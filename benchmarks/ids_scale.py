"""Ever more ids: is the memory of each process of ingest flat, and its time in proportion?

    python benchmarks/ids_scale.py --songs 500000 2000000 8000000 [--divided 1] [--json]

For each size a catalogue of made-up songs and as many users with four plays each are written, one
play in ten by a user who was there before and one in ten on a song that is not in the catalogue. No
file of a song is read: what is measured is all that brings ids together. The memory is each
process's own (anonymous resident memory, without Ray's shared object store); time is CPU seconds of
all processes, from when the files are there. Memory stands still from where there is more than one
piece of everything; `--divided 16` makes shards and pieces a sixteenth as large, so that a small
machine sees it at a sixteenth of the ids.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from processes import Watcher

from fusionrec import schemas
from fusionrec.hashing import mix
from pipelines import config as config_module
from pipelines.ingest import (
    by_user,
    catalogue,
    lookup,
    others,
    plays,
    song_codes,
    song_groups,
    user_codes,
)
from pipelines.runtime import session, tasks
from pipelines.runtime.shards import RowsShard, Written, shards_of_rows
from pipelines.runtime.workspace import StageRun, Workspace

PLAYS_A_USER = 4
SONGS_A_PART = 20_000
_LINES_A_FILE = 1_000_000


def ids(numbers: np.ndarray, kind: str, seed: int) -> list[str]:
    """Made-up ids: no order in them, and the same for the same number."""
    return [f"{kind}{x:016X}" for x in mix(numbers.astype(np.uint64) + np.uint64(seed)).tolist()]


def write_songs(run: StageRun, shard: RowsShard) -> Written:
    """One part of the tracks as they are read, without anything but ids."""
    numbers = np.arange(shard.start, shard.stop)
    columns = {"song_id": ids(numbers, "SO", 1 << 40), "track_id": ids(numbers, "TR", 2 << 40)}
    none = {
        name: pa.nulls(len(numbers), schemas.SONGS.field(name).type) for name in schemas.SONGS.names
    }
    run.write(pa.table({**none, **columns}, schema=schemas.SONGS), "raw_songs", shard.part)
    return Written(len(numbers))


def write_triplets(folder: Path, songs: int, shard: RowsShard) -> str:
    """One file of triplets: its name."""
    rng = np.random.default_rng(shard.part)
    user = np.arange(shard.start, shard.stop) // PLAYS_A_USER
    again = rng.random(len(user)) < 0.1
    user[again] = rng.integers(0, user[again] + 1)
    song = rng.integers(0, songs + songs // 9, len(user))
    lines = zip(ids(user, "0" * 24, 3 << 40), ids(song, "SO", 1 << 40), strict=True)
    path = folder / f"triplets-{shard.part:05d}.txt"
    path.write_text("".join(f"{u}\t{s}\t{1 + n % 9}\n" for n, (u, s) in enumerate(lines)))
    return str(path)


def divide(by: int) -> None:
    """Make pieces smaller. All of these are looked at by the driver alone."""
    catalogue.TRACKS_A_PIECE //= by
    song_groups.SONGS_A_GROUP //= by
    by_user.PLAYS_A_PIECE //= by
    for module in (user_codes, song_codes, lookup):
        module.IDS_A_PIECE //= by


def one(songs: int, cpus: int, by: int, place: Path) -> None:
    """Run one size; say on standard output when each step ends."""
    divide(by)
    triplets = songs * PLAYS_A_USER
    session.start(config_module.load(None, [f"cluster.num_cpus={cpus}"]).cluster)
    run = Workspace(str(place / "w")).begin("ingest", {})
    assert run is not None
    parts = shards_of_rows(songs, SONGS_A_PART // by)
    tasks.map_tasks(run, partial(write_songs, run), parts, description="songs")
    files = shards_of_rows(triplets, _LINES_A_FILE // by)
    writing = partial(write_triplets, place, songs)
    named = tasks.map_tasks(run, writing, files, description="triplets")
    settings = [f"source.plays=[{','.join(named)}]", f"ingest.rows_per_shard={20_000 // by}"]
    chosen = config_module.load(None, settings)
    print("made", flush=True)
    _, catalogued = catalogue.catalogue(run, [shard.stop - shard.start for shard in parts], None)
    print("catalogue", flush=True)
    counts = plays.read_plays(chosen, run, 0.0, catalogued.sizes)
    print("plays", flush=True)
    _, sizes = others.describe_others(chosen, run, 0.0)
    lookup.write_song_names(run, (catalogued.sizes, sizes))
    print("names", flush=True)
    print(json.dumps({**counts, "songs": sum(catalogued.sizes)}), flush=True)


def measured(songs: int, cpus: int, by: int) -> dict[str, Any]:
    """One size in a process of its own, watched."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, __file__, "--songs", str(songs), "--cpus", str(cpus)]
        command += ["--divided", str(by), "--one", scratch]
        # Not behind whatever else runs: Ray's workers give way to it.
        environment = {**os.environ, "RAY_worker_niceness": "0"}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        watcher = Watcher(process.pid)
        watcher.start()
        assert process.stdout is not None
        seconds: dict[str, float] = {}
        before, counts = 0.0, {}
        for line in map(str.strip, process.stdout):
            if line.startswith("{"):
                counts = json.loads(line)
                break
            now = watcher.read()
            if line == "made":
                watcher.driver = watcher.workers = 0
            else:
                seconds[line] = now - before
            before = now
        process.communicate()
        watcher.join()
        if process.returncode:
            sys.exit(f"{songs:,} songs: failed")
    return {
        "songs": songs,
        **{name: counts[name] for name in ("triplets", "users", "plays", "other_songs")},
        "cpu_seconds": seconds,
        "driver_mb": watcher.driver / 1e6,
        "worker_mb": watcher.workers / 1e6,
    }


def exponents(runs: list[dict[str, Any]]) -> dict[str, float]:
    """Of the CPU seconds of each step in the songs, by the last two sizes."""
    few, many = runs[-2:]
    growth = np.log(many["songs"] / few["songs"])
    sums = [{**run["cpu_seconds"], "all": sum(run["cpu_seconds"].values())} for run in (few, many)]
    return {name: float(np.log(sums[1][name] / sums[0][name]) / growth) for name in sums[0]}


def main() -> None:
    """Run all sizes and print them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    sizes = [500_000, 2_000_000, 8_000_000]
    parser.add_argument("--songs", type=int, nargs="+", default=sizes)
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--divided", type=int, default=1, help="make pieces so many times smaller")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="print one JSON object, last")
    options = parser.parse_args()
    if options.one is not None:
        one(options.songs[0], options.cpus, options.divided, options.one)
        return
    runs = []
    for songs in options.songs:
        runs.append(measured(songs, options.cpus, options.divided))
        found = runs[-1]
        steps = ", ".join(f"{name} {value:.1f}" for name, value in found["cpu_seconds"].items())
        print(
            f"{songs:>12,} songs, {found['triplets']:,} triplets: driver {found['driver_mb']:.0f} "
            f"MB, worker {found['worker_mb']:.0f} MB; CPU seconds: {steps}",
            file=sys.stderr,
        )
    result: dict[str, Any] = {"runs": runs}
    if len(runs) > 1:
        result["worker_memory_ratio"] = runs[-1]["worker_mb"] / runs[-2]["worker_mb"]
        result["driver_memory_ratio"] = runs[-1]["driver_mb"] / runs[-2]["driver_mb"]
        result["exponents"] = exponents(runs)
        print(
            f"from the last size but one to the last: workers' memory x "
            f"{result['worker_memory_ratio']:.2f}, driver's x {result['driver_memory_ratio']:.2f}, "
            f"exponent of time {result['exponents']['all']:.2f}",
            file=sys.stderr,
        )
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
