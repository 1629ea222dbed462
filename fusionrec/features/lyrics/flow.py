"""Batches through a device that is given the next one before the last one's vectors are there."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fusionrec.features.lyrics.tokens import Batches, Tokens

Arrived = Callable[[], NDArray[np.float32]]
"""Waits for vectors, shape (B, H), and returns them."""

Begin = Callable[[Tokens], Iterator[tuple[int, Arrived]]]
"""Gives the device a batch, or parts of it one after the other; each one's first text."""


@dataclass(frozen=True)
class _Begun:
    """A batch that the device was given; without `arrived`, the end of what belongs together.

    Its vectors go into `vectors` from row `start` on.
    """

    vectors: NDArray[np.float32]
    start: int
    arrived: Arrived | None


def through(
    many: Iterable[Batches], begin: Begin, width: int, ahead: int
) -> Iterator[NDArray[np.float32]]:
    """The vectors of the texts of each of `many`, float32 (n, `width`), in their order.

    Parameters
    ----------
    ahead
        Batches that the device is given before the first one's vectors are waited for.
    """
    waiting: deque[_Begun] = deque()
    at_work = 0
    for batches in many:
        vectors = np.zeros((len(batches.tokens), width), np.float32)
        for first, rows in batches:
            for start, arrived in begin(rows):
                waiting.append(_Begun(vectors, first + start, arrived))
                at_work += 1
                while at_work > ahead:
                    at_work -= waiting[0].arrived is not None
                    yield from _finish(waiting.popleft())
        waiting.append(_Begun(vectors, len(vectors), None))
        while waiting and waiting[0].arrived is None:
            yield from _finish(waiting.popleft())
    while waiting:
        yield from _finish(waiting.popleft())


def _finish(begun: _Begun) -> Iterator[NDArray[np.float32]]:
    if begun.arrived is None:
        yield begun.vectors
        return
    found = begun.arrived()
    begun.vectors[begun.start : begun.start + len(found)] = found
