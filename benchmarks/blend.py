"""What ranking by the blend costs beside the paper's method, and what an explanation costs.

    python benchmarks/blend.py [--candidates 100000] [--rank 128] [--classes 6] [--songs 1000000]
        [--rounds 5] [--json]

Ranking: the same users get their exact top 500 of the same candidates, by vectors of the blend's
rank and by as many class probabilities as the network gives, CPU time of one thread, in turns, the
best of the rounds: once the top 500 alone, once as `fusionrec recommend` has a user's, with the
songs of the profile left out, the ranks of 20 relevant songs and, by the paper's method, the user's
vector made of the profile, and once with the blend's vectors read and the lists written as it does,
too. The floor is the matrix product of each alone.

Explanations: the features and the history's rows of a blend of so many songs (4 KB a song at 128
dimensions), one explanation of a (user, song) and those of a list of 10, for a history of 50 and
of 1,000 songs: in memory, and as `--why` gives them, with what it reads of a blend on disk. The
files have 20,000 songs and 2,000 users each and lie in the cache of the system.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from threadpoolctl import threadpool_limits

from fusionrec import schemas
from fusionrec.ranking.lists import RankedLists
from fusionrec.ranking.packing import PackedSongs
from fusionrec.ranking.protocols import SongLists
from fusionrec.ranking.topk import rank_users
from fusionrec.ranking.users import user_vectors
from fusionrec.signals.blend import WIDTH
from fusionrec.signals.explain import Layout, explain
from fusionrec.signals.registry import SIGNALS
from fusionrec.tables import matrix, vectors
from pipelines.blend.vectors import SONGS_A_GROUP, USERS_A_PART
from pipelines.cli.stored import Blended
from pipelines.recommend.stage import _table
from pipelines.recommend.vectors import Catalogue
from pipelines.runtime.workspace import Workspace, part_name

K, RELEVANT, PROFILE = 500, 20, 40
USERS = 256
SONGS_A_PART = 20_000
LIST = 10
HISTORIES = (50, 1_000)

AIMS = {"ratio": 3.0, "explanation_ms": 50.0}


def drawn_songs(users: int, songs: int) -> tuple[SongLists, SongLists]:
    """Songs of a profile and relevant ones of each user, none of them both, ascending."""
    generator = np.random.default_rng(1)
    each = RELEVANT + PROFILE
    step = songs // each
    chosen = np.arange(each) * step + generator.integers(0, step, (users, each))
    kinds = generator.permuted(np.arange(each)[None] < RELEVANT + np.zeros((users, 1)), axis=1)
    lists = []
    for kind, n in ((~kinds, PROFILE), (kinds, RELEVANT)):
        some = chosen[kind].astype(np.int32)
        lists.append(
            SongLists(np.arange(users + 1, dtype=np.int64) * n, some, np.ones(users * n, np.int64))
        )
    return lists[0], lists[1]


def ranking(candidates: int, rank: int, classes: int, rounds: int) -> dict[str, Any]:
    """Microseconds a user by both, and the ratios."""
    generator = np.random.default_rng(0)
    profile, relevant = drawn_songs(USERS, candidates)
    F = generator.dirichlet(np.full(classes, 0.3), candidates).astype(np.float32)
    blended, V = (
        generator.standard_normal((n, rank), dtype=np.float32) for n in (candidates, USERS)
    )
    packed, wide = PackedSongs.of(F), PackedSongs.of(blended)

    def users() -> np.ndarray:
        return user_vectors(profile.indptr, profile.songs, profile.plays, F)

    of_paper = users()
    ids = pa.array([f"SO{number:016d}" for number in range(candidates)])
    catalogue = Catalogue(ids, np.empty(0), np.empty(0), np.arange(candidates, dtype=np.int32))
    names = pa.chunked_array([[f"{number:040d}" for number in range(USERS)]])
    stored = pa.BufferOutputStream()
    pq.write_table(pa.table({"vector": vectors(V)}), stored, compression="zstd")

    def write(lists: RankedLists) -> None:
        pq.write_table(_table(lists, names, catalogue), pa.BufferOutputStream(), compression="zstd")

    def read() -> np.ndarray:
        return matrix(pq.read_table(pa.BufferReader(stored.getvalue()))["vector"])

    asked: dict[str, Any] = {"exclude": profile, "relevant": relevant}
    timed: dict[str, Callable[[], Any]] = {
        "paper, top 500": lambda: rank_users(of_paper, packed, K),
        "blend, top 500": lambda: rank_users(V, wide, K),
        "paper, as recommend": lambda: rank_users(users(), packed, K, **asked),
        "blend, as recommend": lambda: rank_users(V, wide, K, **asked),
        "paper, written": lambda: write(rank_users(users(), packed, K, **asked)),
        "blend, written": lambda: write(rank_users(read(), wide, K, **asked)),
        "paper, product": lambda: of_paper @ F.T,
        "blend, product": lambda: V @ blended.T,
    }
    best = dict.fromkeys(timed, float("inf"))
    for turn in range(rounds + 1):  # the first warms up
        for name, call in timed.items():
            begun = time.process_time()
            call()
            if turn:
                best[name] = min(best[name], time.process_time() - begun)
    each = {name: seconds / USERS * 1e6 for name, seconds in best.items()}
    return {
        "candidates": candidates,
        "rank": rank,
        "classes": classes,
        "microseconds": each,
        "ratio": each["blend, top 500"] / each["paper, top 500"],
        "ratio_as_recommend": each["blend, as recommend"] / each["paper, as recommend"],
        "ratio_written": each["blend, written"] / each["paper, written"],
        "above_product": each["blend, top 500"] / each["blend, product"],
        "gflops": 2 * candidates * rank / each["blend, top 500"] / 1e3,
    }


def told(each: dict[str, float], what: str) -> str:
    """Both and their ratio."""
    ours, theirs = each[f"blend, {what}"], each[f"paper, {what}"]
    return f"{ours:.0f} us against {theirs:.0f} ({ours / theirs:.1f}x)"


def layout(rank: int) -> Layout:
    """Ten signals of all kinds share the dimensions that a blend of this rank explains with."""
    names = [*list(SIGNALS)[:5], "taste", "taste-smoothed-context", *list(SIGNALS)[-3:]]
    bounds = np.linspace(0, WIDTH * rank, len(names) + 1).astype(int).tolist()
    return Layout(
        {n: slice(a, b) for n, a, b in zip(names, bounds, bounds[1:], strict=False)},
        {name: None if name == "taste-smoothed-context" else "log" for name in names},
        {name: SIGNALS[name].kind for name in names},
    )


def written(
    workspace: Workspace,
    F: np.ndarray,
    features: np.ndarray,
    atoms: np.ndarray,
    histories: list[np.ndarray],
) -> None:
    """Files as `fusionrec blend` writes them, as far as an explanation reads them."""
    songs, rank = F.shape
    shape = layout(rank)
    generator = np.random.default_rng(2)
    sizes = []
    for part, start in enumerate(range(0, songs, SONGS_A_PART)):
        stop = min(start + SONGS_A_PART, songs)
        ids = pa.array([f"SO{number:016d}" for number in range(start, stop)])
        name = part_name(part)
        workspace.write_table(pa.table({"song_id": ids}), "ingest", "songs", name)
        for artifact, rows in (("songs", F), ("features", features), ("history", atoms)):
            schema = schemas.blend_songs(rows.shape[1])
            table = pa.Table.from_arrays([ids, vectors(rows[start:stop])], schema=schema)
            workspace.write_table(table, "blend", artifact, name, group=SONGS_A_GROUP)
        sizes.append(stop - start)
    plays = [*histories, *[np.zeros(1, np.int32)] * (USERS_A_PART - len(histories))]
    users = [
        pa.array(np.arange(USERS_A_PART), pa.int32()),
        vectors(generator.standard_normal((USERS_A_PART, rank), dtype=np.float32)),
        pa.array(list(generator.standard_normal((USERS_A_PART, len(shape.told)), np.float32))),
        pa.array([h.tolist() for h in plays], pa.list_(pa.int32())),
        pa.array([np.ones(len(h)).tolist() for h in plays], pa.list_(pa.float32())),
    ]
    table = pa.Table.from_arrays(users, schema=schemas.blend_users(rank))
    workspace.write_table(table, "blend", "users", part_name(0))
    description = {
        **shape.as_json(),
        "modalities": {name: SIGNALS[name].modality for name in shape.slices},
        "own": songs,
        "parts": dict.fromkeys(("songs", "features", "history"), sizes),
        "users_a_part": USERS_A_PART,
    }
    workspace.write_json(description, "blend", "blend.json")


def explanations(songs: int, rank: int, rounds: int) -> list[dict[str, Any]]:
    """Milliseconds of one explanation and of a list's, in memory and from disk."""
    generator = np.random.default_rng(0)
    F, features, atoms = (
        generator.standard_normal((songs, width), dtype=np.float32)
        for width in (rank, WIDTH * rank, WIDTH * rank)
    )
    histories = [
        np.sort(generator.choice(songs, min(n, songs), replace=False)).astype(np.int32)
        for n in HISTORIES
    ]
    listed = generator.choice(songs, LIST, replace=False)
    shape = layout(rank)
    v = generator.standard_normal(rank, dtype=np.float32)
    told = generator.standard_normal(len(shape.told), dtype=np.float32)
    found = []
    with tempfile.TemporaryDirectory(prefix="fusionrec-blend-") as scratch:
        workspace = Workspace(scratch, {"blend": "any", "ingest": "any"})
        written(workspace, F, features, atoms, histories)
        for user, history in enumerate(histories):
            plays = np.ones(len(history), np.float32)

            def some_of(songs: np.ndarray, history: Any = history, plays: Any = plays) -> Any:
                rows = atoms[history]
                user = shape.user(rows, plays, told)
                scores = (F[songs] @ v).tolist()
                each = zip(scores, features[songs], strict=True)
                return [explain(shape, score, user, song, rows, plays) for score, song in each]

            def command(some: np.ndarray, user: int = user) -> Any:
                stored = Blended.of_user(workspace, user)
                return stored.reasons([f"SO{number:016d}" for number in some])

            timed: dict[str, Callable[[], Any]] = {
                "one": lambda some_of=some_of: some_of(listed[:1]),
                "list": lambda some_of=some_of: some_of(listed),
                "one, from disk": lambda command=command: command(listed[:1]),
                "list, from disk": lambda command=command: command(listed),
            }
            best = dict.fromkeys(timed, float("inf"))
            for _ in range(rounds):
                for name, call in timed.items():
                    begun = time.perf_counter()
                    call()
                    best[name] = min(best[name], time.perf_counter() - begun)
            milliseconds = {name: seconds * 1e3 for name, seconds in best.items()}
            found.append({"songs": songs, "history": len(history), "milliseconds": milliseconds})
    return found


def main() -> None:
    """Measure both and print them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--candidates", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--rank", type=int, nargs="+", default=[128], help="of the blend's vectors")
    parser.add_argument("--classes", type=int, nargs="+", default=[6], help="k of the network")
    parser.add_argument("--songs", type=int, default=1_000_000, help="songs to explain; 0 for none")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print one JSON object, last")
    options = parser.parse_args()
    threadpool_limits(1)
    pa.set_cpu_count(1)
    rows = []
    for candidates, rank, classes in product(options.candidates, options.rank, options.classes):
        row = ranking(candidates, rank, classes, options.rounds)
        each = row["microseconds"]
        print(
            f"{candidates:,} candidates, {rank} dimensions against {classes} classes (aim "
            f"{AIMS['ratio']:.0f}x): top {K} {told(each, 'top 500')}, as recommend "
            f"{told(each, 'as recommend')}, written {told(each, 'written')}; "
            f"{row['above_product']:.2f} times the product alone, {row['gflops']:.0f} GFLOP/s",
            file=sys.stderr,
        )
        rows.append(row)
    whys = explanations(options.songs, options.rank[0], options.rounds) if options.songs else []
    for why in whys:
        each = why["milliseconds"]
        print(
            f"{why['songs']:,} songs, {why['history']:,} in the history: an explanation "
            f"{each['one']:.2f} ms (aim {AIMS['explanation_ms']:.0f}), a list's {LIST} "
            f"{each['list']:.2f} ms; with what is read from disk {each['one, from disk']:.0f} and "
            f"{each['list, from disk']:.0f} ms",
            file=sys.stderr,
        )
    if options.json:
        print(json.dumps({"ranking": rows, "explanations": whys}))


if __name__ == "__main__":
    main()
