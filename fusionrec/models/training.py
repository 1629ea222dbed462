"""Training the fusion network (paper section 5.3): class-weighted cross-entropy and Adam.

The same code runs alone and as one of several data-parallel workers. The global batch
is fixed; each worker takes its share of it, and batch normalisation, dropout and the
loss are those of the global batch, so that the number of workers changes a run by
rounding only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fusionrec.errors import DataError
from fusionrec.models.collective import Collective
from fusionrec.models.network import FusionNetwork


@dataclass(frozen=True)
class TrainingSet:
    """Fused features and classes of labelled songs.

    Attributes
    ----------
    train_x, test_x
        Float32, shape (songs, D).
    train_y, test_y
        Int64 classes, shape (songs,).
    classes
        k.
    """

    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    classes: int


@dataclass(frozen=True)
class Settings:
    """Hyperparameters; see :class:`fusionrec.config.TrainConfig`."""

    epochs: int
    batch_size: int
    eta: float
    p: float
    class_weights: bool
    seed: int
    dtype: str = "float32"


@dataclass(frozen=True)
class Epoch:
    """One row of the training curve; accuracies lie in [0, 1], NaN where there is no song."""

    epoch: int
    loss: float
    train_accuracy: float
    test_accuracy: float


def class_weights(classes: np.ndarray, k: int) -> np.ndarray:
    """n / (k * n_c) for each class c, scikit-learn's "balanced"; 0 for a class without songs.

    Parameters
    ----------
    classes
        Int classes of the training songs, shape (n,).
    k
        Number of classes.

    Returns
    -------
    np.ndarray
        Float32, shape (k,).
    """
    counts = np.bincount(classes, minlength=k)
    weights = len(classes) / (k * np.maximum(counts, 1))
    return np.where(counts > 0, weights, 0.0).astype(np.float32)


def fit(
    data: TrainingSet,
    settings: Settings,
    *,
    collective: Collective | None = None,
    device: str = "cpu",
) -> tuple[FusionNetwork, list[Epoch]]:
    """Train a network from the seed.

    Returns
    -------
    tuple
        The network in evaluation mode on the CPU in float32, and the curve: every epoch of short
        runs, about 100 evenly spaced ones (the last among them) of longer ones.

    Raises
    ------
    DataError
        If fewer than two training songs are labelled.
    """
    if len(data.train_y) < 2:
        raise DataError(
            f"{len(data.train_y)} labelled training songs: the fusion network needs at least 2; "
            "check label.source and the tags in the ingest report"
        )
    group = collective or Collective()
    torch.manual_seed(settings.seed)
    network = FusionNetwork(data.train_x.shape[1], data.classes, settings.p, group)
    network = network.to(device, getattr(torch, settings.dtype))
    model: nn.Module = network
    if group.world > 1:
        # Batch statistics are equal on all workers already: nothing to broadcast.
        model = DistributedDataParallel(network, forward_sync_buffers=False)
    optimiser = torch.optim.Adam(model.parameters(), lr=settings.eta)
    x_ND = torch.from_numpy(data.train_x).to(network.output.weight)
    y_N = torch.from_numpy(data.train_y).to(device)
    weights_K = x_ND.new_ones(data.classes)
    if settings.class_weights:
        weights_K = torch.from_numpy(class_weights(data.train_y, data.classes)).to(x_ND)
    every = max(1, settings.epochs // 100)
    curve: list[Epoch] = []
    for epoch in range(1, settings.epochs + 1):
        network.context.generator.manual_seed(settings.seed * 1_000_003 + epoch)
        loss = _train_epoch(model, network, optimiser, x_ND, y_N, weights_K, settings, epoch, group)
        if epoch % every == 0 or epoch == settings.epochs:
            curve.append(
                Epoch(
                    epoch,
                    loss,
                    accuracy(network, data.train_x, data.train_y),
                    accuracy(network, data.test_x, data.test_y),
                )
            )
    return network.cpu().float().eval(), curve


def accuracy(network: FusionNetwork, x: np.ndarray, y: np.ndarray) -> float:
    """Share of songs whose most probable class is `y` (paper section 3.3); NaN without songs."""
    if len(y) == 0:
        return float("nan")
    return float((predict(network, x)[0].argmax(axis=1) == y).mean())


def predict(
    network: FusionNetwork, x: np.ndarray, batch: int = 8192
) -> tuple[np.ndarray, np.ndarray]:
    """F(s), float32 (songs, k), and the last hidden layer, float32 (songs, 512)."""
    blocks = [
        network.song_vectors(torch.from_numpy(x[start : start + batch]).to(network.output.weight))
        for start in range(0, len(x), batch)
    ]
    probabilities, hidden = (
        torch.cat(part).float().cpu().numpy() for part in zip(*blocks, strict=True)
    )
    return probabilities, hidden


def _train_epoch(
    model: nn.Module,
    network: FusionNetwork,
    optimiser: torch.optim.Optimizer,
    x_ND: Tensor,
    y_N: Tensor,
    weights_K: Tensor,
    settings: Settings,
    epoch: int,
    group: Collective,
) -> float:
    model.train()
    total_loss, total_weight = 0.0, 0.0
    for rows in _batches(len(y_N), settings.batch_size, settings.seed, epoch):
        start, stop = group.slice(len(rows))
        network.context.rows, network.context.offset = len(rows), start
        mine = torch.from_numpy(rows[start:stop]).to(x_ND.device)
        y_B = y_N[mine]
        weight = float(weights_K[y_N[torch.from_numpy(rows).to(y_N.device)]].sum())
        losses = nn.functional.cross_entropy(
            model(x_ND[mine]), y_B, weight=weights_K, reduction="sum"
        )
        optimiser.zero_grad(set_to_none=True)
        # DDP averages gradients; times the world it is the global batch's weighted mean.
        (losses * (group.world / weight)).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        total_loss += float(group.sum(losses.detach()))
        total_weight += weight
    return total_loss / total_weight


def _batches(songs: int, size: int, seed: int, epoch: int) -> Iterator[np.ndarray]:
    """Global batches of a seeded order; a remainder too small to normalise joins the last one."""
    order = np.random.default_rng([seed, epoch]).permutation(songs)
    smallest = max(2, min(16, size // 2))
    starts = list(range(0, songs, size))
    if len(starts) > 1 and songs - starts[-1] < smallest:
        starts.pop()
    for start, stop in zip(starts, [*starts[1:], songs], strict=True):
        yield order[start:stop]
