"""Killing what Ray runs: workers, actors, nodes."""

import contextlib
import glob
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path


def family(pid: int) -> list[int]:
    """A process and all below it."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            stat = (folder / "stat").read_text()
            parents[int(folder.name)] = int(stat.rpartition(")")[2].split()[1])
    found = [pid]
    for each in found:
        found += [child for child, parent in parents.items() if parent == each]
    return found


def ray_processes(title: str) -> list[int]:
    """Processes of the Ray that this one or one below it has started, that run such a title.

    Not of whatever else runs on this machine.
    """
    found = []
    for pid in family(os.getpid()):
        with contextlib.suppress(OSError):
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            if command.startswith(b"ray::") and title.encode() in command:
                found.append(pid)
    return found


@contextlib.contextmanager
def killing(title: str, sign: Path, times: int = 2) -> Iterator[list[int]]:
    """While it lasts: once `sign` appears, SIGKILL processes of Ray that run `title`."""
    killed: list[int] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set() and len(killed) < times:
            if glob.glob(str(sign)):
                for pid in ray_processes(title)[:1]:
                    if pid not in killed:
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGKILL)
                            killed.append(pid)
                        time.sleep(0.3)
            time.sleep(0.005)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield killed
    finally:
        done.set()
        thread.join()


def lose_nodes(settings: Mapping[str, Sequence[str]]) -> None:
    """Run stages on two nodes, of which each loses one; in a process of its own."""
    script = Path(__file__).with_name("node_loss.py")
    done = subprocess.run(
        [sys.executable, str(script), json.dumps(settings)],
        # A node that does not answer five times is lost; Ray asks every three seconds else.
        env={**os.environ, "PYTHONPATH": os.getcwd(), "RAY_health_check_period_ms": "500"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for stage in settings:
        assert f"{stage}: removed a node" in done.stdout
