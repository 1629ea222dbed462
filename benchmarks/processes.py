"""What a process and all below it take: for benchmarks of whole commands."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path


class Watcher(threading.Thread):
    """Reads CPU time and memory of a process and all below it, every 50 ms.

    Attributes
    ----------
    driver, workers
        Most anonymous resident memory (without Ray's shared object store) of the process, and of
        any of Ray's workers, in bytes.
    """

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self._seconds: dict[int, float] = {}
        self.driver = self.workers = 0

    def run(self) -> None:
        """Read until the process ends."""
        while os.path.exists(f"/proc/{self._pid}"):
            self.read()
            time.sleep(0.05)

    def read(self) -> float:
        """CPU seconds so far, those of ended processes included."""
        fields = {
            int(name): stat.rpartition(")")[2].split()
            for name in os.listdir("/proc")
            if name.isdigit() and (stat := _text(f"/proc/{name}/stat"))
        }
        family = [self._pid] if self._pid in fields else []
        for parent in family:
            family += [pid for pid, stat in fields.items() if int(stat[1]) == parent]
        for pid in family:
            ticks = int(fields[pid][11]) + int(fields[pid][12])
            self._seconds[pid] = ticks / os.sysconf("SC_CLK_TCK")
            status = _text(f"/proc/{pid}/status")
            memory = int((status.partition("RssAnon:")[2] or "0").split()[0]) << 10
            if pid == self._pid:
                self.driver = max(self.driver, memory)
            elif status.partition("Name:\t")[2].startswith("ray::"):
                self.workers = max(self.workers, memory)
        return sum(self._seconds.values())


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:  # it has ended
        return ""
