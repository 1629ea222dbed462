"""Trials of a search on one device, two at once against one alone."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from gpu_parts.report import Clock, Options, Report

WAIT_S = 60.0
"""For the other trial to be ready."""

Found = dict[str, float]
"""Of a trial: "rate" in songs a second, and "memory" of the GPU in GiB."""

Trials = Callable[[int, Path], list[Found]]
"""Runs so many trials at once, which meet in a folder."""


def trial(number: int, folder: Path, trials: int, options: Options) -> Found:
    """One trial, while as many others train as are said to."""
    import torch

    from gpu_parts import train

    torch.set_num_threads(1)
    data = train.songs(options)
    training = train.training(data, options.device, train.BATCH, train.NORM_GROUP)
    training._train_epoch()
    (folder / f"ready-{number}").touch()
    ends = time.monotonic() + WAIT_S
    while len(list(folder.glob("ready-*"))) < trials:
        if time.monotonic() > ends:
            raise TimeoutError(f"the other trial was not ready within {WAIT_S:g} s")
        time.sleep(0.01)
    # They begin together, and end within an epoch of each other.
    clock = Clock(options.seconds(8, 0.5), options.device)
    for _ in clock:
        training._train_epoch()
    memory = torch.cuda.max_memory_reserved() / 2**30 if options.on_gpu else 0.0
    return {"rate": len(data.train.y) * clock.count / clock.seconds, "memory": memory}


def write_trial(number: int, folder: Path, trials: int, options: Options) -> None:
    """:func:`trial` in a process of its own, whose answer is a file."""
    found = trial(number, folder, trials, options)
    (folder / f"found-{number}.json").write_text(json.dumps(found))


def in_processes(trials: int, folder: Path, options: Options) -> list[Found]:
    """Plain processes."""
    spawn = multiprocessing.get_context("spawn")
    processes = [
        spawn.Process(target=write_trial, args=(number, folder, trials, options))
        for number in range(trials)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise RuntimeError(f"trials ended with {[process.exitcode for process in processes]}")
    return [json.loads((folder / f"found-{number}.json").read_text()) for number in range(trials)]


def under_ray(trials: int, folder: Path, options: Options) -> list[Found]:
    """Tasks of Ray's, each with its share of the GPU."""
    from pipelines.runtime import tasks

    share = 1.0 / trials if options.on_gpu else 0.0
    found: list[Found] = tasks.gather(
        [
            tasks.submit(None, trial, number, folder, trials, options, num_gpus=share)
            for number in range(trials)
        ]
    )
    return found


def compare(report: Report, name: str, run_trials: Trials) -> None:
    """One trial alone, then two at once."""
    together: dict[int, float] = {}
    for trials in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            found = run_trials(trials, Path(folder))
        together[trials] = sum(one["rate"] for one in found)
        each = " and ".join(f"{one['rate']:,.0f} in {one['memory']:.2f} GiB" for one in found)
        report.figure(f"{trials} at once, {name}", together[trials], "songs/s", each)
    report.figure(f"two at once over one, {name}", together[2] / together[1], "x")


def run(report: Report, options: Options) -> None:
    """In plain processes, then under Ray where it is there."""
    with report.step("processes"):
        compare(report, "processes", partial(in_processes, options=options))
    with report.step("Ray"):
        import ray

        from pipelines.config import ClusterConfig
        from pipelines.runtime import resources, session

        started = time.perf_counter()
        session.start(ClusterConfig(num_cpus=2, object_store_mb=200))
        with contextlib.ExitStack() as stack:
            stack.callback(ray.shutdown)
            report.figure("starting Ray", time.perf_counter() - started, "s")
            if options.on_gpu and not resources.gpus():
                raise RuntimeError("PyTorch sees a GPU, and Ray does not")
            compare(report, "Ray", partial(under_ray, options=options))
