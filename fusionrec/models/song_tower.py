"""The fusion network as a song tower: any number of outputs instead of classes, and its epochs.

Shapes: n songs, D fused features, M modalities, B songs in a batch, O outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fusionrec.models.collective import Collective
from fusionrec.models.network import BatchContext, BatchShare, FusionNetwork
from fusionrec.models.settings import FusionSettings, Settings

Rows = NDArray[np.integer[Any]]

_AT_ONCE = 8192


@dataclass(frozen=True)
class SongInputs:
    """What a song tower is fed with.

    Attributes
    ----------
    x
        Float32, shape (n, D).
    present
        Bool, shape (n, M): which modalities each song has.
    fusion
        How they lie side by side, and how to fuse them.
    """

    x: NDArray[np.float32]
    present: NDArray[np.bool_]
    fusion: FusionSettings


class Tower(nn.Module):
    """Songs given by their rows, as outputs (B, O): what two towers have for songs.

    Attributes
    ----------
    context
        What its layers know of a batch, and the randomness of their training.
    """

    def __init__(self, songs: SongInputs, settings: Settings, context: BatchContext) -> None:
        super().__init__()
        self.settings, self.context = settings, context
        self.x_ND = torch.from_numpy(songs.x)
        self.present_NM = torch.from_numpy(songs.present)

    def begin(self, epoch: int) -> None:
        """Training mode; what is drawn depends on the seed and the epoch alone."""
        self.train()
        self.context.generator.manual_seed(self.settings.seed * 1_000_003 + epoch)

    @torch.no_grad()
    def outputs(self, rows: Rows | None = None) -> Tensor:
        """Outputs in evaluation mode, shape (songs, O), of some songs or all."""
        self.eval()
        wanted = torch.arange(len(self.x_ND)) if rows is None else torch.from_numpy(rows)
        return torch.cat([self(part) for part in torch.split(wanted, _AT_ONCE)])


class SongTower(Tower):
    """The network of the paper's figures with linear outputs."""

    def __init__(self, songs: SongInputs, outputs: int, settings: Settings) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            network = FusionNetwork(songs.fusion, outputs, settings.p)
        super().__init__(songs, settings, network.context)
        self.network = network

    @torch.no_grad()
    def predict_always(self, outputs: NDArray[np.floating[Any]]) -> None:
        """Give these for every song, shape (O,), until trained: no song differs by chance.

        Where training stops early, as it does with few songs, what the output layer's random
        weights begin with would else outweigh what was learned.
        """
        self.network.output.weight.zero_()
        self.network.output.bias.copy_(torch.from_numpy(outputs))

    def forward(self, rows: Tensor) -> Tensor:
        """Outputs, shape (B, O), of a batch of at least two songs in training mode."""
        group = self.settings.norm_group
        self.context.share = BatchShare.of(len(rows), group, Collective())
        outputs: Tensor = self.network(self.x_ND[rows], self.present_NM[rows])
        return outputs


@dataclass(frozen=True)
class TowerEpoch:
    """Mean losses of an epoch; the validation songs' is None where there are none."""

    epoch: int
    loss: float
    validation_loss: float | None


def fit_epochs(
    module: nn.Module,
    settings: Settings,
    batches: Callable[[int], Iterator[tuple[Tensor, int]]],
    held: Callable[[], float | None],
) -> tuple[TowerEpoch, ...]:
    """Train by Adam; with `settings.patience`, stop early and keep the best epoch's weights.

    Parameters
    ----------
    batches
        Of an epoch: the mean loss of each batch, and its examples.
    held
        Mean loss of the validation songs with the weights as they are.
    """
    kind = torch.optim.AdamW if settings.weight_decay else torch.optim.Adam
    optimiser = kind(module.parameters(), lr=settings.eta, weight_decay=settings.weight_decay)
    curve: list[TowerEpoch] = []
    best: TowerEpoch | None = None
    kept: dict[str, Tensor] = {}
    for epoch in range(1, settings.epochs + 1):
        for group in optimiser.param_groups:
            group["lr"] = settings.eta_of(epoch)
        total, examples = 0.0, 0
        for loss, size in batches(epoch):
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimiser.step()
            total, examples = total + loss.item() * size, examples + size
        row = TowerEpoch(epoch, total / max(examples, 1), held())
        curve.append(row)
        if settings.patience is None or row.validation_loss is None:
            continue
        if best is None or best.validation_loss is None:
            better = True
        else:
            better = row.validation_loss < best.validation_loss
        if better:
            best = row
            kept = {name: value.clone() for name, value in module.state_dict().items()}
        elif best is not None and epoch - best.epoch >= settings.patience:
            break
    if kept:
        module.load_state_dict(kept)
    module.eval()
    return tuple(curve)
