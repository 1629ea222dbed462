"""Training the fusion network (paper section 5.3): class-weighted cross-entropy and Adam.

The same code runs alone and as one of several data-parallel workers. The global batch
is fixed; each worker takes its share of it, and batch normalisation, dropout and the
loss are those of the global batch, so that the number of workers changes a run by
rounding only.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fusionrec.errors import DataError
from fusionrec.models import checkpoint
from fusionrec.models.collective import Collective
from fusionrec.models.examples import Batch, Feed, Part
from fusionrec.models.network import FusionNetwork
from fusionrec.models.settings import Settings


@dataclass(frozen=True)
class Epoch:
    """One row of the training curve.

    Attributes
    ----------
    loss
        Mean cross-entropy over the epoch's batches (in training mode, weighted), in nats.
    train_accuracy, validation_accuracy, test_accuracy
        In [0, 1], in evaluation mode after the epoch; None where a part has no labelled song.
    eta
        The epoch's learning rate.
    seconds
        Spent in training since the beginning of the run, evaluation left out.
    """

    epoch: int
    loss: float
    train_accuracy: float | None
    validation_accuracy: float | None
    test_accuracy: float | None
    eta: float
    seconds: float


def class_weights(counts: np.ndarray) -> np.ndarray:
    """n / (k * n_c) for each class c, scikit-learn's "balanced"; 0 for a class without songs.

    Parameters
    ----------
    counts
        Training songs n_c of each class, int, shape (k,).

    Returns
    -------
    np.ndarray
        Float32, shape (k,).
    """
    weights = counts.sum() / (len(counts) * np.maximum(counts, 1))
    return np.where(counts > 0, weights, 0.0).astype(np.float32)


class Training:
    """A network in training, an epoch at a time, that can be saved and restored between them.

    Order and dropout of an epoch depend on the seed and its number alone, so a restored
    training goes on as if it had never stopped.

    Parameters
    ----------
    feed
        The songs.
    settings
        The hyperparameters; weights are drawn from its seed.
    collective
        The data-parallel workers that share a batch; alone by default.
    device
        Torch device of this worker.

    Attributes
    ----------
    epoch, best_epoch
        The last epoch done, and the best one that was evaluated; 0 before there is one.
    curve
        The evaluated epochs.
    seconds, seconds_here
        Spent in training, evaluation left out: in all, and since this object was made.
    """

    def __init__(
        self,
        feed: Feed,
        settings: Settings,
        *,
        collective: Collective | None = None,
        device: str = "cpu",
    ) -> None:
        self.feed = feed
        self.settings = settings
        self.group = collective or Collective()
        self.device = torch.device(device)
        classes = len(feed.counts)
        self.autocasts, dtype = precision(settings.dtype, device)
        # Weights are drawn from torch's global generator.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            network = FusionNetwork(feed.fusion, classes, settings.p, self.group)
        self.network = network.to(self.device, dtype)
        self.network.context.generator = torch.Generator(self.device)
        self.model: nn.Module = self.network
        if self.group.world > 1:
            # Batch statistics are equal on all workers already: nothing to broadcast.
            self.model = DistributedDataParallel(
                self.network, forward_sync_buffers=False, gradient_as_bucket_view=True
            )
        kind = torch.optim.AdamW if settings.weight_decay else torch.optim.Adam
        self.optimiser = kind(
            self.network.parameters(),
            lr=settings.eta,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        weights = class_weights(feed.counts) if settings.class_weights else np.ones(classes)
        self.weights_K = torch.from_numpy(weights).to(self.device, dtype)
        self.epoch = 0
        self.seconds = self.seconds_here = 0.0
        self.curve: list[Epoch] = []
        self.best_epoch = 0
        self._best: dict[str, Tensor] = {}

    @property
    def finished(self) -> bool:
        """All epochs are done, or validation accuracy has not risen for `patience` epochs."""
        patience = self.settings.patience
        waited = self.epoch - self.best_epoch if self.best_epoch else 0
        return self.epoch >= self.settings.epochs or (patience is not None and waited >= patience)

    @property
    def best(self) -> Epoch:
        """The best row of the curve: by validation accuracy, or by loss without such songs."""
        return next(row for row in self.curve if row.epoch == self.best_epoch)

    def run_epoch(self) -> Epoch | None:
        """Train one epoch; its row of the curve where it is one that is evaluated.

        Those are every `evaluate_every`-th (by default, so many that a full run has about 100)
        and the last.
        """
        self.epoch += 1
        started = time.perf_counter()
        loss = self._train_epoch()
        spent = time.perf_counter() - started
        self.seconds += spent
        self.seconds_here += spent
        every = self.settings.evaluate_every or max(1, self.settings.epochs // 100)
        if self.epoch % every and self.epoch < self.settings.epochs:
            return None
        row = Epoch(
            self.epoch,
            loss,
            self.accuracy("train"),
            self.accuracy("validation"),
            self.accuracy("test"),
            self.settings.eta_of(self.epoch),
            round(self.seconds, 3),
        )
        self.curve.append(row)
        if self._is_best(row):
            self.best_epoch = row.epoch
            self._best = {
                name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()
            }
        return row

    def accuracy(self, part: Part) -> float | None:
        """Share of songs whose most probable class is their own (paper 3.3); None without songs."""
        counted = torch.zeros(2, device=self.device, dtype=torch.float64)
        for batch in self.feed.scan(part):
            probabilities_BK, _ = self.network.song_vectors(batch.x_BD, batch.present_BM)
            counted[0] += (probabilities_BK.argmax(dim=1) == batch.y_B).sum()
            counted[1] += len(batch.y_B)
        right, songs = self.group.sum(counted).tolist()
        return right / songs if songs else None

    def result(self) -> FusionNetwork:
        """The trained network, in evaluation mode on the CPU in float32.

        It is that of the last epoch; with early stopping, that of the best.
        """
        if self.settings.patience is not None and self._best:
            self.network.load_state_dict(self._best)
        return self.network.cpu().float().eval()

    def save(self, *, best: bool = False) -> bytes:
        """The state after this epoch, or that of the `best` one, as a safetensors file.

        It holds the weights, the optimiser's moments, and in its metadata the settings, the
        curve, the epoch and the seed, which with the epoch is the state of the randomness.
        """
        weights = self._best if best else self.network.state_dict()
        tensors = checkpoint.prefixed("model.", weights)
        if not best:
            moments = checkpoint.optimiser_tensors(self.optimiser.state_dict())
            tensors |= checkpoint.prefixed("optimiser.", moments)
            tensors |= checkpoint.prefixed("best.", self._best)
        state = {
            "epoch": self.best_epoch if best else self.epoch,
            "best_epoch": self.best_epoch,
            "seconds": self.seconds,
            "settings": asdict(self.settings),
            "network": self.network.description(),
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
        if state["settings"] != asdict(self.settings):
            raise DataError("the checkpoint is of a training with other settings")
        self.network.load_state_dict(checkpoint.without("model.", tensors))
        self.optimiser.load_state_dict(
            checkpoint.with_tensors(
                self.optimiser.state_dict(), checkpoint.without("optimiser.", tensors)
            )
        )
        self._best = checkpoint.without("best.", tensors)
        self.epoch, self.best_epoch = state["epoch"], state["best_epoch"]
        self.seconds = state["seconds"]
        self.curve = [Epoch(**row) for row in state["curve"]]

    def _is_best(self, row: Epoch) -> bool:
        if not self.best_epoch:
            return True
        best = self.best
        if row.validation_accuracy is None or best.validation_accuracy is None:
            return row.loss < best.loss
        return row.validation_accuracy > best.validation_accuracy

    def _train_epoch(self) -> float:
        self.model.train()
        context = self.network.context
        context.generator.manual_seed(self.settings.seed * 1_000_003 + self.epoch)
        for group in self.optimiser.param_groups:
            group["lr"] = self.settings.eta_of(self.epoch)
        sums = torch.zeros(2, device=self.device, dtype=torch.float64)
        for batch in self.feed.batches(self.epoch):
            context.share = batch.share
            loss = self._loss(batch)
            if batch.batch_y is not None:
                weight = self.weights_K[batch.batch_y].sum()
            else:
                weight = self.group.sum(self.weights_K[batch.y_B].sum())
            self.optimiser.zero_grad(set_to_none=True)
            # DDP averages gradients; times the world it is the global batch's weighted mean.
            torch.autograd.backward(loss * (self.group.world / weight))
            self.optimiser.step()
            sums[0] += loss.detach()
            # The sum over the workers again, below, so each adds its share of it.
            sums[1] += weight / self.group.world
        self.network.average_running_moments(self.group)
        total, weights = self.group.sum(sums).tolist()
        return float(total / weights)

    def _loss(self, batch: Batch) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocasts):
            logits_BK = self.model(batch.x_BD, batch.present_BM)
            return nn.functional.cross_entropy(
                logits_BK,
                batch.y_B,
                weight=self.weights_K,
                reduction="sum",
                label_smoothing=self.settings.label_smoothing,
            )


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


def fit(
    feed: Feed,
    settings: Settings,
    *,
    collective: Collective | None = None,
    device: str = "cpu",
) -> tuple[FusionNetwork, list[Epoch]]:
    """Train a network from the seed: :class:`Training` from beginning to end."""
    training = Training(feed, settings, collective=collective, device=device)
    while not training.finished:
        training.run_epoch()
    return training.result(), training.curve


def predict(
    network: FusionNetwork, x: np.ndarray, present: np.ndarray | None = None, batch: int = 8192
) -> tuple[np.ndarray, np.ndarray]:
    """F(s), float32 (songs, k), and the last hidden layer, float32 (songs, 512).

    Parameters
    ----------
    x
        Float32, shape (songs, D).
    present
        Bool, shape (songs, M): the modalities each song has; all by default.
    """
    like = network.output.weight
    blocks = [
        network.song_vectors(
            torch.from_numpy(x[start : start + batch]).to(like),
            None
            if present is None
            else torch.from_numpy(present[start : start + batch]).to(like.device),
        )
        for start in range(0, max(1, len(x)), batch)
    ]
    probabilities, hidden = (torch.cat(b).float().cpu().numpy() for b in zip(*blocks, strict=True))
    return probabilities, hidden
