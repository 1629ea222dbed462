"""Which file libhdf5 had open when a worker process vanished.

A damaged file can crash libhdf5, process and all. Its shard is then read anew by another worker; a
file that two processes vanished with is left out, instead of stopping the run. Only what the file
can have done counts: not the end of a run, nor of a node, nor any exception.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypedDict

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipelines.runtime.workspace import StageRun

NOTES = "notes"
"""Where the ingest stage keeps the notes while it runs."""

DEATHS = 2
"""As many processes may vanish with a file open before it is left out."""

_LOOKS, _LOOK_SECONDS = 20, 0.1
"""How often, and how far apart, it is looked whether a process has ended."""

_ANSWER_SECONDS = 30
"""How long a node may take to say whether a process of its own lives."""


class Process(TypedDict):
    """What tells a process from any other: its node, its id, when it began."""

    node: str
    pid: int
    began: str


class CrashNotes:
    """The notes of one shard; for :func:`fusionrec.formats.hdf5.reader.read_tracks`.

    Parameters
    ----------
    attempt
        What tells this run of the stage from any other: a note that another one left was
        left by whatever ended it.
    """

    def __init__(self, run: StageRun, part: int, attempt: str) -> None:
        self._run = run
        self._path = (NOTES, f"{part:05d}.json")
        self._attempt = attempt
        self._deaths: dict[str, list[str]] = {}
        if run.workspace.exists(run.stage, *self._path):
            note = run.read_json(*self._path)
            self._deaths = note["deaths"]
            if note["open"] and note["attempt"] == attempt and vanished(note["process"]):
                process = "process {pid} of node {node}".format(**note["process"])
                self._deaths.setdefault(note["open"], []).append(process)

    @contextlib.contextmanager
    def __call__(self, path: str) -> Iterator[str]:
        """Why `path` must not be opened, "" if it may be."""
        deaths = self._deaths.get(path, [])
        if len(deaths) >= DEATHS:
            yield f"{len(deaths)} processes vanished with it open: {', '.join(deaths)}"
            return
        self._write(path)
        try:
            yield ""
        finally:  # also where it was interrupted: a process that gets here did not die of it
            self._write("")

    def _write(self, path: str) -> None:
        note = {
            "open": path,
            "attempt": self._attempt,
            "process": this_process(),
            "deaths": self._deaths,
        }
        self._run.write_json(note, *self._path)


def this_process() -> Process:
    """This very process."""
    node = ray.get_runtime_context().get_node_id() if ray.is_initialized() else "here"
    return {"node": node, "pid": os.getpid(), "began": _began(os.getpid())}


def vanished(process: Process) -> bool:
    """Whether a process is gone though its node is there: a node that is lost says nothing."""
    if process["node"] == this_process()["node"]:
        return _is_gone(process)
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    if not any(node["Alive"] and node["NodeID"] == process["node"] for node in nodes):
        return False
    asked = ray.remote(_is_gone).options(
        num_cpus=0,
        max_retries=0,
        scheduling_strategy=NodeAffinitySchedulingStrategy(process["node"], soft=False),
    )
    answer = asked.remote(process)
    try:
        return bool(ray.get(answer, timeout=_ANSWER_SECONDS))
    except ray.exceptions.RayError:  # the node is about to be found lost
        ray.cancel(answer, force=True)
        return False


def _is_gone(process: Process) -> bool:
    for _ in range(_LOOKS):
        try:
            os.kill(process["pid"], 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass  # another user's: whether it is the same process, its beginning tells
        if _began(process["pid"]) != process["began"]:
            return True
        time.sleep(_LOOK_SECONDS)  # what was killed may take a moment to end
    return False


def _began(pid: int) -> str:
    """When a process began, which tells it from a later one of its id; "" where that is unknown.

    A process that has ended, and that its parent has not asked after, has no beginning either.
    """
    try:
        status = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return ""
    state, *rest = status.rpartition(b")")[2].split()
    return "" if state in (b"Z", b"X") else rest[18].decode()
