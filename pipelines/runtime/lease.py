"""One writer a result: whoever computes it holds a lease, and is seen to be alive.

A writer puts a claim of its own beside the result and looks at the others. Whoever sees another
claim takes its own back; so of two that claim at once at least one sees the other, and no two hold
the lease, on filesystems without locks, too. A claim is renewed every few
seconds, with a number that grows. No clock of another machine is believed: a writer is dead if its
number stands still for a while of the observer's own time, or if it ran on this machine and its
process is gone.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from fusionrec.errors import BusyError, WorkspaceError
from pipelines.runtime.run_id import run_id
from pipelines.runtime.workspace import StageRun, Workspace

log = logging.getLogger("fusionrec")

FOLDER = "lease"
RENEWED_EVERY = 5.0
"""Seconds between two signs of life."""
PATIENCE = 4 * RENEWED_EVERY
"""Seconds without one after which a writer is dead."""
_TRIES = 8


class Claim(TypedDict):
    """What the file of a claim holds; `beat` grows as long as its writer lives."""

    run: str
    host: str
    machine: str | None
    process: int
    process_started: str | None
    since: str
    beat: int


@dataclass
class Lease:
    """The right to write one result.

    Attributes
    ----------
    lost
        Set where another writer took this one for dead, after it had stood still for long.
    """

    run: StageRun
    name: str
    beat: int = 0
    lost: threading.Event = field(default_factory=threading.Event)
    _over: threading.Event = field(default_factory=threading.Event)

    def check(self) -> None:
        """Raise a BusyError if the lease was lost."""
        if self.lost.is_set() or not self.run.workspace.exists(*self._path):
            raise BusyError(
                f"stage {self.run.stage}: this run stood still for so long that another took over; "
                "let that one end, or stop it and run the command again"
            )

    @property
    def _path(self) -> tuple[str, ...]:
        return (self.run.stage, FOLDER, self.name)

    def _renew(self) -> None:
        self.beat += 1
        claim: Claim = {
            "run": run_id(),
            "host": socket.gethostname(),
            "machine": _machine(),
            "process": os.getpid(),
            "process_started": _process_started(os.getpid()),
            "since": time.strftime("%Y-%m-%d %H:%M:%S %Z"),
            "beat": self.beat,
        }
        self.run.workspace.write_json(claim, *self._path)

    def _keep(self) -> None:
        while not self._over.wait(RENEWED_EVERY):
            try:
                if not self.run.workspace.exists(*self._path):
                    self.lost.set()
                    return
                self._renew()
            except (OSError, WorkspaceError) as error:
                # What matters is written by the stage itself, which then fails by name.
                log.debug("stage %s: its lease is not renewed: %s", self.run.stage, error)

    def _drop(self) -> None:
        with contextlib.suppress(OSError):
            self.run.workspace.remove_file(self.run.path(FOLDER, self.name))


@contextlib.contextmanager
def held(run: StageRun) -> Iterator[Lease]:
    """Hold the lease of a result while the block runs.

    Raises
    ------
    BusyError
        Another run is at work on it.
    """
    lease = _acquired(run)
    keeper = threading.Thread(target=lease._keep, daemon=True)
    keeper.start()
    try:
        yield lease
    finally:
        lease._over.set()
        keeper.join()
        lease._drop()


def _acquired(run: StageRun) -> Lease:
    for _ in range(_TRIES):
        lease = Lease(run, f"{uuid.uuid4().hex}.json")
        lease._renew()
        others = {}
        try:
            others = {
                name: claim
                for name, claim in claims(run.workspace, run.stage).items()
                if name != lease.name
            }
        finally:
            if others:
                lease._drop()
        if not others:
            return lease
        alive = _living(run.workspace, run.stage, others)
        if alive is not None:
            raise BusyError(at_work(run.stage, alive))
        # The claims of dead writers go.
        for name in others:
            with contextlib.suppress(OSError):
                run.workspace.remove_file(run.path(FOLDER, name))
        # Of two that came at once, both have stepped back.
        time.sleep(random.uniform(0.05, 0.5))
    raise BusyError(f"stage {run.stage}: other runs begin it at this moment; run the command again")


def claims(workspace: Workspace, stage: str) -> dict[str, Claim]:
    """The claims beside a stage's result, by file name."""
    found = {}
    for info in workspace.files(stage, FOLDER):
        if info.base_name.startswith("."):
            continue
        with contextlib.suppress(FileNotFoundError):  # dropped meanwhile
            found[info.base_name] = workspace.read_json(stage, FOLDER, info.base_name)
    return found


def at_work(stage: str, claim: Claim) -> str:
    """Who is at work on a stage, for people."""
    return (
        f"stage {stage}: at work since {claim['since']} by run {claim['run']} "
        f"(process {claim['process']} on {claim['host']}); wait until it ends, or stop it first"
    )


def living(workspace: Workspace, stage: str) -> Claim | None:
    """The claim of the run that is at work on a stage's result; None if there is none.

    A claim of another machine, or of this one before it was started anew, is watched until it
    moves or has stood still for :data:`PATIENCE`.
    """
    return _living(workspace, stage, claims(workspace, stage))


def _living(workspace: Workspace, stage: str, there: dict[str, Claim]) -> Claim | None:
    """Of these claims one that is seen to move."""
    unsure = {name: claim for name, claim in there.items() if not _surely_dead(claim)}
    end, told = time.monotonic() + PATIENCE, False
    while unsure and time.monotonic() < end:
        time.sleep(min(RENEWED_EVERY, PATIENCE) / 10)
        now = claims(workspace, stage)
        unsure = {name: claim for name, claim in unsure.items() if name in now}
        for name, claim in unsure.items():
            if now[name]["beat"] != claim["beat"]:
                return now[name]
        if unsure and not told and time.monotonic() > end - PATIENCE + RENEWED_EVERY:
            told = True
            log.info("stage %s: another run began it; looking whether that one lives", stage)
    return None


def _surely_dead(claim: Claim) -> bool:
    """Whether the writer ran on this machine, and its process is gone."""
    if claim["machine"] is None or claim["machine"] != _machine():
        return False
    return bool(_process_started(claim["process"]) != claim["process_started"])


def _machine() -> str | None:
    """What process numbers are of: this boot of this machine, and their name space."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None


def _process_started(process: int) -> str | None:
    """When a process of this machine was started; None if there is none, or none can be seen."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return None
