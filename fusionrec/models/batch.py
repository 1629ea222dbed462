"""A global batch, which several workers share: whose rows are whose, and what is drawn for them.

Shapes: B songs of a worker, n songs of a normalisation group, G groups.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache, lru_cache
from itertools import pairwise

import torch
from torch import Tensor

from fusionrec.models.collective import Collective
from fusionrec.models.settings import norm_groups

_DRAWN_AT_ONCE = 64
"""Rows whose dropout is drawn by one seed, where a batch is one normalisation group."""
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


@dataclass
class BatchContext:
    """What layers need to know of the global batch, and the dropout's randomness.

    What is drawn for a song depends on its row in the global batch alone, so that a run does not
    depend on the number of workers. On a CPU each normalisation group (of a batch that is one
    group, each 64 rows) has a seed, and a worker draws for its own; a GPU draws for the whole
    batch at once.
    """

    generator: torch.Generator = field(default_factory=torch.Generator)
    share: BatchShare = field(default_factory=lambda: BatchShare(0))
    seed: int = 0
    drawn: int = 0
    _of_group: torch.Generator = field(default_factory=torch.Generator)

    def reseed(self, seed: int) -> None:
        """Begin what is drawn anew: by the same seed the same."""
        self.generator.manual_seed(seed)
        self.seed, self.drawn = seed, 0

    def words(self, columns: int) -> Tensor:
        """Random int64 numbers for this worker's rows, (B, columns), in the layers' order."""
        share, self.drawn = self.share, self.drawn + 1
        device = self.generator.device
        if device.type != "cpu":
            whole = torch.empty(share.rows, columns, dtype=torch.int64, device=device)
            _draw(whole, self.generator)
            return share.woven(whole[share.start : share.stop])
        rows = share.stop - share.start
        mine = torch.empty(rows, columns, dtype=torch.int64)
        if share.sizes is None:
            first = share.start - share.start % _DRAWN_AT_ONCE
            for start in range(first, share.stop, _DRAWN_AT_ONCE):
                a, b = max(start, share.start), min(start + _DRAWN_AT_ONCE, share.stop)
                here = mine[a - share.start : b - share.start]
                if len(here) == _DRAWN_AT_ONCE:
                    self._draw_group(here, start // _DRAWN_AT_ONCE)
                    continue
                block = torch.empty(_DRAWN_AT_ONCE, columns, dtype=torch.int64)
                self._draw_group(block, start // _DRAWN_AT_ONCE)
                here.copy_(block[a - start : b - start])
            return mine
        before = 0
        for section in share.sections:
            after = before + section.rows * len(section.groups)
            woven = mine[before:after].view(section.rows, len(section.groups), columns)
            for place, group in enumerate(section.groups):
                self._draw_group(woven[:, place], share.first + group)
            before = after
        return mine

    def _draw_group(self, out: Tensor, group: int) -> None:
        # Of a seed the CPU's generator takes 32 bits.
        self._of_group.manual_seed(_mixed(_mixed(_mixed(self.seed) + self.drawn) + group) >> 32)
        _draw(out, self._of_group)


def _draw(out: Tensor, generator: torch.Generator) -> None:
    out.random_(-(2**63), None, generator=generator)


def _mixed(number: int) -> int:
    """SplitMix64 of a number, in [0, 2^64)."""
    z = (number + 0x9E3779B97F4A7C15) & _WORD
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _WORD
    return z ^ (z >> 31)
