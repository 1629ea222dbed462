"""Lists over HTTP from one core: how long one takes, and how many a second there are.

    python benchmarks/serve.py [--songs 380000] [--rank 64] [--top 20] [--rate 50] [--seconds 20]
        [--json]

A workspace is made up as the stages write it (`many_users.py`), and `fusionrec serve` answers
`POST /v1/lists` of histories of 48 songs on average, from one core: the kernel and all of HTTP,
JSON and names beside it. Two peers have the same service, so the same HTTP, the same batches and
the same answers, but rank by NumPy (a matrix product, a partial sort) and by faiss' flat index, on
one thread like the kernel; their songs are compared with ours. The other core asks.

Latency is measured in an open loop: requests are sent when they are due, at random times at a
fixed rate, whatever has been answered by then, and a request's time begins when it is due. Then as
many as 64 connections can take, for the throughput.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httptools
import numpy as np

from fusionrec.ranking.packing import PackedSongs
from fusionrec.ranking.protocols import SongLists

ROOT = Path(__file__).parents[1]
RANKERS = ("kernel", "numpy", "faiss")
CONNECTIONS, COMPARED, WARM = 64, 64, 200
AIM_MS = 10.0
MOST_SECONDS = 300


# --- the servers ---------------------------------------------------------------------------


def serve(options: argparse.Namespace) -> None:
    """One server, on one core, until it is ended."""
    os.sched_setaffinity(0, {options.core})
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)
    from pipelines.opened import batches
    from pipelines.serve.alone import serve as serve_alone
    from pipelines.serve.settings import LOOPBACK, Settings

    if options.one != "kernel":
        batches.rank_users = {"numpy": by_numpy, "faiss": ByFaiss()}[options.one]  # type: ignore
    settings = Settings(
        options.place, "blend", hosts=LOOPBACK, poll_seconds=0, similar_gb=0, batch=options.batch
    )
    serve_alone(settings, "127.0.0.1", options.port)


class Lists:
    """What the kernel returns, as far as it is looked at."""

    def __init__(self, indices: np.ndarray, scores: np.ndarray, counts: np.ndarray) -> None:
        self.indices, self.scores, self.counts = indices, scores, counts


def by_numpy(V: np.ndarray, F: Any, k: int, *, exclude: SongLists) -> Lists:
    """A matrix product and a partial sort."""
    rows = F.rows if isinstance(F, PackedSongs) else F
    scores = V @ rows.T
    user = np.repeat(np.arange(len(V)), exclude.sizes)
    scores[user, exclude.songs] = -np.inf
    best = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    found = np.take_along_axis(scores, best, axis=1)
    order = np.argsort(-found, axis=1, kind="stable")
    indices = np.take_along_axis(best, order, axis=1)
    counts = np.full(len(V), k)
    return Lists(indices, np.take_along_axis(found, order, axis=1), counts)


class ByFaiss:
    """A flat index of inner products; what is excluded is looked for, too, and left out."""

    def __init__(self) -> None:
        import faiss

        faiss.omp_set_num_threads(1)
        self._faiss, self._of, self._index = faiss, None, None

    def __call__(self, V: np.ndarray, F: Any, k: int, *, exclude: SongLists) -> Lists:
        rows = F.rows if isinstance(F, PackedSongs) else F
        if self._of is not rows:
            self._index = self._faiss.IndexFlatIP(rows.shape[1])
            self._index.add(rows)
            self._of = rows
        scores, found = self._index.search(V, k + int(exclude.sizes.max()))
        indices, listed = np.empty((len(V), k), np.int64), np.empty((len(V), k), np.float32)
        for row in range(len(V)):
            out = exclude.songs[exclude.indptr[row] : exclude.indptr[row + 1]]
            kept = np.flatnonzero(~np.isin(found[row], out))[:k]
            indices[row], listed[row] = found[row, kept], scores[row, kept]
        return Lists(indices, listed, np.full(len(V), k))


# --- who asks ------------------------------------------------------------------------------


class Answers(asyncio.Protocol):
    """One connection, which is kept: a request at a time."""

    def __init__(self) -> None:
        self._done: asyncio.Future[tuple[int, bytes]] | None = None
        self._begin()

    def _begin(self) -> None:
        self._parser, self._body = httptools.HttpResponseParser(self), bytearray()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(error or ConnectionError("closed"))

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        done, status, body = self._done, self._parser.get_status_code(), bytes(self._body)
        self._begin()
        assert done is not None
        done.set_result((status, body))

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        self._done = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._done


class Pool:
    """Connections that are free, and new ones where none is."""

    def __init__(self, port: int) -> None:
        self._port, self._free = port, list[Answers]()

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        if self._free:
            one = self._free.pop()
        else:
            loop = asyncio.get_running_loop()
            _, one = await loop.create_connection(Answers, "127.0.0.1", self._port)
        answer = await one.ask(request)
        self._free.append(one)
        return answer


async def open_loop(port: int, requests: list[bytes], rate: float, seconds: float) -> np.ndarray:
    """Milliseconds of each request, from when it was due."""
    pool, loop, rng = Pool(port), asyncio.get_running_loop(), np.random.default_rng(0)
    due = np.cumsum(rng.exponential(1 / rate, int(rate * seconds)))
    took = np.full(len(due), np.nan)
    begun = loop.time() + 0.1

    async def one(number: int) -> None:
        status, _ = await pool.ask(requests[number % len(requests)])
        assert status == 200, status
        took[number] = (loop.time() - begun - due[number]) * 1e3

    running = []
    for number, when in enumerate(due.tolist()):
        wait = begun + when - loop.time()
        if wait > 0:
            await asyncio.sleep(wait)
        running.append(loop.create_task(one(number)))
    await asyncio.wait_for(asyncio.gather(*running), MOST_SECONDS)
    return took


async def saturated(port: int, requests: list[bytes], seconds: float) -> float:
    """Requests a second of as many connections as there are."""
    pool, loop = Pool(port), asyncio.get_running_loop()
    end, answered = loop.time() + seconds, 0

    async def one(first: int) -> None:
        nonlocal answered
        number = first
        while loop.time() < end:
            status, _ = await pool.ask(requests[number % len(requests)])
            assert status == 200, status
            answered += 1
            number += CONNECTIONS

    begun = loop.time()
    await asyncio.gather(*(one(first) for first in range(CONNECTIONS)))
    return answered / (loop.time() - begun)


async def answers(port: int, requests: list[bytes]) -> list[list[str]]:
    """The songs of some lists."""
    pool = Pool(port)
    found = [await pool.ask(request) for request in requests[:COMPARED]]
    return [[song["song_id"] for song in json.loads(body)["songs"]] for _, body in found]


def requests_of(songs: int, top: int) -> list[bytes]:
    """What is sent: users' histories."""
    from ids_scale import ids
    from many_users import _SONGS, played

    user, song, plays = played(0, 1000, songs)
    names = ids(np.arange(songs), "SO", int(_SONGS))
    found = []
    for each in np.unique(user).tolist():
        rows = np.flatnonzero(user == each)
        form = {names[song[row]]: int(plays[row]) for row in rows.tolist()}
        body = json.dumps({"plays": form, "top": top}).encode()
        head = (
            "POST /v1/lists HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        found.append(head.encode() + body)
    return found


# --- all of it -----------------------------------------------------------------------------


def measured(options: argparse.Namespace, ranker: str, requests: list[bytes]) -> dict[str, Any]:
    """One server, started, asked and ended."""
    command = [sys.executable, __file__, "--one", ranker, "--place", options.place]
    command += ["--port", str(options.port), "--batch", str(options.batch)]
    threads = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    environment = {**os.environ, **threads, "PYTHONPATH": str(ROOT)}
    server = subprocess.Popen([*command, "--core", "0"], env=environment)
    try:
        _wait(options.port, server)
        asyncio.run(_warm(options.port, requests))
        took = asyncio.run(open_loop(options.port, requests, options.rate, options.seconds))
        rate = asyncio.run(saturated(options.port, requests, options.seconds / 2))
        lists = asyncio.run(answers(options.port, requests))
    finally:
        server.terminate()
        server.wait(30)
    return {
        "p50_ms": float(np.percentile(took, 50)),
        "p99_ms": float(np.percentile(took, 99)),
        "worst_ms": float(took.max()),
        "saturated_per_second": rate,
        "lists": lists,
    }


async def _warm(port: int, requests: list[bytes]) -> None:
    pool = Pool(port)
    for first in range(0, WARM, 16):
        await asyncio.gather(*(pool.ask(request) for request in requests[first : first + 16]))


def _wait(port: int, server: subprocess.Popen[bytes]) -> None:
    ask = b"GET /v1/health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    end = time.monotonic() + MOST_SECONDS
    while time.monotonic() < end:
        if server.poll() is not None:
            sys.exit("the server ended")
        try:
            asyncio.run(Pool(port).ask(ask))
            return
        except OSError:
            time.sleep(0.2)
    sys.exit(f"the server did not answer within {MOST_SECONDS} s")


def make(options: argparse.Namespace) -> None:
    """The workspace, in a process of its own: it takes Ray."""
    script = (
        "import sys; from pipelines import config; from pipelines.runtime import session; "
        "from many_users import write; session.start(config.load(None, []).cluster); "
        "write(sys.argv[1], 1000, int(sys.argv[2]), int(sys.argv[3]))"
    )
    command = [sys.executable, "-c", script, options.place, str(options.songs), str(options.rank)]
    path = f"{ROOT}{os.pathsep}{ROOT / 'benchmarks'}"
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": path})


def tell(result: dict[str, Any]) -> None:
    """Print it for people."""
    write: Callable[[str], None] = lambda line: print(line, file=sys.stderr)  # noqa: E731
    write(
        f"top {result['top']} of {result['songs']:,} songs by {result['rank']} dimensions over "
        f"HTTP, one core; open loop at {result['rate']:g} a second"
    )
    ours = result["servers"]["kernel"]
    for name, each in result["servers"].items():
        write(
            f"{name}: p50 {each['p50_ms']:.1f} ms, p99 {each['p99_ms']:.1f} ms, worst "
            f"{each['worst_ms']:.1f} ms; saturated {each['saturated_per_second']:,.0f} a second "
            f"(the kernel {each['kernel_over']:.2f} times); {each['same']:.1%} of the songs are "
            "the kernel's"
        )
    write(f"aim: p99 below {AIM_MS:g} ms; the kernel's is {ours['p99_ms'] / AIM_MS:.2f} of it")


def main() -> None:
    """Measure all servers and print them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--songs", type=int, default=380_000)
    parser.add_argument("--rank", type=int, default=64, help="of the songs' vectors")
    parser.add_argument("--top", type=int, default=20)
    parser.add_argument("--rate", type=float, default=50, help="requests a second, open loop")
    parser.add_argument("--seconds", type=float, default=20, help="of the open loop")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--port", type=int, default=18_080)
    parser.add_argument("--core", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--one", choices=RANKERS, help=argparse.SUPPRESS)
    parser.add_argument("--place", default="", help="a workspace of an earlier run, to be kept")
    parser.add_argument("--json", action="store_true", help="print one JSON object, last")
    options = parser.parse_args()
    if options.one:
        serve(options)
        return
    with tempfile.TemporaryDirectory(prefix="fusionrec-serve-") as scratch:
        options.place = options.place or f"{scratch}/w"
        if not Path(options.place).exists():
            make(options)
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-1:])
        requests = requests_of(options.songs, options.top)
        servers = {name: measured(options, name, requests) for name in RANKERS}
    ours = servers["kernel"]["lists"]
    for each in servers.values():
        lists = each.pop("lists")
        pairs = [
            (a, b) for x, y in zip(ours, lists, strict=True) for a, b in zip(x, y, strict=True)
        ]
        each["same"] = float(np.mean([a == b for a, b in pairs]))
        each["kernel_over"] = (
            servers["kernel"]["saturated_per_second"] / each["saturated_per_second"]
        )
    result = {name: getattr(options, name) for name in ("songs", "rank", "top", "rate", "batch")}
    result["servers"] = servers
    tell(result)
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
