"""The few sums that data-parallel workers share; alone, each is the identity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function


class _SumWithGradient(Function):
    """y = sum over workers of x; each x therefore receives the sum of all workers' dL/dy."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.clone()
        dist.all_reduce(y)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


@dataclass(frozen=True)
class Collective:
    """A worker's place among `world` data-parallel workers (the default process group)."""

    rank: int = 0
    world: int = 1

    def sum(self, x: Tensor) -> Tensor:
        """Sum over the workers, without gradient."""
        if self.world > 1:
            dist.all_reduce(x)
        return x

    def sum_with_gradient(self, x: Tensor) -> Tensor:
        """Sum over the workers, through which gradients flow back to each of them."""
        if self.world == 1:
            return x
        total: Tensor = _SumWithGradient.apply(x)  # type: ignore[no-untyped-call]
        return total

    def slice(self, rows: int) -> tuple[int, int]:
        """The [start, stop) of this worker's share of a global batch of `rows`."""
        return rows * self.rank // self.world, rows * (self.rank + 1) // self.world
