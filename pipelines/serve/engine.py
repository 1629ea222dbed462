"""Requests ranked in batches, by a snapshot that gives way to a newer one."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from fusionrec.errors import FusionrecError
from pipelines.opened.asked import Asked, Listed
from pipelines.serve.metrics import Metrics
from pipelines.serve.settings import Settings
from pipelines.serve.snapshot import Snapshot, no_features, served_keys

log = logging.getLogger("fusionrec")
T = TypeVar("T")

_READERS = 2
"""Threads for what reads files or searches, so that no list waits for it."""

_AGAIN_SECONDS = 60.0
"""Until a result that could not be read is tried again."""


Takeover = Literal["none", "reading", "failed"]
"""Of a newer result: there is none, it is being read, or it could not be read."""


class BusyError(FusionrecError):
    """More requests wait than the service takes."""


@dataclass(frozen=True)
class _Like:
    """Songs like one that are asked for."""

    song_id: str
    top: int


@dataclass
class _Waiting:
    asked: Asked | _Like
    answer: asyncio.Future[tuple[Snapshot, Listed]] = field(repr=False)


class Engine:
    """Ranks by one thread, which takes all that waits, up to a number, in one call of the kernel.

    No request waits for others to come: while a batch is ranked, the next one gathers. A batch is
    ranked by the snapshot that was there when it began, to its end.
    """

    def __init__(
        self, settings: Settings, metrics: Metrics, snapshot: Snapshot | None = None
    ) -> None:
        self._settings, self._metrics = settings, metrics
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue(settings.waiting)
        self._ranker = ThreadPoolExecutor(1, "rank")
        self._readers = ThreadPoolExecutor(_READERS, "read")
        self._loader = ThreadPoolExecutor(1, "load")
        self._reading = 0
        self._tasks: list[asyncio.Task[None]] = []
        self.takeover: Takeover = "none"
        self._snapshot = snapshot

    @property
    def snapshot(self) -> Snapshot:
        """What new requests are answered by."""
        assert self._snapshot is not None, "start() comes first"
        return self._snapshot

    async def start(self) -> None:
        """Read the workspace, if no snapshot was given, and begin.

        Raises
        ------
        WorkspaceError
            There is nothing to serve.
        """
        self._take(self._snapshot or await self._load())
        self._tasks = [asyncio.create_task(self._rank_batches())]
        if self._settings.poll_seconds:
            self._tasks.append(asyncio.create_task(self._watch()))

    async def stop(self) -> None:
        """End; what waits is not answered."""
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        for pool in (self._ranker, self._readers, self._loader):
            pool.shutdown(wait=False, cancel_futures=True)

    # --- requests --------------------------------------------------------------------------

    async def list(self, asked: Asked) -> tuple[Snapshot, Listed]:
        """A list for some plays.

        Raises
        ------
        BusyError
            Too many requests wait.
        """
        return await self._ranked(asked)

    async def similar(self, song_id: str, top: int) -> tuple[Snapshot, Listed]:
        """Songs like one.

        Raises
        ------
        BusyError
            Too many requests wait.
        NotFoundError
            There is no such song, or the model knows nothing of it.
        """
        self.snapshot.row(song_id)
        if self.snapshot.likes is None:
            return await self.read(lambda snapshot: (snapshot, snapshot.read_similar(song_id, top)))
        return await self._ranked(_Like(song_id, top))

    async def read(self, work: Callable[[Snapshot], T]) -> T:
        """What takes a file or a while, in a thread of its own, of one snapshot.

        Raises
        ------
        BusyError
            Too many requests wait.
        """
        if self._reading >= self._settings.waiting:
            raise self._busy("read")
        self._reading += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._readers, work, self.snapshot)
        finally:
            self._reading -= 1

    async def _ranked(self, asked: Asked | _Like) -> tuple[Snapshot, Listed]:
        waiting = _Waiting(asked, asyncio.get_running_loop().create_future())
        try:
            self._queue.put_nowait(waiting)
        except asyncio.QueueFull:
            raise self._busy("be ranked") from None
        self._metrics.waiting.set(self._queue.qsize())
        return await waiting.answer

    def _busy(self, what: str) -> BusyError:
        return BusyError(
            f"{self._settings.waiting} requests wait to {what}: come again, or let more replicas "
            "share them"
        )

    async def _rank_batches(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = [await self._queue.get()]
            while len(batch) < self._settings.batch and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            self._metrics.waiting.set(self._queue.qsize())
            batch = [each for each in batch if not each.answer.done()]  # some were given up
            if not batch:
                continue
            snapshot, began = self.snapshot, time.perf_counter()
            asked = [each.asked for each in batch]
            try:
                found = await loop.run_in_executor(self._ranker, _rank, snapshot, asked)
            except asyncio.CancelledError:
                for each in batch:
                    each.answer.cancel()
                raise
            except Exception as error:  # the service ranks on
                log.exception("a batch failed")
                found = [error] * len(batch)
            self._metrics.batch.observe(len(batch))
            self._metrics.ranking.observe(time.perf_counter() - began)
            for each, answer in zip(batch, found, strict=True):
                if each.answer.done():
                    continue
                if isinstance(answer, Exception):
                    each.answer.set_exception(answer)
                else:
                    each.answer.set_result((snapshot, answer))

    # --- newer results ---------------------------------------------------------------------

    async def _load(self) -> Snapshot:
        of = self._settings
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._loader, Snapshot, of.workspace, of.model, of.similar_gb
        )

    def _take(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._metrics.served(snapshot.model, snapshot.result, snapshot.songs, snapshot.loaded)

    async def _watch(self) -> None:
        """Take over newer results, for as long as the service runs.

        While one is read, both are in memory. One that cannot be read is tried again later, and
        what was served before is served on.
        """
        loop, of = asyncio.get_running_loop(), self._settings
        failed: dict[str, str] | None = None
        again = 0.0
        while True:
            await asyncio.sleep(of.poll_seconds)
            keys: dict[str, str] = {}  # while these cannot be read
            try:
                keys = await loop.run_in_executor(self._loader, served_keys, of.workspace, of.model)
                if keys == self.snapshot.keys:
                    failed, self.takeover = None, "none"
                    continue
                if failed == keys and time.monotonic() < again:
                    continue
                log.info("there is a newer result in %s: reading it", of.workspace)
                self.takeover = "reading"
                self._take(await self._load())
                self._metrics.takeovers.inc()
                failed, self.takeover = None, "none"
            except Exception as error:
                self.takeover = "failed"
                if failed == keys and time.monotonic() < again:
                    continue
                failed, again = keys, time.monotonic() + _AGAIN_SECONDS
                self._metrics.failed_takeovers.inc()
                log.warning(
                    "the newer result in %s cannot be read, and what was served before is served "
                    "on: %s",
                    of.workspace,
                    error,
                )


def _rank(snapshot: Snapshot, asked: Sequence[Asked | _Like]) -> list[Listed | Exception]:
    """All of a batch; where that fails, one by one, so that none fails for another."""
    try:
        return _ranked_together(snapshot, asked)
    except Exception as error:
        if len(asked) == 1:
            return [error]
        return [_rank(snapshot, [each])[0] for each in asked]


def _ranked_together(
    snapshot: Snapshot, asked: Sequence[Asked | _Like]
) -> list[Listed | Exception]:
    lists = iter(snapshot.batches.lists([each for each in asked if isinstance(each, Asked)]))
    likes = iter(_similar(snapshot, [each for each in asked if isinstance(each, _Like)]))
    return [next(lists) if isinstance(each, Asked) else next(likes) for each in asked]


def _similar(snapshot: Snapshot, asked: Sequence[_Like]) -> list[Listed | Exception]:
    if not asked:
        return []
    if snapshot.likes is None:  # since it was asked for, a result came of which they take too much
        return [snapshot.read_similar(each.song_id, each.top) for each in asked]
    rows = [snapshot.row(each.song_id) for each in asked]
    return [
        no_features(each.song_id) if found is None else found
        for each, found in zip(
            asked, snapshot.likes.similar(rows, [each.top for each in asked]), strict=True
        )
    ]
