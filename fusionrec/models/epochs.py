"""A training of any objective, epoch by epoch: what all of them share.

The same code runs alone and as one of several data-parallel workers. The global batch is
fixed; each worker takes its share of it, and batch normalisation, dropout and the loss are
those of the global batch, so that the number of workers changes a run by rounding only.
"""

from __future__ import annotations

import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fusionrec.errors import DataError
from fusionrec.models import checkpoint
from fusionrec.models.collective import Collective
from fusionrec.models.layers import average_running_moments
from fusionrec.models.settings import Settings
from fusionrec.models.shared_optimiser import SharedOptimiser


class Row(Protocol):
    """A row of the training curve, a frozen dataclass of JSON-able values."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def epoch(self) -> int: ...

    def better_than(self, other: Any) -> bool:
        """Whether its weights are to be preferred to those of another row of the curve."""
        ...


R = TypeVar("R", bound=Row)
Result = TypeVar("Result", covariant=True)


class EpochTraining(ABC, Generic[R, Result]):
    """A module in training, an epoch at a time, that can be saved and restored between them.

    Order and dropout of an epoch depend on the seed and its number alone, so a restored
    training goes on as if it had never stopped. A child says what its batches, its rows and its
    result are.

    Parameters
    ----------
    module
        What is trained and saved, with its first weights; moved to the device.
    settings
        The hyperparameters.
    collective
        The data-parallel workers that share a batch; alone by default.
    device
        Torch device of this worker.

    Attributes
    ----------
    model
        The module to call in training, which exchanges gradients where there are several workers.
    epoch, best_epoch
        The last epoch done, and the best one that was evaluated; 0 before there is one.
    curve
        The evaluated epochs.
    seconds, seconds_here
        Spent in training, evaluation left out: in all, and since this object was made.
    """

    rows: type[R]
    """What the curve's rows are."""

    def __init__(
        self,
        module: nn.Module,
        settings: Settings,
        *,
        collective: Collective | None = None,
        device: str = "cpu",
    ) -> None:
        self.settings = settings
        self.group = collective or Collective()
        self.device = torch.device(device)
        self.autocasts, self.dtype = precision(settings.dtype, device)
        self.module = module.to(self.device, self.dtype)
        self.model: nn.Module = self.module
        kind = torch.optim.AdamW if settings.weight_decay else torch.optim.Adam
        self._shared: SharedOptimiser | None = None
        if self.group.memory is not None:
            self._shared = SharedOptimiser(
                self.module,
                kind,
                self.group.memory,
                eta=settings.eta,
                weight_decay=settings.weight_decay,
            )
            self.optimiser: torch.optim.Optimizer = self._shared.optimiser
        else:
            if self.group.world > 1:
                # Batch statistics are equal on all workers already: nothing to broadcast.
                self.model = DistributedDataParallel(
                    self.module, forward_sync_buffers=False, gradient_as_bucket_view=True
                )
            self.optimiser = kind(
                self.module.parameters(),
                lr=settings.eta,
                weight_decay=settings.weight_decay,
                fused=True,
            )
        self.sums = torch.zeros(2, device=self.device, dtype=torch.float64)
        self.epoch = 0
        self.seconds = self.seconds_here = 0.0
        self.curve: list[R] = []
        self.best_epoch = 0
        self._best: dict[str, Tensor] = {}

    @property
    def finished(self) -> bool:
        """All epochs are done, or no epoch has been better than the best for `patience` epochs."""
        patience = self.settings.patience
        waited = self.epoch - self.best_epoch if self.best_epoch else 0
        return self.epoch >= self.settings.epochs or (patience is not None and waited >= patience)

    @property
    def best(self) -> R:
        """The best row of the curve."""
        return next(row for row in self.curve if row.epoch == self.best_epoch)

    def run_epoch(self) -> R | None:
        """Train one epoch; its row of the curve where it is one that is evaluated.

        Those are every `evaluate_every`-th (by default, so many that a full run has about 100)
        and the last.
        """
        self.epoch += 1
        started = time.perf_counter()
        sums = self._train_epoch()
        every = self.settings.evaluate_every or max(1, self.settings.epochs // 100)
        evaluates = self.epoch % every == 0 or self.epoch >= self.settings.epochs
        # A GPU is waited for here alone, but for the copy of an epoch's order to it, which waits
        # until the epoch before is done, in the time of its own epoch.
        loss = self._mean(sums) if evaluates else math.nan
        spent = time.perf_counter() - started
        self.seconds += spent
        self.seconds_here += spent
        if not evaluates:
            return None
        row = self._evaluated(loss)
        self.curve.append(row)
        if not self.best_epoch or row.better_than(self.best):
            self.best_epoch = row.epoch
            self._best = {
                name: tensor.detach().clone() for name, tensor in self.module.state_dict().items()
            }
        return row

    def run(self) -> Result:
        """Train to the end."""
        while not self.finished:
            self.run_epoch()
        return self.result()

    @abstractmethod
    def result(self) -> Result:
        """What was trained, of :meth:`_trained`."""

    @abstractmethod
    def description(self) -> dict[str, Any]:
        """What makes the module, but for its weights; JSON-able."""

    def save(self, *, best: bool = False) -> bytes:
        """The state after this epoch, or that of the `best` one, as a safetensors file.

        It holds the weights, the optimiser's moments, and in its metadata the settings, the
        curve, the epoch and the seed, which with the epoch is the state of the randomness.
        """
        weights = self._best if best else self.module.state_dict()
        tensors = checkpoint.prefixed("model.", weights)
        if not best:
            moments = (
                checkpoint.optimiser_tensors(self.optimiser.state_dict())
                if self._shared is None
                else self._shared.tensors()
            )
            tensors |= checkpoint.prefixed("optimiser.", moments)
            tensors |= checkpoint.prefixed("best.", self._best)
        state = {
            "epoch": self.best_epoch if best else self.epoch,
            "best_epoch": self.best_epoch,
            "seconds": self.seconds,
            "settings": asdict(self.settings),
            "network": self.description(),
            "curve": [asdict(row) for row in self.curve],
        }
        return checkpoint.pack(tensors, state)

    def restore(self, content: bytes) -> None:
        """Go on from what :meth:`save` returned, on any number of workers.

        Raises
        ------
        DataError
            If it is the state of a training with other settings.
        """
        tensors, state = checkpoint.unpack(content)
        mine = json.loads(json.dumps([asdict(self.settings), self.description()]))
        if [state["settings"], state["network"]] != mine:
            raise DataError("the checkpoint is of a training with other settings")
        self.module.load_state_dict(checkpoint.without("model.", tensors))
        moments = checkpoint.without("optimiser.", tensors)
        if self._shared is None:
            state_dict = checkpoint.with_tensors(self.optimiser.state_dict(), moments)
            self.optimiser.load_state_dict(state_dict)
        else:
            self._shared.restore(moments)
        self._best = checkpoint.without("best.", tensors)
        self.epoch, self.best_epoch = state["epoch"], state["best_epoch"]
        self.seconds = state["seconds"]
        self.curve = [self.rows(**row) for row in state["curve"]]

    def _trained(self) -> None:
        """Leave the module in evaluation mode on the CPU in float32.

        Its weights are those of the last epoch; with early stopping, of the best.
        """
        if self._shared is not None:
            self._shared.release()
        if self.settings.patience is not None and self._best:
            self.module.load_state_dict(self._best)
        self.module.cpu().float().eval()

    @abstractmethod
    def _batches(self) -> Iterator[tuple[Tensor, Tensor | float]]:
        """Of each batch of this epoch, in training mode, a loss and the batch's weight.

        The loss, which can be differentiated, is the weighted sum over this worker's examples;
        the weight is the sum of the weights of the global batch's.
        """

    @abstractmethod
    def _evaluated(self, loss: float) -> R:
        """The curve's row of this epoch; `loss` is the mean over its batches."""

    def _train_epoch(self) -> Tensor:
        """Train an epoch; sums over its batches of the loss and of weights, still on the device."""
        self.model.train()
        eta = self.settings.eta_of(self.epoch)
        for group in self.optimiser.param_groups:
            if isinstance(group["lr"], Tensor):  # of a recorded step, which reads it where it lies
                group["lr"].fill_(eta)
            else:
                group["lr"] = eta
        self.sums.zero_()
        self._run_batches()
        average_running_moments(self.module, self.group)
        return self.sums

    def _run_batches(self) -> None:
        for loss, weight in self._batches():
            self._step(loss, weight)

    def _step(self, loss: Tensor, weight: Tensor | float) -> None:
        """Learn from a batch, and add it to the epoch's sums."""
        self.module.zero_grad(set_to_none=True)
        # DDP averages gradients; times the world it is the global batch's weighted mean.
        factor = self.group.world if self._shared is None else 1
        torch.autograd.backward(loss * (factor / weight))
        (self._shared or self.optimiser).step()
        self.sums[0] += loss.detach()
        # The sum over the workers again, in `_mean`, so each adds its share of it.
        self.sums[1] += weight / self.group.world

    def _mean(self, sums: Tensor) -> float:
        total, weights = self.group.sum(sums).tolist()
        return float(total / weights)


def precision(dtype: str, device: str) -> tuple[bool, torch.dtype]:
    """Whether matrix products are cast to bfloat16, and the type of weights and features.

    `auto` is bfloat16 on a GPU that has it, and float32 elsewhere: on a CPU, layers this
    small gain nothing from it.
    """
    if dtype == "auto":
        halves = device.startswith("cuda") and torch.cuda.is_bf16_supported(
            including_emulation=False
        )
    else:
        halves = dtype == "bfloat16"
    return halves, torch.float64 if dtype == "float64" else torch.float32
