"""From a song's content to its latent factors: linear regression and a perceptron.

Baselines of van den Oord et al. (2013, section 6.1.2): both are fitted on training songs with
the squared error to the factors that matrix factorisation found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import Ridge
from torch import nn

from fusionrec.errors import DataError

Rows = NDArray[np.floating[Any]]
Float32 = NDArray[np.float32]
Validation = tuple[Rows, Rows]

PENALTIES = tuple(10.0**power for power in range(-1, 6))
"""The ridge penalties from which validation songs choose."""


@dataclass(frozen=True)
class LinearModel:
    """y = x A + b, with A of shape (d, f) and b of shape (f,), float64."""

    A: NDArray[np.float64]
    b: NDArray[np.float64]
    penalty: float

    def predict(self, inputs: Rows) -> Float32:
        """Factors of songs with inputs (n, d), float32 (n, f)."""
        return np.asarray(inputs @ self.A + self.b, np.float32)


def fit_linear(
    inputs: Rows,
    targets: Rows,
    *,
    validation: Validation | None = None,
    penalties: Sequence[float] = PENALTIES,
) -> LinearModel:
    """Ridge regression.

    Inputs are centred and divided by one number. They are principal components, and to bring
    each to unit variance would give noise the weight of the signal.

    Parameters
    ----------
    inputs, targets
        Shapes (n, d) and (n, f).
    validation
        The same of other songs: of `penalties` the one with the least squared error on them is
        taken. Without, the one that is nearest to 1 a song.
    penalties
        Of |y - xA - b|^2 + penalty |A|^2, for inputs whose variances have the mean 1.

    Raises
    ------
    DataError
        There is no song, or no input.
    """
    _require(inputs)
    mean, scale = _centring(inputs)
    x = (inputs - mean) / scale
    if validation is None or not len(validation[0]):
        penalties = [min(penalties, key=lambda p: abs(np.log(p / len(x))))]
    best: tuple[float, LinearModel] | None = None
    for penalty in penalties:
        ridge = Ridge(alpha=penalty).fit(x, targets)
        A = np.atleast_2d(ridge.coef_).T / scale
        model = LinearModel(A, ridge.intercept_ - mean @ A, penalty)
        error = 0.0
        if validation is not None and len(validation[0]):
            error = float(np.square(model.predict(validation[0]) - validation[1]).mean())
        if best is None or error < best[0]:
            best = error, model
    assert best is not None
    return best[1]


@dataclass(frozen=True)
class Perceptron:
    """A network with one hidden layer of rectified units; see :func:`fit_mlp`."""

    network: nn.Sequential
    mean: NDArray[np.float64]
    scale: float
    target_scale: float
    epochs: int

    def predict(self, inputs: Rows) -> Float32:
        """Factors of songs with inputs (n, d), float32 (n, f)."""
        x = torch.from_numpy(((inputs - self.mean) / self.scale).astype(np.float32))
        with torch.no_grad():
            y = self.network(x)
        return np.asarray(y.numpy() * self.target_scale, np.float32)


def fit_mlp(
    inputs: Rows,
    targets: Rows,
    *,
    validation: Validation | None = None,
    hidden: int = 1000,
    eta: float = 1e-3,
    batch_size: int = 64,
    epochs: int = 100,
    patience: int = 10,
    seed: int = 0,
) -> Perceptron:
    """A multilayer perceptron of one hidden layer, trained by Adam on the squared error.

    Inputs are centred and divided by one number, as in :func:`fit_linear`, and targets divided
    by their root mean square (one number for all factors, whose sizes matter to the ranking).

    Parameters
    ----------
    inputs, targets
        Shapes (n, d) and (n, f).
    validation
        The same of other songs: the weights of the epoch with the least error on them are
        kept. Without, those of the last.
    patience
        Stop after so many epochs without a new least error.
    seed
        Of the weights and of the order of songs; the global generator is left as it is.

    Raises
    ------
    DataError
        There is no song, or no input.
    """
    _require(inputs)
    mean, scale = _centring(inputs)
    target_scale = float(np.sqrt(np.square(targets).mean())) or 1.0

    def tensors(rows: Validation) -> tuple[torch.Tensor, torch.Tensor]:
        x, y = (rows[0] - mean) / scale, rows[1] / target_scale
        return torch.from_numpy(x.astype(np.float32)), torch.from_numpy(y.astype(np.float32))

    x, y = tensors((inputs, targets))
    held = tensors(validation) if validation is not None and len(validation[0]) else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Linear(x.shape[1], hidden), nn.ReLU(), nn.Linear(hidden, y.shape[1])
        )
    order = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(network.parameters(), lr=eta)
    least, best, best_epoch = float("inf"), network.state_dict(), 0
    for epoch in range(1, epochs + 1):
        for rows in torch.split(torch.randperm(len(x), generator=order), batch_size):
            loss = nn.functional.mse_loss(network(x[rows]), y[rows])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        if held is None:
            best_epoch = epoch
            continue
        with torch.no_grad():
            error = float(nn.functional.mse_loss(network(held[0]), held[1]))
        if error < least:
            least, best_epoch = error, epoch
            best = {name: value.clone() for name, value in network.state_dict().items()}
        elif epoch - best_epoch >= patience:
            break
    if held is not None:
        network.load_state_dict(best)
    return Perceptron(network.eval(), mean, scale, target_scale, best_epoch)


def _centring(inputs: Rows) -> tuple[NDArray[np.float64], float]:
    """Mean of each column, and the number that brings the mean variance to 1."""
    scale = float(np.sqrt(inputs.var(axis=0, dtype=np.float64).mean()))
    return inputs.mean(axis=0, dtype=np.float64), scale or 1.0


def _require(inputs: Rows) -> None:
    if not inputs.shape[0] or not inputs.shape[1]:
        raise DataError(
            f"regression to factors: {inputs.shape[0]} training songs with {inputs.shape[1]} "
            "inputs are too few; look at what the method is fed with"
        )
