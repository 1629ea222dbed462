"""The few exchanges between data-parallel workers; alone, each is the identity."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function

from fusionrec.models.node_memory import NodeMemory


class _Whole(Function):
    """The workers' rows together; a worker's own have the gradients of all of them."""

    @staticmethod
    def forward(ctx: Any, mine: Tensor, start: int, rows: int, group: Collective) -> Tensor:
        ctx.group, ctx.own = group, slice(start, start + len(mine))
        whole = mine.new_zeros(rows, *mine.shape[1:])
        whole[ctx.own] = mine
        return group.added(whole)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.group.added(gradients[0].contiguous())[ctx.own], None, None, None


@dataclass(frozen=True)
class Collective:
    """A worker's rank among `world` data-parallel workers (the default process group).

    Attributes
    ----------
    memory
        Through which they exchange, where they share a node; else the process group is used.
    """

    rank: int = 0
    world: int = 1
    memory: NodeMemory | None = field(default=None, repr=False, compare=False)

    @staticmethod
    def joined(rank: int, world: int) -> Collective:
        """Of workers on CPUs, through memory if they are all on one node; see :class:`NodeMemory`.

        All workers call it.
        """
        return Collective(rank, world, NodeMemory.join(rank, world) if world > 1 else None)

    def sum(self, x: Tensor) -> Tensor:
        """Sum over the workers, in the order of their ranks."""
        if self.world == 1:
            return x
        return self.gather(x).sum(0) if self.memory is None else self.memory.sum(x)

    def gather(self, x: Tensor) -> Tensor:
        """Every worker's `x`, shape (world, *x.shape); meant for some kilobytes.

        By an all-to-all exchange: gloo's, which is one message each way, takes 0.2 ms for a
        thousand numbers on one machine, where its all-gather and all-reduce take up to 1.4.
        """
        if self.world == 1:
            return x[None]
        if self.memory is not None:
            return self.memory.gather(x)
        copies = x.expand(self.world, *x.shape).contiguous()
        each = torch.empty_like(copies)
        dist.all_to_all_single(each, copies)
        return each

    def added(self, x: Tensor) -> Tensor:
        """The same of any size, in an order that is the process group's."""
        if self.memory is not None:
            return self.memory.sum(x)
        total = x.clone()
        dist.all_reduce(total)
        return total

    def whole(self, mine: Tensor, start: int, rows: int) -> Tensor:
        """All `rows` rows, of which this worker's begin at `start`; it can be differentiated.

        The workers' rows are disjoint and together all.
        """
        if self.world == 1:
            return mine
        whole: Tensor = _Whole.apply(mine, start, rows, self)  # type: ignore[no-untyped-call]
        return whole

    def slice(self, items: int) -> tuple[int, int]:
        """The [start, stop) of this worker's share of so many rows, or groups of rows."""
        return items * self.rank // self.world, items * (self.rank + 1) // self.world
