"""A list for everyone of a million users: what the stage costs, and how soon one list is found.

    python benchmarks/lists_scale.py [--users 1000000] [--songs 100000] [--rank 128] [--top 500]
        [--cpus 2] [--json]

A workspace is made up as the stages write it (`many_users.py`), and stage `lists` ranks all songs
for all users by a blend's vectors, without the songs that each has played, 48 on average: its time
on the wall and CPU seconds of all processes, the memory of the driver and of the largest worker
(each process's own: anonymous resident memory, without Ray's shared object store), and the bytes of
its files. The floor is the same ranking of some users by the kernel alone on one thread, and below
it the matrix product alone.

Then the lists of 100 users drawn at random are looked up as `fusionrec recommend --user` does: in a
process that has looked one up, in new processes, and in new ones after the system has forgotten the
files; beside it, how long the whole command takes, which is mostly imports. The floor is to read
the same bytes of the same files once more, in as many reads.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import ray
from blend import read_again, reads_of
from many_users import played, user_ids, write
from processes import Watcher
from threadpoolctl import threadpool_limits

from fusionrec.ranking.packing import PackedSongs
from fusionrec.ranking.protocols import SongLists
from fusionrec.ranking.topk import rank_users
from pipelines import config as config_module
from pipelines import lists
from pipelines.cli.recommend import for_user
from pipelines.runtime import session
from pipelines.runtime.workspace import Workspace

ROOT = Path(__file__).parents[1]
SHOWN = 20
LOOKED_UP, ANEW, COMMANDS = 100, 10, 3
"""Users looked up in one process, in new ones, and by the whole command."""

KERNEL_USERS, ROUNDS = 256, 3

AIM_MS = 100.0

_ANEW = f"""
import sys, time
from pipelines.cli.recommend import for_user
begun = time.perf_counter()
for_user(sys.argv[1], sys.argv[2], {SHOWN})
print(time.perf_counter() - begun)
"""


def one(options: argparse.Namespace) -> None:
    """Make the workspace and the lists; say on standard output when each is there."""
    place = str(options.one)
    settings = {
        "workspace": place,
        "cluster.num_cpus": options.cpus,
        "recommend.model": "blend",
        "blend.other_plays": "false",
        "lists.top": options.top,
        "lists.users_per_shard": options.users_per_shard,
    }
    chosen = config_module.load(None, [f"{name}={value}" for name, value in settings.items()])
    session.start(chosen.cluster)
    workspace = write(place, options.users, options.songs, options.rank)
    print("made", flush=True)
    reading = workspace.at(workspace.current())
    run = reading.begin("lists", {"settings": lists.STAGE.settings(chosen)})
    assert run is not None
    counts = lists.STAGE.work(chosen, reading, run)
    workspace.point({"lists": run.commit(counts)["key"]})
    print("ranked", flush=True)
    ray.shutdown()
    print(json.dumps({**dict(counts), **kernel(workspace, options)}), flush=True)


def kernel(workspace: Workspace, options: argparse.Namespace) -> dict[str, float]:
    """Microseconds a user of CPU time on one thread: the kernel's, and the matrix product's."""
    threadpool_limits(1)
    rng, users = np.random.default_rng(0), min(KERNEL_USERS, options.users)
    F, V = (rng.standard_normal((n, options.rank), np.float32) for n in (options.songs, users))
    user, song, plays = played(0, users, options.songs)
    out, packed = SongLists.of_plays(user, song, plays, users), PackedSongs.of(F)
    timed: dict[str, Callable[[], Any]] = {
        "kernel_us": lambda: rank_users(V, packed, options.top, exclude=out),
        "product_us": lambda: V @ F.T,
    }
    best = dict.fromkeys(timed, float("inf"))
    for turn in range(ROUNDS + 1):  # the first one warms up
        for name, call in timed.items():
            begun = time.process_time()
            call()
            if turn:
                best[name] = min(best[name], time.process_time() - begun)
    return {name: seconds / users * 1e6 for name, seconds in best.items()}


def staged(options: argparse.Namespace, place: Path) -> dict[str, Any]:
    """The stage, in a process of its own that is watched."""
    command = [sys.executable, __file__, "--one", str(place)]
    for name in ("users", "songs", "rank", "top", "cpus", "users_per_shard"):
        command += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    # Not behind whatever else runs: Ray's workers give way to it.
    environment = {**os.environ, "RAY_worker_niceness": "0"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    watcher = Watcher(process.pid)
    watcher.start()
    assert process.stdout is not None
    begun, before = time.perf_counter(), 0.0
    found: dict[str, Any] = {}
    for line in map(str.strip, process.stdout):
        if line.startswith("{"):
            found |= json.loads(line)
            break
        used, now = watcher.read(), time.perf_counter()
        if line == "made":
            watcher.driver = watcher.workers = 0
        elif line == "ranked":
            found = {"seconds": now - begun, "cpu_seconds": used - before}
            found |= {"driver_mb": watcher.driver / 1e6, "worker_mb": watcher.workers / 1e6}
        begun, before = now, used
    process.communicate()
    watcher.join()
    if process.returncode:
        sys.exit(f"{options.users:,} users: failed")
    each = found["cpu_seconds"] / options.users * 1e6
    return {**found, "us": each, "over_kernel": each / found["kernel_us"]}


def sizes(place: Path) -> dict[str, int]:
    """Bytes of what is read of for a list, by artifact."""
    workspace = Workspace(str(place))
    artifacts = {
        "lists": ("lists", "lists"),
        **{name: ("ingest", name) for name in ("user_index", "song_index", "song_names", "plays")},
    }
    return {
        name: sum(info.size for info in workspace.files(*parts))
        for name, parts in artifacts.items()
    }


def looked_up(place: Path, users: int) -> dict[str, Any]:
    """Milliseconds of the look-ups, and what they read."""
    rng = np.random.default_rng(1)
    codes = rng.choice(users, min(LOOKED_UP, users), replace=False).tolist()
    chosen = [user_ids(code, code + 1)[0] for code in codes]
    for_user(str(place), chosen[0], SHOWN)
    warm = [_milliseconds(lambda user=user: for_user(str(place), user, SHOWN)) for user in chosen]
    reads = [reads_of(lambda user=user: for_user(str(place), user, SHOWN)) for user in chosen]
    again = [_milliseconds(lambda each=each: read_again(each)) for each in reads]
    files = [{path for path, *_ in each} for each in reads]
    of_lists = [{path for path in each if "/lists/lists/" in _without_key(path)} for each in files]
    new = chosen[:ANEW]
    anew = [_anew(place, user) for user in new]
    forgotten = []
    for user in new:
        forget(place)
        forgotten.append(_anew(place, user))
    command = [sys.executable, "-m", "pipelines.cli", "recommend", "-w", str(place), "--json"]
    whole = [
        _milliseconds(lambda user=user: _output([*command, "--user", user]))
        for user in chosen[:COMMANDS]
    ]
    timed = {
        "in one process": warm,
        "in new processes": anew,
        "files forgotten, too": forgotten,
        "the whole command": whole,
        "reading alone": again,
    }
    return {
        "milliseconds": {name: _median_and_worst(each) for name, each in timed.items()},
        "over_reading": float(np.median(warm) / np.median(again)),
        "reads": max(map(len, reads)),
        "bytes": max(sum(size for *_, size in each) for each in reads),
        "files": max(map(len, files)),
        "files_of_lists": max(map(len, of_lists)),
    }


def _without_key(path: str) -> str:
    """`.../lists/KEY/lists/part` without the key."""
    *above, stage, _, artifact, name = path.split("/")
    return "/".join([*above, stage, artifact, name])


def _milliseconds(call: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    call()
    return (time.perf_counter() - begun) * 1e3


def _median_and_worst(each: list[float]) -> dict[str, float]:
    return {"median": float(np.median(each)), "worst": max(each)}


def _anew(place: Path, user: str) -> float:
    """Milliseconds in a process that has imported all that it needs, and looked up nothing."""
    return float(_output([sys.executable, "-c", _ANEW, str(place), user])) * 1e3


def _output(command: list[str]) -> str:
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def forget(place: Path) -> None:
    """Have the system forget what it holds of the workspace's files, where it can."""
    for path in place.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def tell(result: dict[str, Any]) -> None:
    """Print it for people."""
    stage, found, size = result["stage"], result["look_up"], result["bytes"]
    users = result["users"]
    print(
        f"{users:,} users, top {result['top']} of {result['songs']:,} songs by {result['rank']} "
        f"dimensions: {stage['seconds']:.0f} s, {stage['cpu_seconds']:.0f} CPU seconds; driver "
        f"{stage['driver_mb']:.0f} MB, worker {stage['worker_mb']:.0f} MB\n"
        f"a user {stage['us']:.0f} us, {stage['over_kernel']:.2f} times the kernel alone "
        f"({stage['kernel_us']:.0f}; the matrix product {stage['product_us']:.0f})\n"
        f"lists {size['lists'] / 1e6:,.0f} MB, {size['lists'] / users:,.0f} bytes a user; index of "
        f"users {size['user_index'] / 1e6:,.1f} MB",
        file=sys.stderr,
    )
    for name, each in found["milliseconds"].items():
        line = f"a list, {name}: median {each['median']:.1f} ms, worst {each['worst']:.1f}"
        aim = name not in ("the whole command", "reading alone")
        print(line + (f" (aim {AIM_MS:.0f})" if aim else ""), file=sys.stderr)
    print(
        f"at most {found['bytes'] / 1e6:.2f} MB in {found['reads']} reads of {found['files']} "
        f"files, {found['files_of_lists']} of them of lists; {found['over_reading']:.0f} times "
        "the reading alone",
        file=sys.stderr,
    )


def main() -> None:
    """Measure both and print them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--songs", type=int, default=100_000)
    parser.add_argument("--rank", type=int, default=128, help="of the blend's vectors")
    parser.add_argument("--top", type=int, default=500, help="lists.top")
    parser.add_argument("--users-per-shard", type=int, default=5_000, help="lists.users_per_shard")
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="print one JSON object, last")
    options = parser.parse_args()
    if options.one is not None:
        one(options)
        return
    with tempfile.TemporaryDirectory(prefix="fusionrec-lists-") as scratch:
        place = Path(scratch) / "w"
        result = {name: getattr(options, name) for name in ("users", "songs", "rank", "top")}
        result["stage"] = staged(options, place)
        result["bytes"] = sizes(place)
        result["look_up"] = looked_up(place, options.users)
    tell(result)
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
