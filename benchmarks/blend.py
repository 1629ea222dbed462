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
of 1,000 songs: in memory, and all that `recommend --user --why` does after its imports, from the
user's id to names, in a workspace of so many songs and as many users (the lists of 5,000 of them),
whose files lie in the cache of the system. The limit is to read the same bytes of the same files
once more, in as many reads.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem
from pyarrow.fs import FSSpecHandler, PyFileSystem
from threadpoolctl import threadpool_limits

from fusionrec import schemas
from fusionrec.ranking.lists import RankedLists
from fusionrec.ranking.packing import PackedSongs
from fusionrec.ranking.protocols import EvaluatedUsers, SongLists
from fusionrec.ranking.topk import rank_users
from fusionrec.ranking.users import user_vectors
from fusionrec.schemas import SONG_NAMES
from fusionrec.signals.blend import WIDTH
from fusionrec.signals.explain import Layout, explain
from fusionrec.signals.registry import SIGNALS
from fusionrec.tables import matrix, vectors
from pipelines.blend.vectors import USERS_A_GROUP as USERS_OF_BLEND_A_GROUP
from pipelines.blend.vectors import USERS_A_PART
from pipelines.cli.recommend import for_user
from pipelines.ingest.lookup import parts_of_names, write_names
from pipelines.recommend.stage import USERS_A_GROUP, _table
from pipelines.recommend.vectors import Catalogue
from pipelines.runtime.rows import ROWS_A_PART, rows_name, write_index
from pipelines.runtime.workspace import StageRun, Workspace

K, RELEVANT, PROFILE = 500, 20, 40
USERS = 256
SONGS_A_PART = 20_000
LIST = 10
LISTS, CANDIDATES = 5_000, 20_000
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

    numbers = np.arange(USERS, dtype=np.int32)
    evaluated = EvaluatedUsers(numbers, profile, relevant, {}, 0, 0)

    def write(lists: RankedLists) -> None:
        table = _table(lists, evaluated, 0, names, catalogue)
        pq.write_table(
            table, pa.BufferOutputStream(), row_group_size=USERS_A_GROUP, compression="zstd"
        )

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


def written(place: str, songs: int, block: np.ndarray, histories: list[np.ndarray]) -> list[str]:
    """Files as the stages write them, as far as `--user --why` reads them.

    Parameters
    ----------
    block
        Shape (rows, D): the vectors of songs repeat it.
    histories
        Of the first users.

    Returns
    -------
    Ids of these users.
    """
    generator = np.random.default_rng(2)
    workspace = Workspace(place)
    ids = pa.array([f"SO{number:016d}" for number in range(songs)])
    users = [f"{number:040x}" for number in range(songs)]
    with begun(workspace, "ingest") as run:
        for part, start in enumerate(range(0, songs, SONGS_A_PART)):
            some = ids.slice(start, SONGS_A_PART)
            columns = {"song_id": some}
            for name in SONG_NAMES[1:]:
                columns[name] = pc.binary_join_element_wise(some, f"the {name}", " ")
            run.write(pa.table(columns), "songs", part)
        sizes = [min(SONGS_A_PART, songs - start) for start in range(0, songs, SONGS_A_PART)]
        for group in parts_of_names((sizes, ())):
            write_names(run, group)
        write_index(run, "song_index", ids.to_pylist())
        write_index(run, "user_index", users)
    shape = layout(block.shape[1] // WIDTH)
    with begun(workspace, "blend") as run:
        repeated = np.broadcast_to(block, (songs // len(block) + 1, *block.shape))
        for artifact in ("features", "history"):
            for part, start in enumerate(range(0, songs, len(block))):
                rows = repeated[part][: songs - start]
                run.write_arrays({"rows": rows}, artifact, rows_name(part))
        plays = [*histories, *[np.zeros(1, np.int32)] * (USERS_A_PART - len(histories))]
        told = generator.standard_normal((USERS_A_PART, len(shape.told)), np.float32)
        V = generator.standard_normal((USERS_A_PART, block.shape[1] // WIDTH), np.float32)
        columns_of_users = [
            pa.array(np.arange(USERS_A_PART), pa.int32()),
            vectors(V),
            pa.array(list(told)),
            pa.array([h.tolist() for h in plays], pa.list_(pa.int32())),
            pa.array([np.ones(len(h)).tolist() for h in plays], pa.list_(pa.float32())),
        ]
        table = pa.Table.from_arrays(columns_of_users, schema=schemas.blend_users(V.shape[1]))
        run.write(table, "users", 0, group=USERS_OF_BLEND_A_GROUP)
        description = {
            **shape.as_json(),
            "modalities": {name: SIGNALS[name].modality for name in shape.slices},
            "own": songs,
            "users_a_part": USERS_A_PART,
        }
        run.write_json(description, "blend.json")
    with begun(workspace, "recommend") as run:
        ranked = min(LISTS, songs)
        each = min(K, songs)
        listed = ids.take(pa.array(generator.integers(0, min(songs, CANDIDATES), ranked * each)))
        scores = -np.sort(generator.exponential(size=(ranked, each)).astype(np.float32))
        offsets = np.arange(ranked + 1, dtype=np.int32) * each
        few = pa.array([list(range(PROFILE))] * ranked)
        table = pa.table(
            {
                "user_id": users[:ranked],
                "user": pa.array(np.arange(ranked), pa.int32()),
                "song_ids": pa.ListArray.from_arrays(offsets, listed),
                "scores": pa.ListArray.from_arrays(offsets, pa.array(scores.ravel())),
                "candidates": pa.array([songs] * ranked, pa.int32()),
                "relevant_ranks": few,
                "relevant_songs": few.cast(pa.list_(pa.string())),
                "profile": few,
                "profile_plays": few,
            }
        )
        table = table.cast(schemas.RECOMMENDATIONS)
        run.write(table, "recommendations", 0, group=USERS_A_GROUP)
    return users[: len(histories)]


@contextlib.contextmanager
def begun(workspace: Workspace, stage: str) -> Iterator[StageRun]:
    """A result of a stage to be written, made of the current ones."""
    settings = {"recommend": {"model": "blend", "users_per_shard": LISTS}}
    keys = workspace.current() if workspace.exists() else {}
    run = workspace.at(keys).begin(stage, {"settings": settings})
    assert run is not None
    yield run
    workspace.point({stage: run.commit({})["key"]})


class Recorded(LocalFileSystem):
    """The local filesystem, and what is read of it: path, offset and bytes."""

    cachable = False

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[tuple[str, int, int]] = []

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        file = super()._open(path, mode, **options)
        read = file.f.read

        def recorded(size: int = -1) -> bytes:
            start = file.f.tell()
            content: bytes = read(size)
            self.reads.append((path, start, len(content)))
            return content

        file.read = recorded
        return file


def reads_of(call: Callable[[], Any]) -> list[tuple[str, int, int]]:
    """What a call reads of workspaces."""
    recorded = Recorded()
    begin = Workspace.__init__

    def beginning(self: Workspace, *arguments: Any, **more: Any) -> None:
        begin(self, *arguments, **more)
        self.fs = PyFileSystem(FSSpecHandler(recorded))

    with mock.patch.object(Workspace, "__init__", beginning):
        call()
    return recorded.reads


def read_again(reads: list[tuple[str, int, int]]) -> int:
    """The same bytes, and nothing else done; how many they are."""
    files: dict[str, int] = {}
    total = 0
    for path, start, size in reads:
        if path not in files:
            files[path] = os.open(path, os.O_RDONLY)
        total += len(os.pread(files[path], size, start))
    for file in files.values():
        os.close(file)
    return total


def explanations(songs: int, rank: int, rounds: int) -> list[dict[str, Any]]:
    """Milliseconds of one explanation and of a list's, in memory and from disk."""
    generator = np.random.default_rng(0)
    block = generator.standard_normal((ROWS_A_PART, WIDTH * rank), dtype=np.float32)
    histories = [
        np.sort(generator.choice(songs, min(n, songs), replace=False)).astype(np.int32)
        for n in HISTORIES
    ]
    listed = generator.choice(songs, LIST, replace=False)
    shape = layout(rank)
    told = generator.standard_normal(len(shape.told), dtype=np.float32)
    found = []
    with tempfile.TemporaryDirectory(prefix="fusionrec-blend-") as scratch:
        for user, history in zip(written(scratch, songs, block, histories), histories, strict=True):
            plays = np.ones(len(history), np.float32)

            def some_of(songs: np.ndarray, history: Any = history, plays: Any = plays) -> Any:
                rows = block[history % len(block)]
                user = shape.user(rows, plays, told)
                each = block[songs % len(block)]
                return [explain(shape, 0.0, user, song, rows, plays) for song in each]

            def command(top: int, why: bool, user: str = user) -> Any:
                return for_user(scratch, user, top, why)

            command(LIST, True)
            reads = reads_of(lambda command=command: command(LIST, True))
            timed: dict[str, Callable[[], Any]] = {
                "one": lambda some_of=some_of: some_of(listed[:1]),
                "list": lambda some_of=some_of: some_of(listed),
                "one, from disk": lambda command=command: command(1, True),
                "list, from disk": lambda command=command: command(LIST, True),
                "list without reasons, from disk": lambda command=command: command(LIST, False),
                "reading alone": lambda reads=reads: read_again(reads),
            }
            best = dict.fromkeys(timed, float("inf"))
            for _ in range(rounds):
                for name, call in timed.items():
                    begun = time.perf_counter()
                    call()
                    best[name] = min(best[name], time.perf_counter() - begun)
            found.append(
                {
                    "songs": songs,
                    "history": len(history),
                    "milliseconds": {name: seconds * 1e3 for name, seconds in best.items()},
                    "reads": len(reads),
                    "bytes": read_again(reads),
                    "over_reading": best["list, from disk"] / best["reading alone"],
                }
            )
    return found


def main() -> None:
    """Measure both and print them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--candidates", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--rank", type=int, nargs="+", default=[128], help="of the blend's vectors")
    parser.add_argument("--classes", type=int, nargs="+", default=[6], help="k of the network")
    parser.add_argument(
        "--songs", type=int, nargs="+", default=[1_000_000], help="songs to explain; 0 for none"
    )
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
    whys = [
        why
        for songs in options.songs
        if songs
        for why in explanations(songs, options.rank[0], options.rounds)
    ]
    for why in whys:
        each = why["milliseconds"]
        print(
            f"{why['songs']:,} songs, {why['history']:,} in the history: an explanation "
            f"{each['one']:.2f} ms (aim {AIMS['explanation_ms']:.0f}), a list's {LIST} "
            f"{each['list']:.2f} ms; from disk {each['one, from disk']:.1f} and "
            f"{each['list, from disk']:.1f} ms, the list alone "
            f"{each['list without reasons, from disk']:.1f}; {why['bytes'] / 1e6:.2f} MB in "
            f"{why['reads']:,} reads, {why['over_reading']:.0f} times the reading alone "
            f"({each['reading alone']:.2f} ms)",
            file=sys.stderr,
        )
    if options.json:
        print(json.dumps({"ranking": rows, "explanations": whys}))


if __name__ == "__main__":
    main()
