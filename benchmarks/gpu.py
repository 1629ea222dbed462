"""Everything that only a GPU can show, in ten minutes, most valuable first.

    python benchmarks/gpu.py [--minutes 10] [--only embed,train] [--device auto|cuda|cpu]

A part is a process with a time limit of its own: one that fails, crashes or hangs does not end
the others. Each figure is printed as soon as it is there, on standard error; one JSON object,
last, on standard output. On a CPU all parts run, small. No network and no weights are needed;
nor are Ray, pydantic and gensim: what they, or anything else, are missing for is skipped by
name. The status is 1 where a part failed or ran out of time, else 0.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from gpu_parts import runner  # noqa: E402
from gpu_parts.report import Options, Report  # noqa: E402

PARTS = {
    "checks": (120.0, "the tests marked gpu: transformers' vectors, the CPU's results"),
    "embed": (210.0, "lyrics through a roberta-base-shaped model"),
    "train": (75.0, "training the fusion network"),
    "tune": (110.0, "two trials at once on one GPU"),
    "rank": (60.0, "the exact top 500, beside the compiled kernel"),
    "fit": (60.0, "pre-training and the convolutional baseline, beside the CPU"),
}
"""Seconds at most, in a run of ten minutes, and what is measured."""

MACHINE = ("machine", 60.0)
"""What all runs begin with; it chooses the device."""


def main() -> int:
    """Run the parts, or the one that a runner asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="for all parts together")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas between them")
    parser.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--pace", type=float, default=1.0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        return run_part(options.part, Options(options.device, options.pace))
    unknown = sorted(set(options.only.split(",")) - PARTS.keys())
    if unknown:
        parser.error(f"--only: no part {unknown[0]!r}; there are {', '.join(PARTS)}")
    return run_parts(options)


def run_part(name: str, options: Options) -> int:
    """The process of one part."""
    # A worker thread that spins between two small products costs more than it brings.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["HF_HUB_OFFLINE"] = "1"
    report = Report()
    with report.step(name):
        importlib.import_module(f"gpu_parts.{name}").run(report, options)
    return int(report.failed)


def run_parts(options: argparse.Namespace) -> int:
    """The process that keeps the time."""
    started = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - started:6.1f} s  {line}", file=sys.stderr, flush=True)

    def part(name: str, seconds: float, device: str) -> runner.Part:
        words = ("--part", name, "--device", device, "--pace", "{pace}")
        return runner.Part(name, (sys.executable, str(HERE / "gpu.py"), *words), seconds)

    outcomes: dict[str, runner.Outcome] = {}
    chosen = [name for name in PARTS if name in options.only.split(",")]

    def parts() -> Iterator[runner.Part]:
        yield part(*MACHINE, options.device)
        device = device_of(outcomes)
        if device is not None:
            for name in chosen:
                # A CPU may have others' work to do; a GPU is ours alone.
                seconds = PARTS[name][0] * (1 if device == "cuda" else 2)
                yield part(name, seconds, device)

    try:
        runner.run(parts(), options.minutes, say=say, outcomes=outcomes)
    finally:
        # Without a device, no part was begun.
        machine = outcomes.get(MACHINE[0], runner.Outcome("interrupted"))
        for name in chosen:
            if machine.status == "failed":
                missing = runner.Outcome("failed", f"no device: {machine.why}")
            else:
                missing = runner.Outcome("interrupted", machine.why)
            outcomes.setdefault(name, missing)
        small = device_of(outcomes) != "cuda"
        result: dict[str, Any] = {
            "device": device_of(outcomes),
            "sizes": "small: the figures mean nothing by themselves" if small else "a GPU's",
            "seconds": round(time.monotonic() - started, 1),
            "parts": {name: asdict(outcome) for name, outcome in outcomes.items()},
        }
        say(", ".join(f"{name} {outcome.status}" for name, outcome in outcomes.items()))
        print(json.dumps(result), flush=True)
    return int(any(o.status not in ("done", "skipped") for o in outcomes.values()))


def device_of(outcomes: dict[str, runner.Outcome]) -> str | None:
    """The device that the first part chose."""
    machine = outcomes.get(MACHINE[0])
    figure = machine.figures.get("device") if machine else None
    return None if figure is None else str(figure["value"])


if __name__ == "__main__":
    sys.exit(main())
