"""A rehearsal of the Million Song Dataset: a run at a part of its size, a worker lost on the way.

    python benchmarks/rehearsal.py CORPUS --songs 100000 [--epochs 20] [--kill embed] [--json]
    python benchmarks/rehearsal.py CORPUS --songs 2000    # two cores, some minutes

Into the folder CORPUS a sample corpus is written, unless one of these sizes is there: HDF5 files,
lyrics of .24 of the songs, one user a song, 50 plays a user. Then `fusionrec run` reads it by
pipelines/configs/msd.yaml, but for what the result names as overridden: a small encoder takes
RoBERTa's place (`--encoder base`: one of its shape, with random weights), trained a little, and the
network sees the songs less often. Once a worker of the stage `--kill` has used some CPU time, it
gets a SIGKILL. What each stage took is put beside what cluster/CAPACITY.md says of this size
(`predictions.py`), as ratios; those off by more than 30 % are marked, with a star in the table.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from predictions import FIGURES, Size, predictions
from processes import Watcher, is_at_work, title

from fusionrec.errors import ConfigError
from fusionrec.formats.sample.corpus import SampleTruth, read_truth, write_sample
from fusionrec.formats.sample.model import HISTORY_SPREAD, LEAST_HISTORY
from pipelines import config as config_module
from pipelines.run import STAGES

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "pipelines" / "configs" / "msd.yaml"
RECORD = ROOT / "cluster" / "capacity.json"
TINY = ("embed.lyrics.encoder=pretrain", "pretrain.epochs=1", "pretrain.max_bags=2000")
OFF = 0.3
"""Ratios that differ from 1 by more are marked."""


def corpus(place: Path, options: argparse.Namespace) -> tuple[SampleTruth, float | None]:
    """The corpus in this folder, and the seconds that writing it took if it was not there."""
    users = options.users or options.songs
    # The mean of a log-normal is its median times exp(sigma^2 / 2).
    beyond = (options.plays - LEAST_HISTORY) / math.exp(HISTORY_SPREAD**2 / 2)
    asked = {"songs": options.songs, "users": users, "seed": options.seed}
    shares = {"lyrics": options.lyrics, "history": LEAST_HISTORY + beyond}
    with contextlib.suppress(ConfigError):
        truth = read_truth(place)
        there = {name: getattr(truth, name) for name in asked}
        there |= {"lyrics": truth.lyrics_share, "history": truth.history}
        if there != {**asked, **shares}:
            sys.exit(
                f"{place}: holds a sample corpus of other sizes ({there}); name another folder"
            )
        return truth, None
    begun = time.perf_counter()
    truth = write_sample(place, **asked, **shares, processes=options.processes)
    return truth, time.perf_counter() - begun


def overrides(place: Path, scratch: Path, options: argparse.Namespace) -> list[str]:
    """What the run has other than msd.yaml, the places of corpus and workspace left out."""
    chosen = [f"train.epochs={options.epochs}"]
    if options.encoder == "pretrain":
        chosen += TINY
    elif options.encoder == "base":
        from embed import corpus_words
        from roberta_shape import write_model

        words, vocabulary = corpus_words(place, 128, 2_000)
        write_model(str(scratch / "encoder"), words.texts(vocabulary), vocabulary=8_000)
        chosen.append(f"embed.lyrics.encoder={scratch / 'encoder'}")
    else:
        chosen.append(f"embed.lyrics.encoder={options.encoder}")
    return chosen + options.set


class Killer(threading.Thread):
    """Kills that worker of a run which is the first to use so much CPU time from now on."""

    def __init__(self, watcher: Watcher, after: float) -> None:
        super().__init__(daemon=True)
        self._watcher = watcher
        self._after = after
        self.over = threading.Event()
        self.killed: dict[str, Any] | None = None

    def run(self) -> None:
        """Look ten times a second, until one is killed or it is :attr:`over`."""
        begun = time.perf_counter()
        before = dict(self._watcher.seconds)
        while not self.over.wait(0.1):
            self._watcher.read()
            for pid, seconds in list(self._watcher.seconds.items()):
                used, name = seconds - before.get(pid, 0.0), title(pid)
                if used < self._after or not is_at_work(name):
                    continue
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    after = time.perf_counter() - begun
                    self.killed = {"worker": name, "cpu_seconds": used, "after_seconds": after}
                    return


def run(settings: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """`fusionrec run`, watched: what it took by stage, and which worker was killed.

    Returns
    -------
    dict
        ``stages``, by name CPU seconds and most memory [MB]; ``wall_seconds`` of the command;
        ``killed``, or why none was (``missed``); ``warnings`` that were logged.
    """
    command = [sys.executable, "-m", "pipelines.cli", "--log-format", "json", "run", "--json"]
    command += ["--config", str(CONFIG)] + [part for each in settings for part in ("--set", each)]
    begun = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    watcher = Watcher(process.pid, every=0.2)
    watcher.start()
    try:
        return _watched(process, watcher, begun, options)
    finally:
        process.terminate()  # nothing, if it has ended


def _watched(
    process: subprocess.Popen[str], watcher: Watcher, begun: float, options: argparse.Namespace
) -> dict[str, Any]:
    killer = Killer(watcher, options.kill_after)
    stages: dict[str, dict[str, Any]] = {}
    warnings, last, before = [], "", 0.0
    assert process.stderr is not None
    for last in process.stderr:
        said = json.loads(last) if last.startswith("{") else {"message": last, "level": "other"}
        stage, _, what = said["message"].partition(": ")
        if said["level"] in ("warning", "error"):
            warnings.append(said["message"])
        if what == "started":
            watcher.phase, before = stage, watcher.read()
            if stage == options.kill:
                killer.start()
        elif what.startswith("done in"):
            if stage == options.kill:
                killer.over.set()
            took = watcher.read() - before
            peaks = {kind: size / 2**20 for kind, size in watcher.peaks_of(stage).items()}
            stages[stage] = {"cpu_seconds": took, "memory_mb": peaks}
            stages[stage]["largest_worker"] = watcher.largest.get(stage)
            print(f"{stage}: {what}, {took:.1f} CPU seconds", file=sys.stderr, flush=True)
            watcher.phase = ""
    if process.wait():
        sys.exit(f"the run failed: {last}")
    missed = f"none of {options.kill} took {options.kill_after:g} CPU seconds"
    if options.kill not in stages:
        missed = f"{options.kill} did not run"
    return {
        "stages": stages,
        "wall_seconds": time.perf_counter() - begun,
        "cpu_seconds": watcher.read(),
        "killed": killer.killed,
        "missed": None if killer.killed else missed,
        "warnings": warnings,
    }


def size_of(manifests: dict[str, Any], config: Any, options: argparse.Namespace) -> Size:
    """What the arithmetic goes by, as the run found it."""
    counts = {stage: manifest["counts"] for stage, manifest in manifests.items()}
    return Size(
        songs=counts["ingest"]["tracks"],
        lyrics=counts["ingest"]["lyrics"],
        users=counts["recommend"]["users"],
        plays=counts["ingest"]["triplets"],
        labelled=counts["train"]["train_songs"],
        epochs=config.train.epochs,
        candidates=counts["recommend"]["candidates"],
        components=counts["fuse"]["components"],
        base=options.encoder != "pretrain",
        blend=config.recommend.model == "blend",
    )


def lost(truth: SampleTruth, counts: dict[str, Any]) -> dict[str, list[int]]:
    """What ingest should have read and did not, or too often: by name, there and read."""
    damage = truth.injected
    there = {
        "tracks": truth.songs,
        "lyrics": truth.lyrics_train + truth.lyrics_test - damage["lyrics_cut_lines"],
        "triplets": truth.triplets + damage["triplet_unknown_song"],
        "tracks_rejected": damage["hdf5_truncated"] + damage["hdf5_not_hdf5"],
    }
    return {name: [n, counts[name]] for name, n in there.items() if counts[name] != n}


def compared(facts: dict[str, Any], expected: dict[str, float]) -> dict[str, Any]:
    """A stage's facts with the prediction, the ratios to it, and which of these are far from 1."""
    flat = {**facts, **{f"{kind}_mb": mb for kind, mb in facts["memory_mb"].items()}}
    known = {name: each for name, each in expected.items() if flat.get(name) is not None}
    ratios = {name: flat[name] / each for name, each in known.items()}
    off = [name for name, ratio in ratios.items() if abs(ratio - 1) > OFF]
    return {**facts, "predicted": known, "ratios": ratios, "off": off}


def rehearsed(place: Path, options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Write the corpus, run, and compare."""
    truth, writing = corpus(place, options)
    chosen = overrides(place, scratch, options)
    workspace = (options.workspace or scratch / "workspace").absolute()
    settings = [f"source.root={place.absolute()}", f"workspace={workspace}", *chosen]
    if options.cpus:
        settings.append(f"cluster.num_cpus={options.cpus}")
    config = config_module.load(CONFIG, settings)
    found = run(settings, options)
    cores = config.cluster.num_cpus or len(os.sched_getaffinity(0))
    manifests = {
        stage: json.loads(next(workspace.glob(f"{stage}/*/manifest.json")).read_text())
        for stage in found["stages"]
    }
    recorded = json.loads(RECORD.read_text())
    size = size_of(manifests, config, options)
    expected = predictions(recorded, size, cores)
    for stage, facts in found["stages"].items():
        facts["wall_seconds"] = manifests[stage]["wall_seconds"]
        files = (workspace / stage / manifests[stage]["key"]).rglob("*")
        facts["disk_mb"] = sum(file.stat().st_size for file in files if file.is_file()) / 2**20
        found["stages"][stage] = compared(facts, expected.get(stage, {}))
    return {
        "corpus": {**vars(size), "written_in_seconds": writing},
        "overridden": chosen,
        "cores": cores,
        **found,
        "lost": lost(truth, manifests["ingest"]["counts"]),
    }


def table(found: dict[str, Any]) -> Iterator[str]:
    """A line a stage: each figure with its ratio to the prediction."""
    heads = ("wall [s]", "CPU [s]", "driver [MB]", "worker [MB]", "disk [MB]")
    yield f"{'':<10}" + "".join(f"{head:>18}" for head in heads) + f"{'all at once [MB]':>18}"
    for stage, each in found["stages"].items():
        flat = {**each, **{f"{kind}_mb": mb for kind, mb in each["memory_mb"].items()}}
        line = f"{stage:<10}"
        for name in FIGURES:
            ratio = each["ratios"].get(name)
            beside = "" if ratio is None else f" ({ratio:.2f}{'*' * (name in each['off'])})"
            value = flat.get(name)
            line += f"{'–' if value is None else f'{value:,.1f}{beside}':>18}"
        yield line + f"{each['memory_mb']['all']:>18,.0f}"
    yield f"{'whole run':<10}{found['wall_seconds']:>18,.1f}{found['cpu_seconds']:>18,.1f}"
    yield "In brackets, over what CAPACITY.md says of this size; *: more than 30 % from it."
    yield f"Overridden: {', '.join(found['overridden'])}"
    killed = found["killed"]
    yield (
        f"No worker was killed: {found['missed']}"
        if killed is None
        else f"Killed: {killed['worker']}, after {killed['after_seconds']:.1f} s of the stage"
    )
    yield f"Read otherwise than written: {found['lost'] or 'nothing'}"


def main() -> None:
    """Rehearse and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--songs", type=int, default=100_000)
    parser.add_argument("--users", type=int, help="as many as songs, unless given")
    parser.add_argument("--plays", type=float, default=50.0, help="songs a user has played, mean")
    parser.add_argument("--lyrics", type=float, default=0.24, help="share of the songs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="writing the corpus")
    parser.add_argument("--encoder", default="pretrain", help="or base, or a name or folder")
    parser.add_argument("--epochs", type=int, default=20, help="of the network; msd.yaml has 200")
    parser.add_argument("--set", action="append", default=[], help="any key=value of the config")
    stages = [stage.name for stage in STAGES]
    parser.add_argument("--kill", default="embed", choices=stages, help="that loses a worker")
    parser.add_argument("--kill-after", type=float, default=1.0, help="CPU seconds of the worker")
    parser.add_argument("--cpus", type=int, help="all, unless given")
    parser.add_argument("--workspace", type=Path, help="a new folder, which is kept")
    parser.add_argument("--json", action="store_true", help="print one JSON object, last")
    options = parser.parse_args()
    if options.workspace is not None and options.workspace.exists():
        parser.error(f"{options.workspace}: exists; what is up to date there would cost nothing")
    if options.plays <= LEAST_HISTORY:
        parser.error(f"--plays {options.plays:g}: must be more than {LEAST_HISTORY}")
    options.corpus.absolute().parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        prefix="fusionrec-rehearsal-", dir=options.corpus.absolute().parent
    ) as scratch:
        found = rehearsed(options.corpus, options, Path(scratch))
    print("\n".join(table(found)), file=sys.stderr)
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
