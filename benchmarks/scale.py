"""What each stage costs at 1, 2, 4 and 8 times the data, and how that grows.

    python benchmarks/scale.py [--songs 500] [--users 250] [--factors 1 2 4 8] [--json]
        [--record cluster/capacity.json]
    python benchmarks/scale.py --capacity cluster/capacity.json   # CAPACITY.md's tables

Each size is a sample corpus and a run of the whole pipeline of its own. A stage's cost is the CPU
time of the driver and of all Ray's processes while it works, so that other work on the machine
does not count. The cost is taken as fixed + size / rate; the growth is the exponent p of
fixed + c size^p, of which the fixed part drops out: (c4 - c2) / (c2 - c1) = 2^p.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from processes import Watcher

CONFIG = Path(__file__).parents[1] / "pipelines" / "configs" / "sample.yaml"
UNITS = {
    "ingest": "songs",
    "split": "songs",
    "label": "songs",
    "pretrain": "songs",
    "embed": "songs",
    "fuse": "songs",
    "train": "songs",
    "recommend": "users x candidates",
    "evaluate": "users",
}
"""What a stage's cost is proportional to."""

FULL = {
    "songs": 1_000_000,
    "lyrics": 237_662,
    "users": 1_019_318,
    "plays": 48_373_586,
    "labelled": 93_000,
}
"""The Million Song Dataset with musiXmatch and the Taste Profile; the paper's training songs."""


def measure(songs: int, users: int) -> dict[str, Any]:
    """Run the pipeline on a sample corpus: CPU seconds, wall seconds and size of each stage."""
    with tempfile.TemporaryDirectory(prefix="fusionrec-scale-") as scratch:
        command = [sys.executable, "-m", "pipelines.cli"]
        subprocess.run(
            [
                *(*command, "--quiet", "sample", "--out", f"{scratch}/corpus"),
                *("--songs", str(songs), "--users", str(users)),
            ],
            check=True,
        )
        run = subprocess.Popen(
            [
                *(*command, "--log-format", "json", "run", "--config", str(CONFIG), "--json"),
                *("--set", f"source.root={scratch}/corpus", "--set", f"workspace={scratch}/w"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        watcher = Watcher(run.pid)
        watcher.start()
        begun: dict[str, float] = {}
        cpu: dict[str, float] = {}
        assert run.stderr is not None
        last = ""
        for last in run.stderr:
            stage, _, what = json.loads(last)["message"].partition(": ")
            if what == "started":
                begun[stage] = watcher.read()
            elif what.startswith("done"):
                cpu[stage] = watcher.read() - begun[stage]
        if run.wait():
            raise SystemExit(f"the run failed: {last}")
        manifests = {
            # A new workspace has one result of each stage.
            stage: json.loads(next(Path(scratch, "w").glob(f"{stage}/*/manifest.json")).read_text())
            for stage in cpu
        }
    ingested = manifests["ingest"]["counts"]["songs"]
    ranked = manifests["recommend"]["counts"]
    sizes = {
        "songs": ingested,
        "users": ranked["users"],
        "users x candidates": ranked["users"] * ranked["candidates"],
    }
    return {
        "stages": {
            stage: {
                "cpu_seconds": seconds,
                "wall_seconds": manifests[stage]["wall_seconds"],
                "size": sizes[UNITS[stage]],
            }
            for stage, seconds in cpu.items()
        },
        "driver_mb": watcher.driver / 2**20,
        "worker_mb": watcher.workers / 2**20,
    }


def fit(sizes: list[float], costs: list[float]) -> dict[str, float | None]:
    """Fixed cost and rate of the line through the costs, and the growth's exponent.

    Returns
    -------
    dict
        ``fixed`` [s]; ``rate`` [1/s], None where the cost does not grow; ``exponent`` and
        ``spread``, mean and standard error over the triples of doubled sizes, None where a
        triple is missing or noise hides the growth.
    """
    x, y = np.asarray(sizes, float), np.asarray(costs, float)
    # Relative errors: the largest size must not drown the fixed part.
    slope, fixed = np.polyfit(x, y, 1, w=1 / np.maximum(y, 1e-9))
    if fixed < 0:
        fixed, slope = 0.0, float((x * y / y**2).sum() / (x * x / y**2).sum())
    steps = [b - a for a, b in pairwise(costs)]
    ratios = [
        math.log(after / before) / math.log(larger / smaller)
        for (before, after), (smaller, larger) in zip(
            pairwise(steps), pairwise(np.diff(sizes)), strict=True
        )
        if before > 0 and after > 0
    ]
    whole = len(ratios) == len(sizes) - 2 and ratios
    return {
        "fixed": float(fixed),
        "rate": float(1 / slope) if slope > 0 else None,
        "exponent": float(np.mean(ratios)) if whole else None,
        "spread": float(np.std(ratios) / math.sqrt(len(ratios))) if whole else None,
    }


def summary(measured: list[dict[str, Any]]) -> dict[str, Any]:
    """The fit of each stage over all sizes."""
    return {
        stage: {
            "unit": UNITS[stage],
            **fit(
                [each["stages"][stage]["size"] for each in measured],
                [each["stages"][stage]["cpu_seconds"] for each in measured],
            ),
        }
        for stage in measured[0]["stages"]
    }


def table(measured: list[dict[str, Any]], factors: list[int]) -> str:
    """CPU seconds of each stage at each size with their fit, as Markdown."""
    heads = [f"{factor}x" for factor in factors]
    lines = [
        "| stage | " + " | ".join(heads) + " | fixed [s] | rate [1/CPU-s] | of | exponent |",
        "|---|" + "--:|" * (len(heads) + 2) + "---|--:|",
    ]
    for stage, found in summary(measured).items():
        costs = [f"{each['stages'][stage]['cpu_seconds']:.1f}" for each in measured]
        rate = f"{found['rate']:,.0f}" if found["rate"] else "no growth"
        power = "–" if found["exponent"] is None else f"{found['exponent']:.2f}"
        if found["exponent"] is not None and found["spread"]:
            power += f" ± {found['spread']:.2f}"
        lines.append(
            f"| {stage} | {' | '.join(costs)} | {found['fixed']:.1f} | {rate} "
            f"| {found['unit']} | {power} |"
        )
    memory = [
        f"| {name} memory [MB] | "
        + " | ".join(f"{each[key]:,.0f}" for each in measured)
        + " | | | | |"
        for name, key in (("driver", "driver_mb"), ("largest worker", "worker_mb"))
    ]
    return "\n".join([*lines, *memory])


CLUSTERS: tuple[dict[str, Any], ...] = (
    {"name": "one machine", "cores": 16, "gpus": 0},
    {"name": "a few machines", "cores": 64, "gpus": 1},
    {"name": "all of aws.yaml", "cores": 256, "gpus": 1},
)
CANDIDATES = 200_000
"""Test songs at one fifth of all: what each user's list is chosen from."""

EPOCHS = 2_000
"""The paper's."""

TRAINERS, BATCH = 16, 1_024
"""Workers of a training on the smallest of these clusters, and songs of a batch of all of them."""


def steps(
    recorded: dict[str, Any],
    data: Mapping[str, int] = FULL,
    candidates: int = CANDIDATES,
    ranking: str = "ranking_seconds_per_user_and_song",
) -> dict[str, tuple[float, str]]:
    """CPU seconds of each step for data of these sizes, and how they come about.

    `ranking` names the recorded rate of what is ranked by.
    """
    rates, fits = recorded["rates"], summary(recorded["measured"])
    songs, users = data["songs"], data["users"]
    shared = {
        "ingest: tracks": (songs, "files_per_cpu_second"),
        "ingest: plays": (data["plays"], "plays_per_cpu_second"),
        "embed: lyrics, roberta-base": (data["lyrics"], "documents_per_cpu_second"),
    }
    found = {
        name: (amount / rates[rate], f"{amount:,} / {rates[rate]:,}")
        for name, (amount, rate) in shared.items()
    }
    for stage in ("split", "label", "embed", "fuse", "evaluate"):
        rate, amount = fits[stage]["rate"], users if stage == "evaluate" else songs
        name = "embed: metadata and audio" if stage == "embed" else stage
        # A stage whose cost did not grow with the data has only its fixed part.
        found[name] = (amount / rate, f"{amount:,} / {rate:,.0f}") if rate else (0.0, "no growth")
    seconds = users * candidates * rates[ranking]
    found["recommend"] = (seconds, f"{users:,} x {candidates:,} x {rates[ranking]:.2g}")
    return found


def training(recorded: dict[str, Any]) -> tuple[float, str]:
    """Seconds of the paper's epochs by the workers of one node, and how they come about.

    A step takes what two workers needed at their share of the batch: so much a song, and so much
    whatever the share.
    """
    rates, labelled = recorded["rates"], FULL["labelled"]
    song, step = rates["training_seconds_a_song_of_two"], rates["training_seconds_a_step_of_two"]
    share = BATCH // TRAINERS
    how = f"{EPOCHS:,} x {labelled:,} / {BATCH:,} x ({share} x {song:.2g} + {step:.2g})"
    return EPOCHS * labelled / BATCH * (share * song + step), how


def capacity(recorded: dict[str, Any]) -> str:
    """Hours and money for the full Million Song Dataset on three clusters, as Markdown."""
    rates, price = recorded["rates"], recorded["prices"]
    heads = [f"{c['name']}: {c['cores']} cores, {c['gpus']} GPU" for c in CLUSTERS]
    lines = [
        "| step | CPU-seconds | = | " + " | ".join(heads) + " |",
        "|---|--:|---|" + "--:|" * len(CLUSTERS),
    ]
    totals = [float(rates["fixed_seconds"])] * len(CLUSTERS)

    def add(name: str, amount: str, how: str, times: list[float]) -> None:
        for index, seconds in enumerate(times):
            totals[index] += seconds
        cells = " | ".join(_time(seconds) for seconds in times)
        lines.append(f"| {name} | {amount} | {how} | {cells} |")

    for name, (seconds, how) in steps(recorded).items():
        times = [seconds / c["cores"] for c in CLUSTERS]
        if "roberta" in name:
            on_gpu = FULL["lyrics"] / rates["documents_per_gpu_second_assumed"]
            times = [
                on_gpu / c["gpus"] if c["gpus"] else t for c, t in zip(CLUSTERS, times, strict=True)
            ]
        add(name, f"{seconds:,.0f}", how, times)
    seconds, how = training(recorded)
    name = f"train, {TRAINERS} workers of one node"
    add(name, f"{TRAINERS * seconds:,.0f}", how, [seconds] * len(CLUSTERS))
    fixed = " | ".join([_time(rates["fixed_seconds"])] * len(CLUSTERS))
    lines.append(f"| fixed | | Ray, single tasks | {fixed} |")
    lines.append("| **whole run** | | | " + " | ".join(f"**{_time(t)}**" for t in totals) + " |")
    for name in ("on_demand", "spot"):
        hour = price[name]
        money = [
            total / 3600 * (c["cores"] * hour["core_hour"] + c["gpus"] * hour["gpu_hour"])
            for total, c in zip(totals, CLUSTERS, strict=True)
        ]
        cells = " | ".join(f"{amount:,.2f} USD" for amount in money)
        lines.append(f"| {name.replace('_', ' ')} | | | {cells} |")
    return "\n".join(lines)


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def document(recorded: dict[str, Any]) -> str:
    """The tables that stand in CAPACITY.md."""
    measured = table(recorded["measured"], recorded["factors"])
    return f"{measured}\n\n{capacity(recorded)}\n"


def main() -> None:
    """Measure, or print CAPACITY.md's tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--songs", type=int, default=500, help="songs at 1x")
    parser.add_argument("--users", type=int, default=250, help="users at 1x")
    parser.add_argument("--factors", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--record", type=Path, help="put the measurement into this JSON file")
    parser.add_argument("--capacity", type=Path, help="print CAPACITY.md's tables of a record")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    if chosen.capacity:
        print(document(json.loads(chosen.capacity.read_text())), end="")
        return
    measured = []
    for factor in chosen.factors:
        measured.append(measure(chosen.songs * factor, chosen.users * factor))
        total = sum(stage["cpu_seconds"] for stage in measured[-1]["stages"].values())
        print(f"{factor}x: {total:.0f} CPU-seconds in the stages", file=sys.stderr)
    found = {
        "songs": chosen.songs,
        "users": chosen.users,
        "factors": chosen.factors,
        "measured": measured,
    }
    if chosen.record:
        old = json.loads(chosen.record.read_text()) if chosen.record.exists() else {}
        chosen.record.write_text(json.dumps({**old, **found}, indent=1) + "\n")
    if chosen.json:
        print(json.dumps({**found, "fits": summary(measured)}))
    else:
        print(table(measured, chosen.factors))


if __name__ == "__main__":
    main()
