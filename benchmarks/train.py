"""Training the fusion network: Ray Train's workers against arithmetic, and a plain PyTorch loop.

    python benchmarks/train.py [--songs 20000] [--columns 300] [--batch 256 1024 4096] [--json]
                               [--shapes 1x1 1x2 2x1] [--gpu]

All train the paper's network on the same random tensors with Adam and the class-weighted
cross-entropy. A shape is workers x threads of each; 0x1 is one in a task, without Ray
Train. `plain` is the loop one would write without a
cluster: one process and thread, torch's own layers, no Ray. The time is that of the epochs, after
start-up and a first epoch that warms up; rounds take turns, the medians count.

`of the peak` is what the products of the layers are of the arithmetic limit: the rate of a product
of two 1,024 x 1,024 matrices of float32 in one thread, measured in the worker between the epochs,
times the threads of all workers. On shared cores both rates fall together.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass

import torch
from plain_loop import CLASSES, PlainLoop, random_songs

from fusionrec.models.examples import InMemory
from fusionrec.models.network import HIDDEN
from fusionrec.models.settings import Settings
from fusionrec.models.training import Training
from pipelines.config import ClusterConfig, TrainConfig
from pipelines.runtime import distributed, session, tasks
from pipelines.runtime.stage import Counts
from pipelines.runtime.workspace import Workspace

NORM_GROUP = TrainConfig().norm_group
SIDE = 1024
"""Of the matrices whose product is the limit."""


@dataclass(frozen=True)
class Job:
    """What a worker measures."""

    songs: int
    columns: int
    batch: int
    epochs: int
    norm_group: int | None


def operations(columns: int) -> int:
    """Floating-point operations of the layers' products for a song: forward, and both gradients.

    Two for each weight and product; nothing needs the gradient of the features.
    """
    weights, before = 0, columns
    for width in HIDDEN:
        weights += before * width + 2 * width * width
        before = width
    return 6 * (weights + before * CLASSES) - 2 * columns * HIDDEN[0]


def peak(seconds: float = 0.2) -> float:
    """Operations a second of a large product in one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    a, out = torch.randn(SIDE, SIDE), torch.empty(SIDE, SIDE)
    torch.mm(a, a, out=out)
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        torch.mm(a, a, out=out)
        count += 1
    spent = time.perf_counter() - started
    torch.set_num_threads(threads)
    return count * 2 * SIDE**3 / spent


def plain(job: Job, gpu: bool) -> float:
    """Songs per second of the loop one would write first."""
    torch.set_num_threads(1)
    songs = random_songs(job.songs, job.columns).train
    loop = PlainLoop(songs, job.batch, "cuda" if gpu else "cpu")
    loop.epoch()
    started = time.perf_counter()
    for _ in range(job.epochs):
        loop.epoch()
    return job.songs * job.epochs / (time.perf_counter() - started)


def _work(job: Job, worker: distributed.Worker) -> Counts:
    settings = Settings(job.epochs + 1, job.batch, norm_group=job.norm_group)
    feed = InMemory(
        random_songs(job.songs, job.columns),
        batch_size=job.batch,
        seed=0,
        norm_group=job.norm_group,
        collective=worker.collective,
        device=worker.device,
    )
    training = Training(feed, settings, collective=worker.collective, device=worker.device)
    training._mean(training._train_epoch())
    seconds, peaks = 0.0, [peak()]
    for _ in range(job.epochs):
        # Together, and the mean waits for the device.
        training.group.sum(torch.zeros(1, device=worker.device))
        started = time.perf_counter()
        training._mean(training._train_epoch())
        seconds += time.perf_counter() - started
        peaks.append(peak())
    return {"rate": job.songs * job.epochs / seconds, "peak": statistics.mean(peaks)}


def under_ray(job: Job, workers: int, threads: int, *, gpu: bool) -> tuple[float, float]:
    """Songs per second of Ray Train's workers, and the peak of a thread of the first."""
    with tempfile.TemporaryDirectory() as folder:
        run = Workspace(folder).begin("train", {})
        assert run is not None
        found = distributed.run(
            *(_work, job, run),
            workers=workers,
            num_gpus=1.0 if gpu else 0.0,
            threads=threads,
            patience=60.0,
        )
    rate, limit = found["rate"], found["peak"]
    assert isinstance(rate, float)
    assert isinstance(limit, float)
    return rate, limit


def shape(text: str) -> tuple[int, int]:
    """Workers and threads of each, of "2x1"."""
    workers, _, threads = text.partition("x")
    return int(workers), int(threads or 1)


def measured(options: argparse.Namespace, batch: int) -> list[dict[str, float | str | None]]:
    """A row of the plain loop, and one of each shape."""
    group = None if options.whole_batch else NORM_GROUP
    job = Job(options.songs, options.columns, batch, options.epochs, group)
    rates: dict[str, list[float]] = {}
    shares: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        rates.setdefault("plain", []).append(
            tasks.run_task(None, plain, job, options.gpu, num_gpus=options.gpu)
        )
        for workers, threads in options.shapes:
            name = f"{workers} x {threads}"
            rate, limit = under_ray(job, workers, threads, gpu=options.gpu)
            rates.setdefault(name, []).append(rate)
            share = rate * operations(options.columns) / (limit * max(1, workers) * threads)
            shares.setdefault(name, []).append(share)
    median = {name: statistics.median(values) for name, values in rates.items()}
    first = next((median[name] for name in median if name != "plain"), median["plain"])
    return [
        {
            "batch": batch,
            "shape": name,
            "songs_per_second": rate,
            "against_plain": rate / median["plain"],
            "against_first": rate / first,
            "of_the_peak": (
                statistics.median(shares[name]) if name in shares and not options.gpu else None
            ),
        }
        for name, rate in median.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--songs", type=int, default=20_000)
    parser.add_argument("--columns", type=int, default=300)
    parser.add_argument("--batch", type=int, nargs="*", default=[256, 1024, 4096])
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shapes", type=shape, nargs="*", default=None, help="as 1x1 1x2 2x1")
    parser.add_argument("--whole-batch", action="store_true", help="normalise over the whole batch")
    parser.add_argument("--gpu", action="store_true", help="one GPU a worker")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    options.shapes = options.shapes or ([(1, 1)] if options.gpu else [(1, 1), (1, 2), (2, 1)])
    session.start(ClusterConfig(num_cpus=max(2, *(w * t for w, t in options.shapes))))
    rows = []
    print("batch  shape    songs/s  of plain  of first  of the peak", file=sys.stderr)
    for batch in options.batch:
        for row in measured(options, batch):
            rows.append(row)
            share = "" if row["of_the_peak"] is None else f"{row['of_the_peak']:.2f}"
            line = (
                f"{row['batch']:5}  {row['shape']:6}{row['songs_per_second']:10,.0f}"
                f"{row['against_plain']:10.2f}{row['against_first']:10.2f}{share:>13}"
            )
            print(line, file=sys.stderr, flush=True)
    if options.json:
        print(json.dumps({"rows": rows}))


if __name__ == "__main__":
    main()
