"""A search of a growing number of trials: time spent outside training, and memory.

    python benchmarks/tune.py WORKSPACE --config CONFIG [--trials 12 50] [--set k=v ...] [--json]

WORKSPACE is one whose features are fused (`fusionrec fuse`), by CONFIG; it is copied, and left
as it is. Each size is a run of `fusionrec tune` of its own. A trial's time is that of its
epochs, of their evaluation and of building its data; `outside` is the share of (wall time of
the search x trials at a time) that is not a trial's, and `outside, whole` the same of the whole
command, Ray's start included. The memory is each process's own, without the object store; the
figures of a size are ratios to the smallest size's.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from processes import Watcher

STAGES = ("ingest", "split", "label", "pretrain", "embed", "fuse")


def search(options: argparse.Namespace, trials: int) -> dict[str, Any]:
    """Run one size."""
    with tempfile.TemporaryDirectory() as scratch:
        workspace = Path(scratch) / "workspace"
        for stage in STAGES:
            if (options.workspace / stage).exists():
                shutil.copytree(options.workspace / stage, workspace / stage)
        shutil.copytree(options.workspace / "seen", workspace / "seen")
        shutil.copy(options.workspace / "current.json", workspace)
        settings = [f"workspace={workspace}", f"tune.trials={trials}"]
        settings += [f"cluster.num_cpus={options.cpus}", *options.set]
        command = [
            sys.executable,
            "-m",
            "pipelines.tune",
            "--json",
            "--config",
            options.config,
        ]
        command += [part for setting in settings for part in ("--set", setting)]
        started = time.perf_counter()
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        memory = Watcher(process.pid)
        memory.start()
        output, errors = process.communicate()
        seconds = time.perf_counter() - started
        if process.returncode:
            sys.exit(errors)
        counts = json.loads(output.splitlines()[-1])
        memory.join()
    inside = sum(row["seconds"] for row in counts["rows"])
    return {
        "trials": trials,
        "seconds": seconds,
        "search_seconds": counts["search_seconds"],
        "outside": counts["share_outside_training"],
        "outside_whole": 1 - inside / (seconds * counts["concurrent"]),
        "driver_mb": memory.driver / 1e6,
        "worker_mb": memory.workers / 1e6,
    }


def main() -> None:
    """Run all sizes and print them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--config", required=True)
    parser.add_argument("--trials", type=int, nargs="+", default=[12, 50])
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--json", action="store_true", help="print one JSON object, last")
    options = parser.parse_args()
    rows = [search(options, trials) for trials in options.trials]
    print(
        f"{'trials':>8}{'seconds':>9}{'outside':>9}{'outside, whole':>16}"
        f"{'driver':>9}{'worker':>9}",
        file=sys.stderr,
    )
    for row in rows:
        ratios = [row[key] / rows[0][key] for key in ("driver_mb", "worker_mb")]
        print(
            f"{row['trials']:>8}{row['seconds']:>9.1f}{row['outside']:>9.0%}"
            f"{row['outside_whole']:>16.0%}{ratios[0]:>8.2f}x{ratios[1]:>8.2f}x",
            file=sys.stderr,
        )
    if options.json:
        ratio = rows[-1]["worker_mb"] / rows[0]["worker_mb"]
        print(json.dumps({"runs": rows, "worker_memory_ratio": ratio}))


if __name__ == "__main__":
    main()
