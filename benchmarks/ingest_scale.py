"""Ingest of a growing number of files: is the memory of driver and workers flat?

    fusionrec sample --songs 50000 --users 20000 --out CORPUS
    python benchmarks/ingest_scale.py CORPUS --files 10000 50000 [--segments stats] [--json]

Each size is a run of `fusionrec ingest` of its own over a tree of links to the corpus's
folders. The memory is each process's own (anonymous resident memory, without Ray's shared
object store), read every 100 ms; a size's figures are ratios to the smallest size's.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import groupby
from pathlib import Path
from typing import Any

from processes import Watcher

from fusionrec.formats import hdf5


def link_tree(songs: str, target: Path, count: int) -> int:
    """A tree of links to the folders of another, with at least `count` files if it has them."""
    linked = 0
    for folder, paths in groupby(hdf5.track_paths(songs), key=os.path.dirname):
        if linked >= count:
            break
        link = target / os.path.relpath(folder, songs)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(Path(folder).resolve())
        linked += len([*paths])
    return linked


def measured(settings: dict[str, Any], cpus: int) -> dict[str, Any]:
    """Run `fusionrec ingest` into a workspace that is thrown away, and watch it."""
    with tempfile.TemporaryDirectory() as scratch:
        workspace = Path(scratch) / "workspace"
        settings = {**settings, "workspace": workspace, "cluster.num_cpus": cpus}
        command = [sys.executable, "-m", "pipelines.cli", "ingest"]
        command += [part for k, v in settings.items() for part in ("--set", f"{k}={v}")]
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        memory = Watcher(process.pid)
        memory.start()
        _, errors = process.communicate()
        seconds = time.perf_counter() - start
        if process.returncode:
            sys.exit(errors.decode())
        counts = json.loads((next(workspace.glob("ingest/*/manifest.json"))).read_text())["counts"]
        memory.join()
    return {
        "seconds": seconds,
        "read_directly": counts["song_files_read_directly"],
        "driver_mb": memory.driver / 1e6,
        "worker_mb": memory.workers / 1e6,
    }


def ingest(corpus: Path, count: int, segments: str, cpus: int) -> dict[str, Any]:
    """Run one size."""
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch) / "tree"
        files = link_tree(str(corpus / "MillionSong"), tree, count)
        settings = {
            "source.root": corpus,
            "source.songs": tree,
            "ingest.segments": segments,
        }
        run = measured(settings, cpus)
    return {"files": files, "files_per_second": files / run["seconds"], **run}


def main() -> None:
    """Run all sizes and print them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--files", type=int, nargs="+", default=[10_000, 50_000])
    parser.add_argument("--segments", choices=["none", "stats", "full"], default="stats")
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="print one JSON object, last")
    options = parser.parse_args()
    rows = [ingest(options.corpus, n, options.segments, options.cpus) for n in options.files]
    print(
        f"{'files':>8}{'directly':>10}{'files/s':>9}{'driver MB':>11}{'worker MB':>11}"
        f"{'driver':>9}{'worker':>9}",
        file=sys.stderr,
    )
    for row in rows:
        ratios = [row[key] / rows[0][key] for key in ("driver_mb", "worker_mb")]
        print(
            f"{row['files']:>8,}{row['read_directly']:>10,}{row['files_per_second']:>9,.0f}"
            f"{row['driver_mb']:>11,.0f}{row['worker_mb']:>11,.0f}"
            f"{ratios[0]:>8.2f}x{ratios[1]:>8.2f}x",
            file=sys.stderr,
        )
    if options.json:
        print(json.dumps({"segments": options.segments, "cpus": options.cpus, "runs": rows}))


if __name__ == "__main__":
    main()
