"""What is made once of a snapshot to be shown: classes, the map, users, the run's report."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any, Literal, TypeVar

import pyarrow as pa

from fusionrec.errors import FusionrecError
from pipelines.serve import reports
from pipelines.serve.engine import Engine
from pipelines.serve.genres import Genres
from pipelines.serve.snapshot import Snapshot
from pipelines.serve.song_map import SongMap

log = logging.getLogger("fusionrec")
T = TypeVar("T")


class Shown:
    """What is shown of one snapshot, each part made once; see :class:`Pages`.

    It does not keep the snapshot, which is to go when a newer one is there: whoever makes or reads
    something of it does.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = weakref.ref(snapshot)
        self.making: dict[Part, asyncio.Task[None]] = {}

    @property
    def snapshot(self) -> Snapshot:
        """Of what it is."""
        found = self._snapshot()
        assert found is not None
        return found

    def is_of(self, snapshot: Snapshot) -> bool:
        """Whether it is of this one."""
        return self._snapshot() is snapshot

    @cached_property
    def genres(self) -> Genres:
        """Its classes."""
        return Genres.read(self.snapshot)

    @cached_property
    def map(self) -> SongMap:
        """Its map."""
        return SongMap.of(self.snapshot, self.genres)

    @cached_property
    def users(self) -> pa.Array:
        """Ids of the users of its lists; none where it has none."""
        return self.snapshot.listed

    @cached_property
    def report(self) -> dict[str, Any]:
        """Its run's report."""
        workspace = self.snapshot.recommender.workspace
        return reports.report(workspace.uri, workspace)


Part = Literal["genres", "map", "users", "report"]
"""What takes a while to make."""

_FIRST: dict[Part, tuple[Part, ...]] = {"map": ("genres",)}
"""What a part is made of."""

_PATIENCE = 2.0
"""Seconds that a request waits for what is being made, before it is told to come again."""

_SAYS: dict[Part, str] = {
    "genres": "the classes of the songs are being read",
    "map": "the map is being made",
    "users": "the users are being read",
    "report": "the run's report is being read",
}


class MakingError(FusionrecError):
    """What was asked for is being made."""


class Pages:
    """What is shown, made in threads of its own: no list waits for it, and nothing is made twice.

    A part goes on being made when a request for it has been told to come again.
    """

    def __init__(self, engine: Engine, seconds: float) -> None:
        self._engine, self._patience = engine, min(_PATIENCE, seconds / 2)
        self._makers = ThreadPoolExecutor(2, "make")
        self._pool = ThreadPoolExecutor(1, "page")
        self.shown: Shown | None = None

    def begin(self) -> None:
        """Begin to make what the views of the page need, if nobody has."""
        for part in _SAYS:
            self._making(self._of(self._engine.snapshot), self._engine.snapshot, part)

    async def make(self, work: Callable[[Shown], T], *parts: Part, of: Snapshot | None = None) -> T:
        """What a function makes of parts of a snapshot: the current one, if none is given.

        Raises
        ------
        MakingError
            A part is not made yet.
        """
        snapshot = of or self._engine.snapshot
        shown = self._of(snapshot)
        making = [self._making(shown, snapshot, part) for part in parts]
        if making:
            await asyncio.wait(making, timeout=self._patience)
        for part, task in zip(parts, making, strict=True):
            if not task.done():
                raise MakingError(f"{_SAYS[part]}: come again")
            task.result()
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, shown)

    def _of(self, snapshot: Snapshot) -> Shown:
        if self.shown is not None and self.shown.is_of(snapshot):
            return self.shown
        shown = Shown(snapshot)
        if snapshot is self._engine.snapshot:
            self.shown = shown
        return shown

    def _making(self, shown: Shown, snapshot: Snapshot, part: Part) -> asyncio.Task[None]:
        """The making of a part: begun if it was not, or if it failed."""
        task = shown.making.get(part)
        if task is None or (task.done() and (task.cancelled() or task.exception())):
            task = asyncio.create_task(self._make(shown, snapshot, part))
            task.add_done_callback(_tell)
            shown.making[part] = task
        return task

    async def _make(self, shown: Shown, snapshot: Snapshot, part: Part) -> None:
        for first in _FIRST.get(part, ()):
            await self._making(shown, snapshot, first)

        def made() -> None:
            assert shown.is_of(snapshot)  # which this keeps until it is made
            getattr(shown, part)

        await asyncio.get_running_loop().run_in_executor(self._makers, made)

    def stop(self) -> None:
        """End; what waits is not made."""
        for pool in (self._makers, self._pool):
            pool.shutdown(wait=False, cancel_futures=True)


def _tell(task: asyncio.Task[None]) -> None:
    """Log what has failed, which nobody may have waited for."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.warning("what the page shows cannot be made: %s", error)
        error.__traceback__ = None  # whose frames keep the snapshot, and the task keeps the error
