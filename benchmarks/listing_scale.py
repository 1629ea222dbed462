"""Ever more files of an HDF5 tree: is the memory of their listing flat, and its time in proportion?

    python benchmarks/listing_scale.py --files 100000 400000 [--a-folder 100] [--top 0] [--json]

Each size is a tree of empty files, listed for the stage's key and written to the artifact `listing`
by a process of its own. The memory is that process's own (anonymous resident memory), without what
it has before; time is its CPU seconds. `--top 1` puts one file beside the tree's folders, which
belongs behind them all, so that the listing is put in order by merging.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from processes import Watcher

from pipelines import config as config_module
from pipelines.ingest import listing, songs
from pipelines.runtime.workspace import Workspace


def write_tree(tree: Path, count: int, a_folder: int, top: int) -> None:
    """Empty files, `a_folder` in each of the folders of the third level."""
    for first in range(0, count, a_folder):
        number = first // a_folder
        folder = tree / f"{number // 676 % 26:02}" / f"{number // 26 % 26:02}" / f"{number:07}"
        folder.mkdir(parents=True)
        for i in range(first, min(count, first + a_folder)):
            os.mknod(folder / f"TR{i:016}.h5")
    for i in range(top):
        os.mknod(tree / f"TR{i:016}.h5")


def one(place: Path) -> None:
    """List a tree as ingest does; say on standard output when that begins."""
    settings = [f"source.songs={place / 'tree'}", "source.lyrics=[]", "source.plays=[]"]
    config = config_module.load(None, [*settings, "source.mismatches=null"])
    run = Workspace(str(place / "w")).begin("ingest", {})
    assert run is not None
    print("begun", flush=True)
    sys.stdin.readline()
    ((_, files, digest),) = listing.source_state(config)
    shards, _ = songs.song_shards(config, run)
    print(json.dumps({"files": files, "digest": digest, "parts": len(shards)}), flush=True)


def measured(count: int, a_folder: int, top: int) -> dict[str, Any]:
    """One size in a process of its own, watched."""
    with tempfile.TemporaryDirectory() as scratch:
        write_tree(Path(scratch) / "tree", count, a_folder, top)
        process = subprocess.Popen(
            [sys.executable, __file__, "--one", scratch],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        watcher = Watcher(process.pid, every=0.02)
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.readline()
        before = watcher.read()
        memory = watcher.driver
        watcher.start()
        process.stdin.write("\n")
        process.stdin.flush()
        found = json.loads(process.stdout.readline() or "{}")
        seconds = watcher.read() - before
        process.communicate()
        watcher.join()
        if process.returncode:
            sys.exit(f"{count:,} files: failed")
    return {**found, "cpu_seconds": seconds, "driver_mb": (watcher.driver - memory) / 1e6}


def main() -> None:
    """Run all sizes and print them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--files", type=int, nargs="+", default=[100_000, 400_000])
    parser.add_argument("--a-folder", type=int, default=100)
    parser.add_argument("--top", type=int, default=0, help="files beside the folders")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="print one JSON object, last")
    options = parser.parse_args()
    if options.one is not None:
        one(options.one)
        return
    runs = []
    for count in options.files:
        runs.append(measured(count, options.a_folder, options.top))
        found = runs[-1]
        print(
            f"{found['files']:>12,} files, {found['parts']:,} parts: driver +"
            f"{found['driver_mb']:.0f} MB, {found['cpu_seconds']:.1f} CPU seconds",
            file=sys.stderr,
        )
    if options.json:
        print(json.dumps({"runs": runs}))


if __name__ == "__main__":
    main()
