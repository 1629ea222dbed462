"""A convolutional network from a song's segments to its latent factors.

After van den Oord et al. (2013, sections 5.2 and 6.1.3): convolutions in time, of all
inputs at once, over windows of fixed length, with rectified linear units and max-pooling
between them; the outputs of a song's consecutive windows are averaged. Their input is a
log-mel spectrogram, ours the 12 timbre and 12 pitch values of Echo Nest segments.

Shapes: B songs in a batch, T segments in a window, I inputs (24), F factors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fusionrec.baselines.factor_loss import FactorLoss, Feedback, scale_of
from fusionrec.errors import DataError
from fusionrec.features.moments import Moments, Scaler

Floats = NDArray[np.float32]
Rows = NDArray[np.integer[Any]]

_POOL = 4  # segments that max-pooling makes one of
_DENSE = 256  # width of the hidden dense layer
_WINDOWS = 256  # predicted at a time


class Network(nn.Module):
    """Convolutions of 5 segments with max-pooling between, mean and maximum in time, dense layers.

    Parameters
    ----------
    inputs, factors
        I and F.
    channels
        Width of each convolution.
    """

    def __init__(self, inputs: int, factors: int, channels: Sequence[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, width in zip((inputs, *channels[:-1]), channels, strict=True):
            if layers:
                layers.append(nn.MaxPool1d(_POOL, ceil_mode=True))
            layers += [nn.Conv1d(before, width, 5, padding="same"), nn.ReLU()]
        self.convolutions = nn.Sequential(*layers)
        self.dense = nn.Sequential(
            nn.Linear(2 * channels[-1], _DENSE), nn.ReLU(), nn.Linear(_DENSE, factors)
        )

    def forward(self, x_BTI: Tensor) -> Tensor:
        """Factors, shape (B, F), in units of the training targets' root mean square."""
        x_BHT = self.convolutions(x_BTI.transpose(1, 2))
        y_BF: Tensor = self.dense(torch.cat([x_BHT.mean(dim=2), x_BHT.amax(dim=2)], dim=1))
        return y_BF


@dataclass(frozen=True)
class Epoch:
    """Losses of an epoch; predicting 0 would score 1 over the training songs.

    Attributes
    ----------
    loss
        Mean over the training songs' random windows, while the weights changed.
    validation_loss
        Of the held-out songs' averaged predictions after it; None without such songs.
    """

    epoch: int
    loss: float
    validation_loss: float | None


@dataclass(frozen=True)
class ConvNet:
    """A trained network.

    Attributes
    ----------
    network
        In evaluation mode, on the device it was trained on.
    scaler
        Of the inputs, from the training songs' segments.
    scale
        Root mean square of the training songs' targets: the unit of the network's output.
    mean
        Float32, shape (F,): the training songs' mean target.
    segments
        T.
    history
        The epochs, in order; the weights are those of the least validation loss, or of the last
        epoch where no song was held out.
    left_out
        Songs given to the fit that no epoch used, by reason: `no segments`, `no factors`.
    """

    network: Network
    scaler: Scaler
    scale: float
    mean: Floats
    segments: int
    history: tuple[Epoch, ...]
    left_out: dict[str, int]

    def predict(self, offsets: NDArray[np.int64], frames: Floats) -> Floats:
        """Factors in the scale of the targets: the mean over windows that cover the song.

        A song's windows follow one another from its beginning; the last is moved back to end
        with the song, and a song shorter than a window is padded with the mean segment.

        Parameters
        ----------
        offsets, frames
            As :func:`fit_cnn` takes them.

        Returns
        -------
        Array of shape (songs, F), float32; a song without segments gets the training mean.
        """
        y = np.tile(self.mean, (len(offsets) - 1, 1))
        rows = np.flatnonzero(np.diff(offsets) > 0)
        inputs = _Inputs(offsets, frames, self.scaler, self.segments)
        y[rows] = _averaged(self.network, inputs, rows).cpu().numpy() * self.scale
        return y


def fit_cnn(
    offsets: NDArray[np.int64],
    frames: Floats,
    targets: Floats,
    *,
    loss: Literal["mse", "wpe"],
    feedback: Feedback | None = None,
    validation_rows: Rows,
    segments: int = 128,
    channels: Sequence[int] = (64, 128, 128),
    eta: float = 0.001,
    batch_size: int = 64,
    epochs: int = 30,
    patience: int = 10,
    seed: int = 0,
    device: str = "cpu",
) -> ConvNet:
    """Train a network by Adam, a random window of each training song an epoch.

    Both losses begin near 1, so that one learning rate suits both.

    Parameters
    ----------
    offsets, frames
        Int64 (n + 1,) and float32 (segments, I): song i's segments are
        `frames[offsets[i]:offsets[i + 1]]`, in time. `frames` may be a memory map.
    targets
        Float32, shape (n, F): the songs' factors. A row of zeros (what matrix factorisation
        gives a song without listeners) or with a NaN means that it has none: it is left
        out under either loss, as is a song without segments.
    loss
        See :class:`fusionrec.baselines.factor_loss.FactorLoss`.
    feedback
        Of the n songs; for `wpe`.
    validation_rows
        Songs held out for early stopping; with none, every epoch is run.
    segments, channels
        T, and the width of each convolution.
    eta, batch_size, epochs, patience
        Adam's learning rate, songs in a batch, epochs at most, and epochs without a lower
        validation loss after which it stops.
    seed
        Of weights, windows and order: the same on a CPU gives the same network.

    Raises
    ------
    DataError
        No training song has both segments and factors.
    ValueError
        `wpe` without `feedback`, or arrays of different numbers of songs.
    """
    sizes = {len(targets), len(offsets) - 1, len(feedback.indptr if feedback else offsets) - 1}
    if len(sizes) > 1:
        raise ValueError(f"targets, offsets and feedback are of {sorted(sizes)} songs")
    lengths = np.diff(offsets)
    has_factors = np.isfinite(targets).all(axis=1) & targets.any(axis=1)
    usable, held_out = (lengths > 0) & has_factors, np.zeros(len(targets), bool)
    held_out[validation_rows] = True
    train, validation = np.flatnonzero(usable & ~held_out), np.flatnonzero(usable & held_out)
    if not len(train):
        raise DataError(
            f"the convolutional network: none of {int((~held_out).sum())} training songs has both "
            "segments and factors; check the ingest report, and that the plays are of these songs"
        )
    inputs = _Inputs(offsets, frames, _scaler(offsets, frames, train), segments)
    scale = scale_of(targets[train])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Network(frames.shape[1], targets.shape[1], channels).to(device)
    error = FactorLoss(loss, targets, scale, feedback, train, device)
    optimiser = torch.optim.Adam(network.parameters(), lr=eta)
    history: list[Epoch] = []
    least, best, best_weights = np.inf, 0, dict[str, Tensor]()
    for epoch in range(1, epochs + 1):
        total = 0.0
        rng = np.random.default_rng([seed, epoch])
        order = rng.permutation(train)
        spare = np.maximum(lengths[order] - segments, 0)
        starts = rng.integers(0, spare, endpoint=True)
        for begin in range(0, len(order), batch_size):
            rows = order[begin : begin + batch_size]
            x_BTI = inputs.windows(rows, starts[begin : begin + batch_size])
            batch_loss = error(network(x_BTI.to(device)), rows).mean()
            optimiser.zero_grad()
            torch.autograd.backward(batch_loss)
            optimiser.step()
            total += batch_loss.item() * len(rows)
        held = None
        if len(validation):
            held = error(_averaged(network, inputs, validation), validation).mean().item()
        history.append(Epoch(epoch, total / len(train), held))
        if held is None:
            continue
        if held < least:
            least, best = held, epoch
            best_weights = {name: x.clone() for name, x in network.state_dict().items()}
        if epoch - best >= patience:
            break
    if best_weights:
        network.load_state_dict(best_weights)
    left_out = {
        "no segments": int((lengths == 0).sum()),
        "no factors": int(((lengths > 0) & ~has_factors).sum()),
    }
    mean = targets[train].mean(axis=0, dtype=np.float64).astype(np.float32)
    return ConvNet(network.eval(), inputs.scaler, scale, mean, segments, tuple(history), left_out)


@dataclass(frozen=True)
class _Inputs:
    """Songs' segments, from which standardised windows are cut."""

    offsets: NDArray[np.int64]
    frames: Floats
    scaler: Scaler
    segments: int

    def windows(self, rows: Rows, starts: Rows) -> Tensor:
        """Windows (B, T, I) of songs `rows`, from these segments; zeros beyond a song's end."""
        where = (self.offsets[rows] + starts)[:, None] + np.arange(self.segments)
        inside = where < self.offsets[rows + 1][:, None]
        x = self.frames[np.minimum(where, len(self.frames) - 1)]
        scaled = (x - self.scaler.mean.astype(np.float32)) / self.scaler.scale.astype(np.float32)
        return torch.from_numpy(scaled * inside[:, :, None])


def _scaler(offsets: NDArray[np.int64], frames: Floats, rows: Rows) -> Scaler:
    """Standardisation by the segments of songs `rows`."""
    wanted = np.zeros(len(offsets) - 1, bool)
    wanted[rows] = True
    inside = np.repeat(wanted, np.diff(offsets))[:, None]
    blocks = (slice(start, start + 2**16) for start in range(0, len(inside), 2**16))
    return Scaler.fit(reduce(add, (Moments.of(frames[at], inside[at]) for at in blocks)))


@torch.no_grad()
def _averaged(network: Network, inputs: _Inputs, rows: Rows) -> Tensor:
    """The network's mean output over the windows that cover each song, shape (rows, F)."""
    lengths, T = np.diff(inputs.offsets)[rows], inputs.segments
    sizes = -(-lengths // T)
    window = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    song = np.repeat(np.arange(len(rows)), sizes)
    starts = np.minimum(window * T, np.maximum(lengths - T, 0)[song])
    like = network.dense[-1].weight
    assert isinstance(like, Tensor)
    total = like.new_zeros(len(rows), len(like))
    for begin in range(0, len(song), _WINDOWS):
        some = song[begin : begin + _WINDOWS]
        x_BTI = inputs.windows(rows[some], starts[begin : begin + _WINDOWS])
        total.index_add_(0, torch.from_numpy(some).to(like.device), network(x_BTI.to(like.device)))
    return total / torch.from_numpy(sizes).to(like)[:, None]
