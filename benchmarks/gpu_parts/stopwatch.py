"""Where the time goes: functions replaced, for a while, by ones that are timed."""

from __future__ import annotations

import contextlib
import functools
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import torch

from fusionrec.features.lyrics import tfidf
from fusionrec.features.lyrics.packed import PackedEncoder
from fusionrec.features.lyrics.pieces import WordTokenizer


class Stopwatch:
    """Seconds spent in functions, on this CPU and on a GPU.

    Attributes
    ----------
    seconds
        By name, on the clock on the wall; of a GPU's work, what it took to ask for it.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._events: list[tuple[Any, Any]] = []

    def device_seconds(self) -> float:
        """Seconds in which the GPU was at what :meth:`watch` was told runs there."""
        torch.cuda.synchronize()
        return float(sum(first.elapsed_time(last) for first, last in self._events)) / 1000

    @contextlib.contextmanager
    def watch(self, owner: Any, function: str, name: str, *, gpu: bool = False) -> Iterator[None]:
        """While it lasts, count the seconds of `owner.function`."""
        # What is there to be put back: a class holds functions, an object may hold nothing.
        held = vars(owner).get(function)
        original = getattr(owner, function)

        @functools.wraps(original)
        def timed(*arguments: Any, **options: Any) -> Any:
            event_of: Any = torch.cuda.Event  # has no types
            events = [event_of(enable_timing=True) for _ in range(2 * gpu)]
            for event in events[:1]:
                event.record()
            started = time.perf_counter()
            try:
                return original(*arguments, **options)
            finally:
                self.seconds[name] += time.perf_counter() - started
                for event in events[1:]:
                    event.record()
                if gpu:
                    self._events.append((events[0], events[1]))

        setattr(owner, function, timed)
        try:
            yield
        finally:
            if held is None:
                delattr(owner, function)
            else:
                setattr(owner, function, held)


@contextlib.contextmanager
def watching(*, gpu: bool) -> Iterator[Stopwatch]:
    """Watch what turns bags into vectors: "words", "tokens", "laying out" and "forward"."""
    watch = Stopwatch()
    with (
        watch.watch(tfidf, "significant_words", "words"),
        watch.watch(WordTokenizer, "__call__", "tokens"),
        watch.watch(PackedEncoder, "pack", "laying out"),
        watch.watch(PackedEncoder, "forward", "forward", gpu=gpu),
    ):
        yield watch
