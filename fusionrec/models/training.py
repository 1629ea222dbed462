"""Training the fusion network (paper section 5.3): class-weighted cross-entropy and Adam."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fusionrec.models.collective import Collective
from fusionrec.models.epochs import EpochTraining
from fusionrec.models.examples import Batch, Feed, InMemory, Part
from fusionrec.models.network import FusionNetwork
from fusionrec.models.recorded import RecordedStep
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

    def better_than(self, other: Epoch) -> bool:
        """By validation accuracy, or by loss without such songs."""
        if self.validation_accuracy is None or other.validation_accuracy is None:
            return self.loss < other.loss
        return self.validation_accuracy > other.validation_accuracy


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


class Training(EpochTraining[Epoch, FusionNetwork]):
    """A network that learns classes; see :class:`fusionrec.models.epochs.EpochTraining`.

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
    """

    rows = Epoch

    def __init__(
        self,
        feed: Feed,
        settings: Settings,
        *,
        collective: Collective | None = None,
        device: str = "cpu",
    ) -> None:
        self.feed = feed
        classes = len(feed.counts)
        # Weights are drawn from torch's global generator.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.network = FusionNetwork(
                feed.fusion, classes, settings.p, collective, settings.modality_dropout
            )
        super().__init__(self.network, settings, collective=collective, device=device)
        self.network.context.generator = torch.Generator(self.device)
        weights = class_weights(feed.counts) if settings.class_weights else np.ones(classes)
        self.weights_K = torch.from_numpy(weights).to(self.device, self.dtype)
        self._recorded = self._recorder()

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
        self._trained()
        return self.network

    def description(self) -> dict[str, Any]:
        """See :meth:`FusionNetwork.description`."""
        return self.network.description()

    def _evaluated(self, loss: float) -> Epoch:
        return Epoch(
            self.epoch,
            loss,
            self.accuracy("train"),
            self.accuracy("validation"),
            self.accuracy("test"),
            self.settings.eta_of(self.epoch),
            round(self.seconds, 3),
        )

    def restore(self, content: bytes) -> None:
        """See :meth:`EpochTraining.restore`."""
        super().restore(content)
        # A recorded step has the optimiser's old moments.
        self._recorded = self._recorder()

    def _recorder(self, *, anywhere: bool = False) -> RecordedStep | None:
        """What takes the steps where songs lie on a GPU (or `anywhere`) and one worker learns."""
        on_gpu = self.device.type == "cuda"
        if not (on_gpu or anywhere) or self.group.world > 1 or not isinstance(self.feed, InMemory):
            return None
        # The steps before the recording, and those of other sizes, are not captured: torch would
        # warn of each training's first.
        vars(self.optimiser)["_warned_capturable_if_run_uncaptured"] = on_gpu
        for group in self.optimiser.param_groups:
            group["capturable"] = on_gpu
            group["lr"] = torch.tensor(float(group["lr"]), device=self.device)
        for state in self.optimiser.state.values():
            state["step"] = state["step"].to(self.device, torch.float32)
        feed = self.feed

        def step(rows_B: Tensor) -> None:
            self._step(*self._of_batch(feed.batch(rows_B)))

        size, generator = feed.batch_size, self.network.context.generator
        return RecordedStep(step, size, generator, record=on_gpu)

    def _run_batches(self) -> None:
        if self._recorded is None or not isinstance(self.feed, InMemory):
            super()._run_batches()
            return
        self._reseed()
        for rows_B in self.feed.rows(self.epoch):
            self._recorded(rows_B)

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        self._reseed()
        for batch in self.feed.batches(self.epoch):
            yield self._of_batch(batch)

    def _reseed(self) -> None:
        self.network.context.reseed(self.settings.seed * 1_000_003 + self.epoch)

    def _of_batch(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """A batch's loss and its weight; see :meth:`EpochTraining._batches`."""
        self.network.context.share = batch.share
        loss = self._loss(batch)
        if batch.batch_y is not None:
            return loss, self.weights_K.index_select(0, batch.batch_y).sum()
        return loss, self.group.sum(self.weights_K[batch.y_B].sum())

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


def fit(
    feed: Feed,
    settings: Settings,
    *,
    collective: Collective | None = None,
    device: str = "cpu",
) -> tuple[FusionNetwork, list[Epoch]]:
    """Train a network from the seed: :class:`Training` from beginning to end."""
    training = Training(feed, settings, collective=collective, device=device)
    return training.run(), training.curve


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
