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

import numpy as np
import torch
from torch import nn

from fusionrec.config import ClusterConfig, TrainConfig
from fusionrec.models.collective import Collective
from fusionrec.models.examples import Examples, InMemory, TrainingSet
from fusionrec.models.fusion import FusionSettings
from fusionrec.models.network import HIDDEN
from fusionrec.models.training import Settings, Training, precision
from pipelines import cluster, distributed
from pipelines.workspace import Workspace

CLASSES = 6
NORM_GROUP = TrainConfig().norm_group


def random_songs(songs: int, columns: int) -> TrainingSet:
    """Features and classes; there is nothing to learn, and that costs the same."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((songs, columns), np.float32)
    train = Examples(x, np.ones((songs, 1), bool), rng.integers(0, CLASSES, songs))
    none = Examples(x[:0], train.present[:0], train.y[:0])
    return TrainingSet(train, none, none, CLASSES, FusionSettings((columns,)))


class Residual(nn.Module):
    """The residual block in torch's own layers."""

    def __init__(self, width: int, p: float) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(width, width),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Dropout(p),
            nn.Linear(width, width),
            nn.BatchNorm1d(width),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.body(x))


def plain(options: argparse.Namespace) -> float:
    """Songs per second of the loop one would write first."""
    device = "cuda" if options.gpu else "cpu"
    torch.set_num_threads(1)
    songs = random_songs(options.songs, options.columns).train
    x, y = torch.from_numpy(songs.x).to(device), torch.from_numpy(songs.y).to(device)
    layers: list[nn.Module] = []
    for before, width in zip((options.columns, *HIDDEN[:-1]), HIDDEN, strict=True):
        layers += [nn.Linear(before, width), nn.ReLU(), Residual(width, 0.5)]
    model = nn.Sequential(*layers, nn.Linear(HIDDEN[-1], CLASSES)).to(device)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.001)
    loss_of = nn.CrossEntropyLoss(torch.ones(CLASSES, device=device))
    halves, _ = precision("auto", device)

    def epoch() -> None:
        for rows in torch.randperm(len(y)).split(options.batch):
            rows = rows.to(device)
            with torch.autocast(device, torch.bfloat16, enabled=halves):
                loss = loss_of(model(x[rows]), y[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        if options.gpu:
            torch.cuda.synchronize()

    epoch()
    started = time.perf_counter()
    for _ in range(options.epochs):
        epoch()
    return len(y) * options.epochs / (time.perf_counter() - started)


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
        found = distributed.run(_work, job, run, workers=workers, num_gpus=gpus)
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
    cluster.start(ClusterConfig(num_cpus=max(2, *workers)))
    rates: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        rates.setdefault("plain", []).append(cluster.run_task(plain, options, num_gpus=options.gpu))
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
