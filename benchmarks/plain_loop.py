"""Training the fusion network by the loop one would write first: the peer of the benchmarks."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from fusionrec.models.epochs import precision
from fusionrec.models.examples import Examples, TrainingSet
from fusionrec.models.network import HIDDEN
from fusionrec.models.settings import FusionSettings

CLASSES = 6


def random_songs(songs: int, columns: int) -> TrainingSet:
    """Features and classes; there is nothing to learn, and that costs the same."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((songs, columns), np.float32)
    train = Examples(x, np.ones((songs, 1), bool), rng.integers(0, CLASSES, songs))
    none = Examples(x[:0], train.present[:0], train.y[:0])
    return TrainingSet(train, none, none, CLASSES, FusionSettings((columns,)))


class Residual(nn.Module):
    """The residual block in torch's own layers."""

    def __init__(self, width: int, p: float) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(width, width),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Dropout(p),
            nn.Linear(width, width),
            nn.BatchNorm1d(width),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.body(x))


class PlainLoop:
    """One process, torch's own layers, all songs on the device.

    Parameters
    ----------
    songs
        The training songs.
    batch
        Songs in a batch.
    device
        Torch device.
    """

    def __init__(self, songs: Examples, batch: int, device: str) -> None:
        self._x = torch.from_numpy(songs.x).to(device)
        self._y = torch.from_numpy(songs.y).to(device)
        self._batch, self._device = batch, device
        layers: list[nn.Module] = []
        widths = (songs.x.shape[1], *HIDDEN[:-1])
        for before, width in zip(widths, HIDDEN, strict=True):
            layers += [nn.Linear(before, width), nn.ReLU(), Residual(width, 0.5)]
        self._model = nn.Sequential(*layers, nn.Linear(HIDDEN[-1], CLASSES)).to(device)
        self._optimiser = torch.optim.Adam(self._model.parameters(), lr=0.001)
        self._loss = nn.CrossEntropyLoss(torch.ones(CLASSES, device=device))
        self._halves, _ = precision("auto", device)

    def epoch(self) -> None:
        """Every song once."""
        order = torch.randperm(len(self._y))
        for rows in torch.split(order, self._batch):
            rows = rows.to(self._device)
            with torch.autocast(self._device, torch.bfloat16, enabled=self._halves):
                loss = self._loss(self._model(self._x[rows]), self._y[rows])
            self._optimiser.zero_grad()
            loss.backward()
            self._optimiser.step()
        if self._device == "cuda":
            torch.cuda.synchronize()
