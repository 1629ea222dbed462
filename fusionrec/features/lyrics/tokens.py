"""Token ids of texts, end to end in one array, and their cut into batches.

Shapes: T tokens of all texts together, n texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Tokens:
    """Texts' token ids, special ones included.

    Attributes
    ----------
    ids
        Int32, shape (T,), text after text.
    bounds
        Int64, shape (n + 1,): where each text begins, and where the last one ends.
    """

    ids: NDArray[np.int32]
    bounds: NDArray[np.int64]

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]] | Tokens) -> Tokens:
        """Of rows of token ids, which may be of this class already."""
        if isinstance(rows, Tokens):
            return rows
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        ids = np.fromiter((token for row in rows for token in row), np.int32, int(lengths.sum()))
        return cls(ids, bounds_of(lengths))

    @classmethod
    def joined(cls, parts: Sequence[Tokens]) -> Tokens:
        """The texts of several, one behind the other."""
        ids = np.concatenate([part.ids for part in parts])
        return cls(ids, bounds_of(np.concatenate([part.lengths for part in parts])))

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each text, shape (n,)."""
        return np.diff(self.bounds)

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def __getitem__(self, index: int) -> NDArray[np.int32]:
        return self.ids[self.bounds[index] : self.bounds[index + 1]]

    def __iter__(self) -> Iterator[NDArray[np.int32]]:
        return (self[index] for index in range(len(self)))

    def span(self, start: int, stop: int) -> Tokens:
        """The texts from `start` to before `stop`; nothing is copied but their bounds."""
        bounds = self.bounds[start : stop + 1]
        return Tokens(self.ids[bounds[0] : bounds[-1]], bounds - bounds[0])

    def take(self, order: NDArray[np.int64]) -> Tokens:
        """These texts in this order."""
        lengths = self.lengths[order]
        return Tokens(self.ids[ragged(self.bounds[:-1][order], lengths)], bounds_of(lengths))


@dataclass(frozen=True)
class Batches:
    """Texts, longest first, cut into batches.

    Attributes
    ----------
    tokens
        Of all texts.
    cuts
        Int64, shape (batches + 1,): each batch's first text, and the number of texts.
    """

    tokens: Tokens
    cuts: NDArray[np.int64]

    def __iter__(self) -> Iterator[tuple[int, Tokens]]:
        """Each batch's first text, and its texts."""
        cuts = self.cuts.tolist()
        return ((start, self.tokens.span(start, stop)) for start, stop in pairwise(cuts))


def cut(tokens: Tokens, budget: int) -> tuple[NDArray[np.int64], Batches]:
    """Texts as batches of at most `budget` tokens, as if each text were as long as the longest.

    It depends on nothing but these texts; a text longer than the budget is a batch.

    Returns
    -------
    tuple
        The order in which the batches have the texts, int64 (n,): longest first, among equally
        long ones the first. And the batches.
    """
    lengths = tokens.lengths
    order = np.argsort(-lengths, kind="stable")
    cuts = [0]
    while cuts[-1] < len(order):
        cuts.append(min(len(order), cuts[-1] + max(1, budget // int(lengths[order[cuts[-1]]]))))
    return order, Batches(tokens.take(order), np.array(cuts, np.int64))


def usual_budget(device: str) -> int:
    """Tokens of a batch on a device of a type; a CPU's caches are small."""
    return 4_096 if device == "cpu" else 65_536


def bounds_of(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where runs of these lengths begin, one behind the other, and where the last one ends."""
    bounds = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=bounds[1:])
    return bounds


def ragged(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The numbers from each start on, so many each, one behind the other."""
    bounds = bounds_of(lengths)
    return np.arange(bounds[-1]) + np.repeat(starts - bounds[:-1], lengths)
