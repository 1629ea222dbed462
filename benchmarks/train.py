"""Training the fusion network: Ray Train's workers against a plain PyTorch loop.

    python benchmarks/train.py [--songs 20000] [--columns 300] [--epochs 8] [--gpu] [--json]

Both train the paper's network on the same random tensors, in batches of the same size, with
Adam and the class-weighted cross-entropy; a worker has one thread. `plain` is the loop one
would write without a cluster: one process, torch's own layers, no Ray. The time is that of the
epochs, after start-up and a first epoch that warms up; rounds take turns, the medians count.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from typing import Any

import torch
from plain_loop import PlainLoop, random_songs

from fusionrec.models.collective import Collective
from fusionrec.models.examples import InMemory
from fusionrec.models.training import Settings, Training
from pipelines.config import ClusterConfig, TrainConfig
from pipelines.runtime import distributed, session, tasks
from pipelines.runtime.workspace import Workspace

NORM_GROUP = TrainConfig().norm_group


def plain(options: argparse.Namespace) -> float:
    """Songs per second of the loop one would write first."""
    device = "cuda" if options.gpu else "cpu"
    torch.set_num_threads(1)
    loop = PlainLoop(random_songs(options.songs, options.columns).train, options.batch, device)
    loop.epoch()
    started = time.perf_counter()
    for _ in range(options.epochs):
        loop.epoch()
    return options.songs * options.epochs / (time.perf_counter() - started)


def _work(job: dict[str, Any], collective: Collective, device: str) -> dict[str, Any]:
    torch.set_num_threads(1)
    settings = Settings(job["epochs"] + 1, job["batch"], 0.001, 0.5, dtype="auto")
    group = None if job["whole_batch"] else NORM_GROUP
    feed = InMemory(
        random_songs(job["songs"], job["columns"]),
        batch_size=job["batch"],
        seed=0,
        norm_group=group,
        collective=collective,
        device=device,
    )
    training = Training(feed, settings, collective=collective, device=device)
    training._train_epoch()
    started = time.perf_counter()
    for _ in range(job["epochs"]):
        training._train_epoch()
    seconds = time.perf_counter() - started
    return {"rate": job["songs"] * job["epochs"] / seconds}


def under_ray(options: argparse.Namespace, workers: int) -> float:
    """Songs per second of `workers` Ray Train workers (0: in a task, without Ray Train)."""
    with tempfile.TemporaryDirectory() as folder:
        run = Workspace(folder).begin("train", {})
        assert run is not None
        gpus = 1.0 if options.gpu else 0.0
        job = vars(options)
        found = distributed.run(_work, job, run, workers=workers, num_gpus=gpus, patience=60)
    return float(found["rate"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--songs", type=int, default=20_000)
    parser.add_argument("--columns", type=int, default=300)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="*", default=None)
    parser.add_argument("--whole-batch", action="store_true", help="normalise over the whole batch")
    parser.add_argument("--gpu", action="store_true", help="one GPU a worker")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    workers = options.workers or ([1] if options.gpu else [1, 2])
    session.start(ClusterConfig(num_cpus=max(2, *workers)))
    rates: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        rates.setdefault("plain", []).append(
            tasks.run_task(None, plain, options, num_gpus=options.gpu)
        )
        for count in workers:
            rates.setdefault(f"{count} worker(s)", []).append(under_ray(options, count))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    result = {
        "songs_per_second": medians,
        "against_plain": {name: rate / medians["plain"] for name, rate in medians.items()},
        "against_one_worker": {
            n: r / medians[f"{workers[0]} worker(s)"] for n, r in medians.items()
        },
    }
    for name, rate in medians.items():
        line = f"{name:12} {rate:10,.0f} songs/s  {rate / medians['plain']:6.2f} of plain"
        print(line, file=sys.stderr)
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
