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

Beside them, of the same epochs: CPU time of a worker a step; the share of the time in which a
worker waits for the others in memory that they share; and how many CPUs all else on the machine
took, Ray's own processes among it (Linux). What is above a tenth of a CPU there is other work, and
the rates of several workers are then not those of a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from plain_loop import CLASSES, PlainLoop, random_songs

from fusionrec.models.examples import InMemory, cuts
from fusionrec.models.network import HIDDEN
from fusionrec.models.node_memory import NodeMemory
from fusionrec.models.settings import Settings
from fusionrec.models.training import Training
from pipelines.config import ClusterConfig, TrainConfig
from pipelines.runtime import distributed, session, tasks
from pipelines.runtime.stage import Counts
from pipelines.runtime.workspace import Workspace

NORM_GROUP = TrainConfig().norm_group
BESIDE = ("cpu_ms_a_step", "waiting", "other_cpus", "stolen_cpus")
"""What a rate is made of; the last is what the machine's host took."""
_MACHINE = Path("/proc/stat")
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


class Waits:
    """The seconds that a worker waits for the others, in memory that they share."""

    def __init__(self, memory: NodeMemory | None) -> None:
        self.seconds = 0.0
        if memory is not None:
            self._barrier = memory.barrier
            memory.barrier = self._timed  # type: ignore[method-assign]

    def _timed(self) -> None:
        started = time.perf_counter()
        self._barrier()
        self.seconds += time.perf_counter() - started


def busy() -> NDArray[np.float64]:
    """CPU seconds of all that this machine has run, and those that its host took; NaN elsewhere."""
    if not _MACHINE.exists():
        return np.full(2, np.nan)
    first, _, _ = _MACHINE.read_text().partition("\n")
    user, nice, system, _, _, irq, softirq, stolen, *_ = map(int, first.split()[1:])
    seconds = np.array([user + nice + system + irq + softirq, stolen], float)
    return seconds / os.sysconf("SC_CLK_TCK")


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
    waits = Waits(worker.collective.memory)
    mine, machine, peaks = np.zeros(3), np.zeros(2), [peak()]
    for _ in range(job.epochs):
        # Together, and the mean waits for the device.
        training.group.sum(torch.zeros(1, device=worker.device))
        before = np.array([time.perf_counter(), time.process_time(), waits.seconds]), busy()
        training._mean(training._train_epoch())
        mine += np.array([time.perf_counter(), time.process_time(), waits.seconds]) - before[0]
        machine += busy() - before[1]
        peaks.append(peak())
    seconds, cpu, waited = map(float, mine)
    steps = job.epochs * len(list(cuts(job.songs, job.batch)))
    workers = training.group.world
    all_cpu, all_waited = training.group.sum(
        torch.tensor([cpu, waited], device=worker.device)
    ).tolist()
    found = {
        "rate": job.songs * job.epochs / seconds,
        "peak": statistics.mean(peaks),
        "cpu_ms_a_step": 1000 * all_cpu / workers / steps,
        "waiting": all_waited / workers / seconds,
    }
    if not np.isnan(machine).any():
        ran, stolen = map(float, machine)
        found |= {
            "other_cpus": max(0.0, ran - all_cpu) / seconds,
            "stolen_cpus": stolen / seconds,
        }
    return found


def under_ray(job: Job, workers: int, threads: int, *, gpu: bool) -> dict[str, float]:
    """What the first of Ray Train's workers measured, beside what `_work` says of all."""
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
    return {name: value for name, value in found.items() if isinstance(value, float)}


def shape(text: str) -> tuple[int, int]:
    """Workers and threads of each, of "2x1"."""
    workers, _, threads = text.partition("x")
    return int(workers), int(threads or 1)


def measured(options: argparse.Namespace, batch: int) -> list[dict[str, Any]]:
    """A row of the plain loop, and one of each shape."""
    group = None if options.whole_batch else NORM_GROUP
    job = Job(options.songs, options.columns, batch, options.epochs, group)
    runs: dict[str, list[dict[str, float]]] = {}
    for _ in range(options.rounds):
        rate = tasks.run_task(None, plain, job, options.gpu, num_gpus=options.gpu)
        runs.setdefault("plain", []).append({"rate": rate})
        for workers, threads in options.shapes:
            found = under_ray(job, workers, threads, gpu=options.gpu)
            limit = found["peak"] * max(1, workers) * threads
            found["of_the_peak"] = found["rate"] * operations(options.columns) / limit
            runs.setdefault(f"{workers} x {threads}", []).append(found)

    def median(shape: str, figure: str) -> float | None:
        found = [run[figure] for run in runs[shape] if figure in run]
        return statistics.median(found) if found else None

    rates = {shape: statistics.median(run["rate"] for run in runs[shape]) for shape in runs}
    first = next((rates[shape] for shape in rates if shape != "plain"), rates["plain"])
    return [
        {
            "batch": batch,
            "shape": shape,
            "songs_per_second": rate,
            "against_plain": rate / rates["plain"],
            "against_first": rate / first,
            "of_the_peak": None if options.gpu else median(shape, "of_the_peak"),
            **{figure: median(shape, figure) for figure in BESIDE},
        }
        for shape, rate in rates.items()
    ]


def _shown(figure: float | None, width: int, digits: int) -> str:
    return " " * width if figure is None else f"{figure:{width}.{digits}f}"


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
    columns = "songs/s  of plain  of first  of the peak  CPU ms/step  waiting  other CPUs"
    print(f"batch  shape    {columns}", file=sys.stderr)
    for batch in options.batch:
        for row in measured(options, batch):
            rows.append(row)
            print(
                f"{row['batch']:5}  {row['shape']:6}{row['songs_per_second']:10,.0f}"
                f"{row['against_plain']:10.2f}{row['against_first']:10.2f}"
                f"{_shown(row['of_the_peak'], 13, 2)}{_shown(row['cpu_ms_a_step'], 13, 1)}"
                f"{_shown(row['waiting'], 9, 3)}{_shown(row['other_cpus'], 12, 2)}",
                file=sys.stderr,
                flush=True,
            )
    load = " ".join(f"{each:.1f}" for each in os.getloadavg())
    print(f"load average: {load}", file=sys.stderr)
    if options.json:
        print(json.dumps({"rows": rows, "load_average": os.getloadavg()}))


if __name__ == "__main__":
    main()
