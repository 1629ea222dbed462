"""What is computed once and kept: without a limit, or, where it is large, within one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")

LIMIT = 4 << 30
"""Bytes of arrays that a fold keeps although they can be made again (4 GiB).

Of 9,000 songs the features of all kernels are 0.6 GiB; of a million those of one are 3.9.
"""


@dataclass
class Memo:
    """Results by name.

    Attributes
    ----------
    kept
        What stays.
    again
        Arrays that may be let go of and made again, the one that was used last at the end.
    limit
        Bytes of `again`, with one that is being made; a single array may be larger.
    """

    kept: dict[str, Any] = field(default_factory=dict)
    again: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    limit: int = LIMIT

    def once(self, name: str, make: Callable[[], T]) -> T:
        """What `make` gives, computed once."""
        if name not in self.kept:
            self.kept[name] = make()
        found: T = self.kept[name]
        return found

    def while_it_fits(
        self, name: str, size: int, make: Callable[[], NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        """What `make` gives, the same each time; kept until others need the room.

        Parameters
        ----------
        size
            Its bytes, at most.
        """
        found = self.again.pop(name, None)
        if found is None:
            while self.again and size + sum(a.nbytes for a in self.again.values()) > self.limit:
                del self.again[next(iter(self.again))]
            found = make()
        self.again[name] = found
        return found

    def empty(self) -> Memo:
        """Nothing, with the same limit."""
        return Memo(limit=self.limit)

    def of(self, beginnings: tuple[str, ...]) -> Memo:
        """The results whose names have one of some beginnings."""
        kept, again = (
            {name: value for name, value in part.items() if name.startswith(beginnings)}
            for part in (self.kept, self.again)
        )
        return Memo(kept, again, self.limit)
