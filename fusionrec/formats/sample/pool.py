"""What is drawn in parts, by this process or by several, and comes in the order of the parts."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import islice
from typing import Any, TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")

_WAITING = 4  # parts for each process that are drawn or waited for


def in_order(
    make: Callable[[Item], Made],
    items: Sequence[Item],
    processes: int,
    begin: Callable[..., None],
    arguments: tuple[Any, ...],
) -> Iterator[Made]:
    """What `make` makes of each of `items`, in their order; few of them are held at a time.

    Parameters
    ----------
    make, begin
        Functions of a module: `begin` is called with `arguments` once in each process.
    processes
        1 is this one, which needs no other; more are spawned.

    Raises
    ------
    BrokenProcessPool
        A process was ended.
    """
    if processes == 1:
        begin(*arguments)
        yield from map(make, items)
        return
    # A fork would take over whatever locks the caller's threads hold.
    spawn = multiprocessing.get_context("spawn")
    left = iter(items)
    with ProcessPoolExecutor(processes, spawn, begin, arguments) as pool:
        try:
            waiting: deque[Future[Made]] = deque(
                pool.submit(make, item) for item in islice(left, _WAITING * processes)
            )
            while waiting:
                made = waiting.popleft().result()
                waiting.extend(pool.submit(make, item) for item in islice(left, 1))
                yield made
        finally:
            pool.shutdown(cancel_futures=True)
