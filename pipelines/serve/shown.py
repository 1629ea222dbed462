"""What is made once of a snapshot to be shown: classes, the map, users, the run's report."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any, TypeVar

import pyarrow as pa

from pipelines.serve import reports
from pipelines.serve.engine import Engine
from pipelines.serve.genres import Genres
from pipelines.serve.snapshot import Snapshot
from pipelines.serve.song_map import SongMap

T = TypeVar("T")


class Shown:
    """What is shown of one snapshot, made when it is first asked for.

    It does not keep the snapshot, which is to go when a newer one is there: whoever makes or reads
    something of it does.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = weakref.ref(snapshot)

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


class Pages:
    """Makes what is shown, in one thread of its own: no list waits, and nothing is made twice."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._pool = ThreadPoolExecutor(1, "page")
        self.shown: Shown | None = None

    async def make(self, work: Callable[[Shown], T], of: Snapshot | None = None) -> T:
        """What a function makes of a snapshot: the current one, if none is given."""
        snapshot = of or self._engine.snapshot

        def begin() -> T:
            shown = self.shown
            if shown is None or not shown.is_of(snapshot):
                shown = Shown(snapshot)
                if snapshot is self._engine.snapshot:
                    self.shown = shown
            return work(shown)

        return await asyncio.get_running_loop().run_in_executor(self._pool, begin)

    def stop(self) -> None:
        """End; what waits is not made."""
        self._pool.shutdown(wait=False, cancel_futures=True)
