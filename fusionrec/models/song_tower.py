"""The fusion network as a song tower: any number of outputs instead of classes.

Shapes: n songs, D fused features, M modalities, B songs in a batch, O outputs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fusionrec.baselines.factor_loss import scale_of
from fusionrec.models.batch import BatchContext, BatchShare
from fusionrec.models.collective import Collective
from fusionrec.models.epochs import EpochTraining, precision
from fusionrec.models.network import FusionNetwork
from fusionrec.models.settings import FusionSettings, Settings

Rows = NDArray[np.integer[Any]]
Result = TypeVar("Result", covariant=True)

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


class Tower(nn.Module, ABC):
    """What gives songs their vectors: outputs (B, O) of songs given by their rows.

    Parameters
    ----------
    songs
        Held on the device in float32.
    settings
        Its seed is that of what is drawn in training.
    context
        Of the layers that draw.
    norm_group
        Songs that share the moments of normalisation; None where layers have none.
    collective
        The data-parallel workers that share a batch.
    device
        Of the songs; the tower is to be moved there.
    """

    def __init__(
        self,
        songs: SongInputs,
        settings: Settings,
        context: BatchContext,
        norm_group: int | None,
        collective: Collective | None = None,
        device: str = "cpu",
    ) -> None:
        super().__init__()
        self.settings, self.group = settings, collective or Collective()
        self.context, self.norm_group = context, norm_group
        self.autocasts, _ = precision(settings.dtype, device)
        self.context.generator = torch.Generator(device)
        self.x_ND = torch.from_numpy(songs.x).to(device)
        self.present_NM = torch.from_numpy(songs.present).to(device)

    def begin(self, epoch: int) -> None:
        """Seed what is drawn, which depends on the seed and the epoch alone."""
        self.context.reseed(self.settings.seed * 1_000_003 + epoch)

    def share(self, rows: int) -> BatchShare:
        """This worker's part of a global batch, which is the one that is asked for next."""
        self.context.share = BatchShare.of(rows, self.norm_group, self.group)
        return self.context.share

    def forward(self, rows: Rows) -> Tensor:
        """Outputs, shape (B, O), of songs; in training, those of the last :meth:`share`."""
        rows_B = torch.from_numpy(rows).to(self.x_ND.device)
        like = next(self.parameters())
        with torch.autocast(like.device.type, torch.bfloat16, enabled=self.autocasts):
            x_BD, present_BM = self.x_ND[rows_B].to(like), self.present_NM[rows_B]
            return self.vectors(rows, x_BD, present_BM).to(like.dtype)

    @abstractmethod
    def vectors(self, rows: Rows, x_BD: Tensor, present_BM: Tensor) -> Tensor:
        """Outputs, shape (B, O), of songs given by their rows and by their inputs."""

    @torch.no_grad()
    def outputs(self, rows: Rows) -> Tensor:
        """Outputs in evaluation mode, shape (songs, O)."""
        self.eval()
        return torch.cat([self(rows[part]) for part in _slices(len(rows))])


class SongTower(Tower):
    """The network of the paper's figures with O linear outputs.

    Parameters
    ----------
    outputs
        O.
    settings
        Weights are drawn from its seed, too.
    """

    def __init__(
        self,
        songs: SongInputs,
        outputs: int,
        settings: Settings,
        collective: Collective | None = None,
        device: str = "cpu",
    ) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            network = FusionNetwork(
                songs.fusion, outputs, settings.p, collective, settings.modality_dropout
            )
        super().__init__(songs, settings, network.context, settings.norm_group, collective, device)
        self.network = network

    def vectors(self, rows: Rows, x_BD: Tensor, present_BM: Tensor) -> Tensor:
        """See :class:`Tower`."""
        outputs: Tensor = self.network(x_BD, present_BM)
        return outputs


@dataclass(frozen=True)
class TowerEpoch:
    """One row of the training curve.

    Attributes
    ----------
    loss, validation_loss
        Means over the epoch's batches, and over the validation songs after it; None without
        such songs.
    eta
        The epoch's learning rate.
    seconds
        Spent in training since the beginning of the run, evaluation left out.
    """

    epoch: int
    loss: float
    validation_loss: float | None
    eta: float
    seconds: float

    def better_than(self, other: TowerEpoch) -> bool:
        """By the validation songs' loss, or by the training's without such songs."""
        if self.validation_loss is None or other.validation_loss is None:
            return self.loss < other.loss
        return self.validation_loss < other.validation_loss


class TowerTraining(EpochTraining[TowerEpoch, Result]):
    """A training that is judged by the loss of validation songs."""

    rows = TowerEpoch

    @abstractmethod
    def validation_loss(self) -> float | None:
        """Mean loss of the validation songs with the weights as they are; None without any."""

    def _evaluated(self, loss: float) -> TowerEpoch:
        return TowerEpoch(
            self.epoch,
            loss,
            self.validation_loss(),
            self.settings.eta_of(self.epoch),
            round(self.seconds, 3),
        )


@torch.no_grad()
def outputs(
    network: FusionNetwork, x: NDArray[np.float32], present: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """What a trained network says of any songs, float32 (songs, O).

    Parameters
    ----------
    x, present
        As of :class:`SongInputs`.
    """
    network.eval()
    found = [
        network(torch.from_numpy(x[part]), torch.from_numpy(present[part]))
        for part in _slices(len(x))
    ]
    return np.asarray(torch.cat(found).numpy(), np.float32)


def unit_of(factors: NDArray[np.float32]) -> float:
    """Root mean square of factors, in which towers have them.

    Of float32, for a checkpoint to be gone on with on a processor that adds in another order.
    """
    return float(np.float32(scale_of(factors)))


def _slices(rows: int) -> Sequence[slice]:
    return [slice(start, start + _AT_ONCE) for start in range(0, max(rows, 1), _AT_ONCE)]
