"""Objective `factors`: the fusion network predicts the songs' latent factors of the plays.

As van den Oord et al. (2013, section 4), with the paper's network in place of theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fusionrec.baselines.factor_loss import FactorLoss, Feedback, scale_of
from fusionrec.errors import DataError
from fusionrec.models.examples import cuts
from fusionrec.models.settings import LossName, Settings
from fusionrec.models.song_tower import SongInputs, SongTower, TowerEpoch, fit_epochs

Rows = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class FactorTower:
    """A network that predicts factors.

    Attributes
    ----------
    scale
        The unit of its outputs: the root mean square of the training songs' factors.
    loss
        What it was trained by.
    history
        The epochs, in order.
    """

    tower: SongTower
    scale: float
    loss: LossName
    history: tuple[TowerEpoch, ...]

    def predict(self, rows: Rows | None = None) -> NDArray[np.float32]:
        """Factors of some songs, or all, float32 (songs, F).

        Of unit length where the loss is `cosine`, which learns no lengths.
        """
        y = self.tower.outputs(rows)
        y = nn.functional.normalize(y) if self.loss == "cosine" else y * self.scale
        return np.asarray(y.numpy(), np.float32)


def fit_factors(
    songs: SongInputs,
    targets: NDArray[np.float32],
    *,
    train: Rows,
    validation: Rows,
    loss: LossName,
    settings: Settings,
    feedback: Feedback | None = None,
) -> FactorTower:
    """Train the network on the factors of training songs, from their mean on.

    Parameters
    ----------
    songs
        All n songs.
    targets
        Float32, shape (n, F): factors of all songs; those of other songs than `train` and
        `validation` are not looked at, nor are zeros, which a song without plays has.
    train, validation
        Rows of songs; the latter are for early stopping, if `settings.patience` asks for it.
    loss, feedback
        See :class:`fusionrec.baselines.factor_loss.FactorLoss`.
    settings
        Hyperparameters; class weights, label smoothing and the precision mean nothing here.

    Raises
    ------
    DataError
        Fewer than two training songs have factors.
    """
    fitted, held = (rows[targets[rows].any(axis=1)] for rows in (train, validation))
    if len(fitted) < 2:
        raise DataError(
            f"{len(fitted)} of {len(train)} training songs have factors: the network needs 2; "
            "check that the plays are of these songs"
        )
    scale = scale_of(targets[fitted])
    error = FactorLoss(loss, targets, scale, feedback, fitted)
    tower = SongTower(songs, targets.shape[1], settings)
    tower.predict_always(targets[fitted].mean(axis=0) / scale)

    def batches(epoch: int) -> Iterator[tuple[Tensor, int]]:
        tower.begin(epoch)
        order = np.random.default_rng([settings.seed, epoch]).permutation(fitted)
        for first, last in cuts(len(order), settings.batch_size):
            rows = order[first:last]
            yield error(tower(torch.from_numpy(rows)), rows).mean(), len(rows)

    def of_held() -> float | None:
        return error(tower.outputs(held), held).mean().item() if len(held) else None

    return FactorTower(tower, scale, loss, fit_epochs(tower, settings, batches, of_held))
