"""Objective `factors`: the fusion network predicts the songs' latent factors of the plays.

As van den Oord et al. (2013, section 4), with the paper's network in place of theirs.
Shapes: n songs, D fused features, M modalities, F factors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fusionrec.baselines.factor_loss import FactorLoss, Feedback
from fusionrec.errors import DataError
from fusionrec.models.collective import Collective
from fusionrec.models.examples import cuts
from fusionrec.models.network import FusionNetwork
from fusionrec.models.settings import LossName, Settings
from fusionrec.models.song_tower import (
    SongInputs,
    SongTower,
    TowerEpoch,
    TowerTraining,
    outputs,
    unit_of,
)

Rows = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class FactorTower:
    """A network that predicts factors.

    Attributes
    ----------
    network
        In evaluation mode, on the CPU.
    scale
        The unit of its outputs: the root mean square of the training songs' factors.
    loss
        What it was trained by.
    history
        The evaluated epochs, in order; not stored.
    """

    network: FusionNetwork
    scale: float
    loss: LossName
    history: tuple[TowerEpoch, ...] = ()

    def predict(self, x: NDArray[np.float32], present: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Factors of any songs, float32 (songs, F), from fused features.

        Of unit length where the loss is `cosine`, which learns no lengths.

        Parameters
        ----------
        x, present
            As of :class:`fusionrec.models.song_tower.SongInputs`.
        """
        y = outputs(self.network, x, present)
        if self.loss == "cosine":
            lengths = np.linalg.norm(y, axis=1, keepdims=True)
            return np.asarray(y / np.maximum(lengths, 1e-12), np.float32)
        return y * np.float32(self.scale)

    def tensors(self) -> dict[str, Tensor]:
        """All that was learned."""
        return dict(self.network.state_dict())

    def description(self) -> dict[str, Any]:
        """What makes the model, but for its tensors; JSON-able."""
        return {"network": self.network.description(), "scale": self.scale, "loss": self.loss}

    @classmethod
    def load(cls, description: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> FactorTower:
        """The inverse of :meth:`description` and :meth:`tensors`."""
        network = FusionNetwork.from_description(description["network"])
        network.load_state_dict(tensors)
        return cls(network.eval(), description["scale"], description["loss"])


class FactorTraining(TowerTraining[FactorTower]):
    """The network in training on the factors of training songs, from their mean on.

    Parameters
    ----------
    songs
        All n songs.
    targets
        Float32, shape (n, F): factors of all songs; those of other songs than `train` and
        `validation` are not looked at, nor are zeros, which a song without plays has.
    train, validation
        Rows of songs; the latter say which epoch is the best.
    loss, feedback
        See :class:`fusionrec.baselines.factor_loss.FactorLoss`.
    settings
        Hyperparameters; class weights and label smoothing mean nothing here.
    collective, device
        As of :class:`fusionrec.models.epochs.EpochTraining`.

    Raises
    ------
    DataError
        Fewer than two training songs have factors.
    """

    def __init__(
        self,
        songs: SongInputs,
        targets: NDArray[np.float32],
        *,
        train: Rows,
        validation: Rows,
        loss: LossName,
        settings: Settings,
        feedback: Feedback | None = None,
        collective: Collective | None = None,
        device: str = "cpu",
    ) -> None:
        self.fitted, self.held = (rows[targets[rows].any(axis=1)] for rows in (train, validation))
        if len(self.fitted) < 2:
            raise DataError(
                f"{len(self.fitted)} of {len(train)} training songs have factors: the network "
                "needs 2; check that the plays are of these songs"
            )
        self.loss, self.scale = loss, unit_of(targets[self.fitted])
        self.error = FactorLoss(loss, targets, self.scale, feedback, self.fitted, device)
        self.tower = SongTower(songs, targets.shape[1], settings, collective, device)
        _predict_always(self.tower.network, targets[self.fitted].mean(axis=0) / self.scale)
        super().__init__(self.tower, settings, collective=collective, device=device)

    def result(self) -> FactorTower:
        """The trained network: of the last epoch; with early stopping, of the best."""
        self._trained()
        return FactorTower(self.tower.network, self.scale, self.loss, tuple(self.curve))

    def description(self) -> dict[str, Any]:
        """What makes the model, but for its weights; JSON-able."""
        return FactorTower(self.tower.network, self.scale, self.loss).description()

    def validation_loss(self) -> float | None:
        """Mean loss of the validation songs that have factors; None without any."""
        if not len(self.held):
            return None
        first, last = self.group.slice(len(self.held))
        mine = self.held[first:last]
        losses = self.error(self.tower.outputs(mine), mine)
        return self.group.sum(losses.sum(dtype=torch.float64)).item() / len(self.held)

    def _batches(self) -> Iterator[tuple[Tensor, float]]:
        self.tower.begin(self.epoch)
        order = np.random.default_rng([self.settings.seed, self.epoch]).permutation(self.fitted)
        for first, last in cuts(len(order), self.settings.batch_size):
            share = self.tower.share(last - first)
            mine = order[first:last][share.start : share.stop]
            yield self.error(self.model(mine), mine).sum(), float(last - first)


@torch.no_grad()
def _predict_always(network: FusionNetwork, always: NDArray[np.floating[Any]]) -> None:
    """Give these outputs for every song, shape (O,), until trained: no song differs by chance.

    Where training stops early, as it does with few songs, what the output layer's random
    weights begin with would else outweigh what was learned.
    """
    network.output.weight.zero_()
    network.output.bias.copy_(torch.from_numpy(always))
