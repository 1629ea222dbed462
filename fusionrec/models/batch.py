"""A global batch, which several workers share: whose rows are whose, and what is drawn for them.

Shapes: B songs of a worker, n songs of a normalisation group, G groups.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache, lru_cache
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fusionrec.models.collective import Collective
from fusionrec.models.numbers import fill, words_of
from fusionrec.models.settings import norm_groups

_WORD = 2**64 - 1


@dataclass(frozen=True)
class Section:
    """Normalisation groups of one size: numbers of the worker's groups, from 0, and their rows."""

    rows: int
    groups: tuple[int, ...]


@dataclass(frozen=True)
class BatchShare:
    """Where a worker's rows lie in a global batch of `rows` songs.

    Attributes
    ----------
    rows
        Songs in the global batch.
    start, stop
        This worker's rows.
    sizes
        Rows of each of this worker's normalisation groups; None where the whole batch is one
        group, of which the worker has a part.
    groups
        Groups in the global batch.
    first
        The number of this worker's first group in the global batch.
    """

    rows: int
    start: int = 0
    stop: int = 0
    sizes: tuple[int, ...] | None = None
    groups: int = 1
    first: int = 0

    @staticmethod
    def of(rows: int, group: int | None, collective: Collective) -> BatchShare:
        """The worker's share of a batch in groups of about `group` rows (None: in one)."""
        groups = norm_groups(rows, group)
        if groups == 1:
            return BatchShare(rows, *collective.slice(rows))
        first, last = collective.slice(groups)
        ends = [rows * i // groups for i in range(first, last + 1)]
        sizes = tuple(b - a for a, b in pairwise(ends))
        return BatchShare(rows, ends[0], ends[-1], sizes, groups, first)

    @property
    def sections(self) -> tuple[Section, ...]:
        """The groups by their sizes, of which a batch has two at most."""
        return _sections(self.sizes or ())

    def woven(self, x: Tensor) -> Tensor:
        """This worker's rows, shape (B, ...), in the order in which the layers have them.

        Section after section: the first songs of its groups, then their second ones, and so on.
        So the columns of a section, seen as (n, G * columns), are those of single groups, and a
        normalisation of all groups is one of columns.
        """
        if len(self.sizes or ()) < 2:
            return x
        return x.index_select(0, _orders(self.sizes or (), x.device)[0])

    def unwoven(self, x: Tensor) -> Tensor:
        """The inverse of :meth:`woven`."""
        if len(self.sizes or ()) < 2:
            return x
        return x.index_select(0, _orders(self.sizes or (), x.device)[1])


@lru_cache(maxsize=64)
def _sections(sizes: tuple[int, ...]) -> tuple[Section, ...]:
    return tuple(
        Section(rows, tuple(g for g, size in enumerate(sizes) if size == rows))
        for rows in sorted(set(sizes))
    )


@lru_cache(maxsize=64)
def _firsts(start: int, sizes: tuple[int, ...] | None) -> tuple[NDArray[np.int64], ...]:
    if sizes is None:
        return (np.array([start]),)
    starts = start + np.cumsum([0, *sizes])
    return tuple(starts[list(section.groups)] for section in _sections(sizes))


# None is ever let go: a recorded step (`recorded.py`) reads them where they lie.
@cache
def _orders(sizes: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    starts = torch.tensor([0, *sizes]).cumsum(0)
    order = torch.cat(
        [
            (starts[list(section.groups)] + torch.arange(section.rows)[:, None]).ravel()
            for section in _sections(sizes)
        ]
    )
    return order.to(device), order.argsort().to(device)


@dataclass(frozen=True)
class Draw:
    """Random numbers of a layer for a worker's rows, 16 bits each, four to a word.

    On a CPU a word is a hash of the seed, the song's row in the global batch and the word's place,
    so that whoever needs it makes it, and a run does not depend on the number of workers. A GPU
    draws for the whole batch at once.

    Attributes
    ----------
    share
        The worker's rows.
    columns
        Numbers of a row.
    seed
        On a CPU.
    whole
        On a GPU: the words of the global batch, int64.
    """

    share: BatchShare
    columns: int
    seed: int = 0
    whole: Tensor | None = None

    @property
    def words_a_row(self) -> int:
        return words_of(self.columns)

    def firsts(self) -> tuple[NDArray[np.int64], ...]:
        """Of each section, the rows of the global batch with which its groups begin."""
        return _firsts(self.share.start, self.share.sizes)

    def numbers(self) -> Tensor:
        """All of them, int16 (B, columns), in the layers' order."""
        share = self.share
        if self.whole is not None:
            words = share.woven(self.whole[share.start : share.stop])
        else:
            rows = share.woven(torch.arange(share.start, share.stop))
            words = torch.empty(len(rows), self.words_a_row, dtype=torch.int64)
            fill(np.uint64(self.seed), rows.numpy(), words.numpy())
        return words.view(torch.int16)[:, : self.columns].contiguous()


@dataclass
class BatchContext:
    """What layers need to know of the global batch, and the dropout's randomness."""

    generator: torch.Generator = field(default_factory=torch.Generator)
    share: BatchShare = field(default_factory=lambda: BatchShare(0))
    seed: int = 0
    drawn: int = 0

    def reseed(self, seed: int) -> None:
        """Begin what is drawn anew: by the same seed the same."""
        self.generator.manual_seed(seed)
        self.seed, self.drawn = seed, 0

    def draw(self, columns: int) -> Draw:
        """Numbers for this worker's rows; others than those before."""
        self.drawn += 1
        device = self.generator.device
        if device.type == "cpu":
            return Draw(self.share, columns, _mixed(_mixed(self.seed) + self.drawn))
        shape = (self.share.rows, words_of(columns))
        whole = torch.empty(shape, dtype=torch.int64, device=device)
        whole.random_(-(2**63), None, generator=self.generator)
        return Draw(self.share, columns, whole=whole)


def _mixed(number: int) -> int:
    """SplitMix64 of a number, in [0, 2^64)."""
    z = (number + 0x9E3779B97F4A7C15) & _WORD
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _WORD
    return z ^ (z >> 31)
