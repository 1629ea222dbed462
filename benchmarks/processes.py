"""What a process and all below it take: for benchmarks of whole commands."""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from pathlib import Path

_AT_WORK = ("_run_guarded", "Map(", "MapBatches(", "MapWorker(", "RayTrainWorker", "ImplicitFunc")
"""Beginnings of what workers call themselves, after ``ray::``, while they do a stage's work."""

_IDLE = "ray::IDLE"


class Watcher(threading.Thread):
    """Reads CPU time and memory of a process and all below it, every 50 ms or as told.

    Attributes
    ----------
    driver, workers
        Most anonymous resident memory (without Ray's shared object store) of the process, and of
        any of Ray's workers, in bytes.
    phase
        What the process is at, if whoever watches says so.
    peaks
        By phase, the most memory of any process of a kind, in bytes: anonymous of the ``driver``,
        the ``raylet``, the ``gcs_server``, a ``worker`` at work, an ``idle`` one (which keeps what
        its last work left) and any ``other`` (Ray's agents, monitors and actors), of ``all``
        together at one time, and ``shared``, that of the object store that one process touched.
    largest
        By phase, what the worker with the most memory at work ran.
    seconds
        CPU seconds of each process so far.
    """

    def __init__(self, pid: int, every: float = 0.05) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self._every = every
        self._lock = threading.Lock()
        self.seconds: dict[int, float] = {}
        self.driver = self.workers = 0
        self.phase = ""
        self.peaks: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        self.largest: dict[str, str] = {}

    def run(self) -> None:
        """Read until the process ends."""
        while os.path.exists(f"/proc/{self._pid}"):
            self.read()
            time.sleep(self._every)

    def read(self) -> float:
        """CPU seconds so far, those of ended processes included."""
        with self._lock:
            fields = {
                int(name): stat.rpartition(")")[2].split()
                for name in os.listdir("/proc")
                if name.isdigit() and (stat := _text(f"/proc/{name}/stat"))
            }
            family = [self._pid] if self._pid in fields else []
            for parent in family:
                family += [pid for pid, stat in fields.items() if int(stat[1]) == parent]
            peaks, together = self.peaks[self.phase], 0
            for pid in family:
                ticks = int(fields[pid][11]) + int(fields[pid][12])
                self.seconds[pid] = ticks / os.sysconf("SC_CLK_TCK")
                status = _text(f"/proc/{pid}/status")
                memory = _bytes(status, "RssAnon:")
                together += memory
                kind = "driver" if pid == self._pid else _kind(pid, status)
                if kind == "driver":
                    self.driver = max(self.driver, memory)
                elif status.partition("Name:\t")[2].startswith("ray::"):
                    self.workers = max(self.workers, memory)
                if kind == "worker" and memory > peaks[kind]:
                    self.largest[self.phase] = title(pid)
                peaks[kind] = max(peaks[kind], memory)
                peaks["shared"] = max(peaks["shared"], _bytes(status, "RssShmem:"))
            peaks["all"] = max(peaks["all"], together)
            return sum(self.seconds.values())

    def peaks_of(self, phase: str) -> dict[str, int]:
        """The :attr:`peaks` of a phase, which may still be going on."""
        with self._lock:
            return dict(self.peaks[phase])


def title(pid: int) -> str:
    """What a process calls itself: of a worker of Ray, ``ray::`` and what it runs; "" if ended."""
    return _text(f"/proc/{pid}/cmdline").replace("\0", " ").strip()


def is_at_work(name: str) -> bool:
    """Whether a process of this name or title does a stage's work; Ray's own actors do not."""
    return name.removeprefix("ray::").startswith(_AT_WORK) and name.startswith("ray::")


def _kind(pid: int, status: str) -> str:
    name = status.partition("Name:\t")[2].partition("\n")[0]
    if name.startswith("ray::"):
        name = title(pid) or name  # a name is cut after 15 bytes
    if is_at_work(name):
        return "worker"
    if name.startswith(_IDLE):
        return "idle"
    return name if name in ("raylet", "gcs_server") else "other"


def _bytes(status: str, field: str) -> int:
    return int((status.partition(field)[2] or "0").split()[0]) << 10


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:  # it has ended
        return ""
