"""An optimiser whose work and state the workers of one node share (ZeRO, Rajbhandari et al. 2020).

Weights, Adam's moments and each worker's gradients are flat vectors in memory that all workers
see. A worker adds up everyone's gradients of its own part of the weights, moves that part, and has
the moments of that part alone; all read the moved weights where they lie. So neither the gradients
nor the weights are sent, and what Adam costs is shared.

Shapes: N numbers of all weights, W workers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fusionrec.errors import StageError
from fusionrec.models.checkpoint import Tensors
from fusionrec.models.node_memory import NodeMemory

_ALIGNED = 64
"""Bytes at multiples of which each weight and each worker's part begin."""


class SharedOptimiser:
    """Adam of a module's parameters, on all workers of a node alike.

    Parameters
    ----------
    module
        On a CPU, all of it learned, in one floating type, with the same weights on every worker.
        They come to lie in the shared memory, until :meth:`release`.
    kind
        `torch.optim.Adam` or `AdamW`.
    memory
        What the workers share.
    eta, weight_decay
        Of the optimiser.

    Attributes
    ----------
    optimiser
        Of this worker's part.
    """

    def __init__(
        self,
        module: nn.Module,
        kind: type[torch.optim.Adam],
        memory: NodeMemory,
        *,
        eta: float,
        weight_decay: float,
    ) -> None:
        self.memory = memory
        self.parameters = list(module.parameters())
        like = self.parameters[0]
        unit = _ALIGNED // like.element_size()
        ends = [0]
        for parameter in self.parameters:
            ends.append(ends[-1] + -(-parameter.numel() // unit) * unit)
        size, world = ends[-1], memory.world
        bytes_ = memory.region((3 + world) * size * like.element_size())
        vectors = bytes_.view(like.dtype).view(3 + world, size)
        weights_N, first_N, second_N = vectors[:3]
        self._gradients_WN = vectors[3:]
        self._moments = {
            "exp_avg": self._seen(first_N, ends),
            "exp_avg_sq": self._seen(second_N, ends),
        }
        self._mine = self._seen(self._gradients_WN[memory.rank], ends)
        for parameter, seen in zip(self.parameters, self._seen(weights_N, ends), strict=True):
            if memory.rank == 0:
                seen.copy_(parameter.detach())
            parameter.data = seen
        memory.barrier()
        start, stop = (size // unit * i // world * unit for i in (memory.rank, memory.rank + 1))
        self._own = slice(start, stop)
        self._part = nn.Parameter(weights_N[self._own])
        self._part.grad = torch.empty_like(self._part)
        self.optimiser = kind([self._part], lr=eta, weight_decay=weight_decay, fused=True)
        self._step = torch.zeros((), dtype=torch.float32)
        self.optimiser.state[self._part] = {
            "step": self._step,
            "exp_avg": first_N[self._own],
            "exp_avg_sq": second_N[self._own],
        }

    def step(self) -> None:
        """Learn from the sum of all workers' gradients; one that a worker lacks is zero.

        So a weight that no worker has a gradient of moves by its moments, where an optimiser that
        is not shared would leave it out.
        """
        for seen, parameter in zip(self._mine, self.parameters, strict=True):
            if parameter.grad is None:
                seen.zero_()
            else:
                seen.copy_(parameter.grad)
        self.memory.barrier()
        torch.sum(self._gradients_WN[:, self._own], dim=0, out=self._part.grad)
        self.optimiser.step()
        self.memory.barrier()

    def tensors(self) -> Tensors:
        """The whole state, as of an optimiser of all parameters; see :mod:`checkpoint`.

        Any worker may ask for it between two steps.
        """
        if not self._step:
            return {}
        return {
            f"{number}.{name}": value
            for number in range(len(self.parameters))
            for name, value in (
                ("step", self._step.clone()),  # a file has each number once
                *((name, seen[number]) for name, seen in self._moments.items()),
            )
        }

    def restore(self, tensors: Tensors) -> None:
        """The inverse of :meth:`tensors`; all workers make it, of the same.

        Raises
        ------
        StageError
            Its weights have not all made the same number of steps, as here they do.
        """
        steps = {float(x) for name, x in tensors.items() if name.endswith(".step")}
        if len(steps) > 1:
            raise StageError(
                "train: the checkpoint has weights of "
                f"{', '.join(f'{step:g}' for step in sorted(steps))} steps; workers that share "
                "memory take all steps with all weights: train anew"
            )
        self._step.copy_(tensors.get("0.step", torch.zeros(())))
        for name, seen in self._moments.items():
            for number, each in enumerate(seen):
                each.copy_(tensors.get(f"{number}.{name}", torch.zeros(())))
        self.memory.barrier()

    def release(self) -> None:
        """Give the module weights of its own, as they are; there is no step after it."""
        for parameter in self.parameters:
            parameter.data = parameter.detach().clone()

    def _seen(self, whole_N: Tensor, ends: list[int]) -> list[Tensor]:
        """A flat vector as each parameter's."""
        return [
            whole_N[start : start + parameter.numel()].view_as(parameter)
            for start, parameter in zip(ends[:-1], self.parameters, strict=True)
        ]
