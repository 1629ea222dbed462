"""Exact top-500 lists of many users, one thread: this project's kernel against four libraries.

    python benchmarks/topk.py [--shapes 6x9330 ...] [--rounds 5] [--ray] [--json]

For every shape (dimensions x songs) the same users are ranked by each. The peers are numpy
(matrix product, argpartition, sort of the 500), torch.topk, faiss's IndexFlatIP and implicit's
topk; the floor is the matrix product alone. `fastest / ours` is the ratio to aim at, `ours /
floor` what is left above arithmetic. `ranks` are the exact ranks of 20 relevant songs a user, in
microseconds and as a ratio to sorting the whole row of scores for them. Rounds alternate and the
best counts. With `--ray`, 20,000 users of the first shape are ranked by the map that
`fusionrec recommend` uses, with one worker, and by the kernel alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from fusionrec.ranking.packing import PackedSongs
from fusionrec.ranking.protocols import SongLists
from fusionrec.ranking.topk import rank_users

K = 500
RELEVANT = 20
USERS, SHARD = 20_000, 5_000
SHAPES = ("6x9330", "50x9330", "512x9330", "6x380000", "50x380000", "512x380000")


def relevant_songs(users: int, songs: int) -> SongLists:
    """The same number of songs for each user, spread over the catalogue."""
    generator = np.random.default_rng(1)
    step = songs // RELEVANT
    chosen = np.arange(RELEVANT) * step + generator.integers(0, step, (users, RELEVANT))
    indptr = np.arange(users + 1, dtype=np.int64) * RELEVANT
    return SongLists(indptr, chosen.astype(np.int32).ravel(), np.ones(chosen.size, np.int64))


def contestants(V: np.ndarray, packed: PackedSongs) -> dict[str, Callable[[], Any]]:
    """Everything that is timed, by name."""
    import faiss
    import torch
    from implicit.cpu.topk import topk as implicit_topk

    F = packed.rows
    threadpool_limits(1)
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    index = faiss.IndexFlatIP(F.shape[1])
    index.add(F)
    users, songs = torch.from_numpy(V), torch.from_numpy(F)
    relevant = relevant_songs(len(V), len(F))

    def numpy_argpartition() -> np.ndarray:
        scores = V @ F.T
        best = np.argpartition(-scores, K, axis=1)[:, :K]
        order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1)
        return np.take_along_axis(best, order, axis=1)

    return {
        "ours": lambda: rank_users(V, packed, K),
        "with ranks": lambda: rank_users(V, packed, K, relevant=relevant),
        "floor": lambda: V @ F.T,
        "row sort": lambda: np.argsort(-(V[:16] @ F.T), axis=1),
        "numpy": numpy_argpartition,
        "torch": lambda: torch.topk(users @ songs.T, K),
        "faiss": lambda: index.search(V, K),
        "implicit": lambda: implicit_topk(F, V, K, num_threads=1),
    }


PEERS = ("numpy", "torch", "faiss", "implicit")


def measured(d: int, songs: int, rounds: int) -> dict[str, Any]:
    """Microseconds a user of every contestant, and the ratios."""
    users = max(32, min(2048, int(3e9 / (d * songs + 4000))) // 32 * 32)
    V, packed = vectors(d, songs, users)
    timed = contestants(V, packed)
    best = dict.fromkeys(timed, float("inf"))
    for turn in range(rounds + 1):  # the first warms up
        for name, call in timed.items():
            started = time.perf_counter()
            call()
            if turn:
                best[name] = min(best[name], time.perf_counter() - started)
    each = {n: s / (16 if n == "row sort" else users) * 1e6 for n, s in best.items()}
    fastest = min(PEERS, key=each.__getitem__)
    ranks = each["with ranks"] - each["ours"]
    return {
        "d": d,
        "songs": songs,
        "users": users,
        "microseconds": each,
        "fastest_peer": fastest,
        "ratio": each[fastest] / each["ours"],
        "above_floor": each["ours"] / each["floor"],
        "ranks_microseconds": ranks,
        "sort_over_ranks": each["row sort"] / ranks,
        "users_per_second": 1e6 / each["ours"],
    }


def through_ray(d: int, songs: int, users: int, rounds: int) -> dict[str, float]:
    """Seconds for the kernel alone, and for the map that `fusionrec recommend` uses."""
    from pipelines.config import ClusterConfig
    from pipelines.runtime import session, tasks

    V, packed = vectors(d, songs, users)
    alone = warm = float("inf")
    for _ in range(rounds + 1):
        started = time.perf_counter()
        for start in range(0, users, SHARD):
            rank_users(V[start : start + SHARD], packed, K)
        alone = min(alone, time.perf_counter() - started)
    session.start(ClusterConfig(num_cpus=1))
    shards = [
        {"d": d, "songs": songs, "users": users, "start": start, "stop": start + SHARD}
        for start in range(0, users, SHARD)
    ]
    for turn in range(rounds + 1):
        started = time.perf_counter()
        tasks.map_tasks(None, rank_shard, shards, description="ranking users")
        if turn == 0:
            first = time.perf_counter() - started
        else:
            warm = min(warm, time.perf_counter() - started)
    return {"kernel": alone, "first": first, "warm": warm, "warm_over_kernel": warm / alone}


@lru_cache(maxsize=1)
def vectors(d: int, songs: int, users: int) -> tuple[np.ndarray, PackedSongs]:
    """Users' vectors and songs', made once in each process."""
    generator = np.random.default_rng(0)
    V = generator.random((users, d), dtype=np.float32)
    return V, PackedSongs.of(generator.random((songs, d), dtype=np.float32))


def rank_shard(shard: dict[str, Any]) -> dict[str, Any]:
    """Rank a range of users in a worker."""
    from topk import vectors  # the module's own, which a worker keeps, not a copy with the task

    V, packed = vectors(shard["d"], shard["songs"], shard["users"])
    lists = rank_users(V[shard["start"] : shard["stop"]], packed, K)
    return {"ranked": int(lists.counts.sum())}


def main() -> None:
    """Measure all shapes and print them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shapes", nargs="+", default=SHAPES, metavar="DxN")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ray", action="store_true", help="also what Ray adds")
    parser.add_argument("--json", action="store_true", help="print one JSON object, last")
    options = parser.parse_args()
    print(
        f"{'d':>4}{'songs':>9}{'ours':>10}"
        + "".join(f"{peer:>10}" for peer in PEERS)
        + f"{'floor':>10}{'fastest/ours':>14}{'ours/floor':>12}{'ranks':>9}{'sort/ranks':>12}",
        file=sys.stderr,
    )
    rows = []
    for shape in options.shapes:
        d, songs = (int(number) for number in shape.split("x"))
        row = measured(d, songs, options.rounds)
        each = row["microseconds"]
        print(
            f"{d:>4}{songs:>9}{each['ours']:>10.1f}"
            + "".join(f"{each[peer]:>10.1f}" for peer in PEERS)
            + f"{each['floor']:>10.1f}{row['ratio']:>13.1f}x{row['above_floor']:>11.1f}x"
            f"{row['ranks_microseconds']:>9.1f}{row['sort_over_ranks']:>11.0f}x",
            file=sys.stderr,
        )
        rows.append(row)
    found: dict[str, Any] = {"shapes": rows}
    if options.ray:
        d, songs = (int(number) for number in options.shapes[0].split("x"))
        found["ray"] = ray = through_ray(d, songs, USERS, options.rounds)
        print(
            f"{USERS:,} users of {options.shapes[0]}: kernel {ray['kernel']:.2f} s, one warm "
            f"worker {ray['warm']:.2f} s ({ray['warm_over_kernel']:.2f}x), first call "
            f"{ray['first']:.1f} s",
            file=sys.stderr,
        )
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
