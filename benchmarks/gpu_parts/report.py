"""How a part tells what it found: a line of JSON on standard output for each figure, at once."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

OURS = ("fusionrec", "pipelines", "gpu_parts", "tests", "plain_loop", "roberta_shape")
"""Modules whose absence is a fault, and no reason to skip anything."""


@dataclass(frozen=True)
class Options:
    """How a part is to be run.

    Attributes
    ----------
    device
        "cuda" or "cpu"; on a CPU, sizes are small.
    pace
        At most 1: by what the seconds of a measurement are multiplied.
    """

    device: str
    pace: float = 1.0

    @property
    def on_gpu(self) -> bool:
        """Whether sizes are those of a GPU."""
        return self.device == "cuda"

    def seconds(self, on_gpu: float, on_cpu: float = 0.3) -> float:
        """How long to measure."""
        return on_gpu * self.pace if self.on_gpu else on_cpu


class Report:
    """What a part found.

    Attributes
    ----------
    failed
        Whether one of its steps has.
    """

    def __init__(self) -> None:
        self.failed = False
        # Libraries print, too: what is ours has a descriptor of its own, theirs goes to stderr.
        self._stream = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)

    def tell(self, **event: Any) -> None:
        """One line to the runner."""
        self._stream.write(json.dumps(event) + "\n")

    def figure(self, name: str, value: float | str | bool, unit: str = "", note: str = "") -> None:
        """A result; `note` says what it is to be compared with, or how it was had."""
        event: dict[str, Any] = {"figure": name, "value": value}
        self.tell(**event, **{k: v for k, v in {"unit": unit, "note": note}.items() if v})

    def skip(self, name: str, why: str) -> None:
        """Something that could not be measured here."""
        self.tell(skipped=name, why=why)

    def fail(self, name: str, why: str) -> None:
        """Something that went wrong."""
        self.failed = True
        self.tell(failed=name, why=why)

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measurements whose failure is no reason to leave out those that follow."""
        try:
            yield
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] in OURS:
                self.fail(name, str(error))
            else:
                self.skip(name, f"{error.name} is not installed")
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            line = str(error).strip().split("\n")[0]
            self.fail(name, f"{type(error).__name__}: {line}")

    def memory(self, device: str, of: str = "") -> None:
        """Peak memory of this process so far and, if it used one, of the GPU since the last time.

        `of` says what it was needed for, where that is not the whole part.
        """
        name = f"{of}: peak" if of else "peak"
        if device == "cuda":
            import torch

            self.figure(f"{name} GPU memory", torch.cuda.max_memory_reserved() / 2**30, "GiB")
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self.figure(f"{name} memory", peak / 2**20, "GiB", "of the process, in RAM")


def synchronise(device: str) -> None:
    """Wait until the device has done what it was given."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


class Clock:
    """Counts the rounds of a measurement until its time is over: at least `rounds` of them.

    Iterate over it, a round a turn; then `seconds` is what they took and `count` how many
    they were.
    """

    def __init__(self, seconds: float, device: str, rounds: int = 1) -> None:
        self._limit, self._device, self._rounds = seconds, device, rounds
        self.seconds, self.count = 0.0, 0

    def __iter__(self) -> Iterator[int]:
        synchronise(self._device)
        started = time.perf_counter()
        while self.count < self._rounds or self.seconds < self._limit:
            yield self.count
            self.count += 1
            synchronise(self._device)
            self.seconds = time.perf_counter() - started
