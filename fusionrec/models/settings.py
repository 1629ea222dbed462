"""What the network and its training are told, and the defaults of both.

The configuration's sections take their defaults from here; nothing here imports torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Operator = Literal["concatenate", "add", "multiply", "max", "min", "mean", "gated"]
Align = Literal["project", "pad", "truncate"]
Absent = Literal["neutral", "learned"]
LossName = Literal["mse", "wpe", "cosine"]

WARM_UP = 5
"""Epochs in which a learning rate that was raised for the batch is reached."""


@dataclass(frozen=True)
class Settings:
    """Hyperparameters of a training."""

    epochs: int = 200
    batch_size: int = 256
    eta: float = 0.001
    eta_batch: int | None = None
    p: float = 0.5
    modality_dropout: float = 0.0
    class_weights: bool = True
    label_smoothing: float = 0.0
    weight_decay: float = 0.0
    schedule: Literal["constant", "cosine"] = "constant"
    patience: int | None = None
    evaluate_every: int | None = None
    norm_group: int | None = 64
    dtype: Literal["auto", "float32", "bfloat16", "float64"] = "auto"
    seed: int = 0

    @property
    def eta_of_batch(self) -> float:
        """The learning rate for this size of batch, after the warm-up.

        Where `eta_batch` says for which size `eta` was chosen, it grows with the square root of
        the batch over that: the rule of adaptive methods (Malladi et al. 2022), where that of
        plain descent is linear. An epoch of larger batches has fewer steps, each of less noise.
        """
        if self.eta_batch is None:
            return self.eta
        return self.eta * math.sqrt(self.batch_size / self.eta_batch)

    def eta_of(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from 1.

        One that `eta_batch` has raised is reached from `eta` in equal steps over the first epochs
        (Goyal et al. 2017): five, or a tenth of them where that is fewer.
        """
        highest = self.eta_of_batch
        rising = min(WARM_UP, self.epochs // 10)
        if highest > self.eta and epoch <= rising:
            highest = self.eta + (highest - self.eta) * (epoch / (rising + 1))
        if self.schedule == "constant":
            return highest
        return highest * 0.5 * (1.0 + math.cos(math.pi * ((epoch - 1) / self.epochs)))


def norm_groups(rows: int, group: int | None) -> int:
    """Normalisation groups of a batch, of about `group` rows each (None: one), but of 2 at least.

    One song has no moments.
    """
    return 1 if group is None else max(1, min(round(rows / group), rows // 2))


@dataclass(frozen=True)
class RankingSettings:
    """How two towers learn to rank.

    Attributes
    ----------
    dimensions
        d, of a song's vector, without its bias.
    pairs
        Plays in a batch.
    negatives
        Songs drawn evenly beside those of a batch's plays.
    history
        Songs of a user's history that an example has, at most, drawn anew in each epoch.
    cold
        How often a song is learned from without its collaborative vector.
    """

    dimensions: int = 64
    pairs: int = 1024
    negatives: int = 256
    history: int = 50
    cold: float = 0.5


@dataclass(frozen=True)
class GraphSettings:
    """The graph of two towers on a graph, and how far they see in it.

    Attributes
    ----------
    layers
        Rounds of messages.
    nearest
        Songs that a song is linked with, by each of listeners and content.
    sampled
        Neighbours of each relation that a training batch draws for a node.
    """

    layers: int = 2
    nearest: int = 20
    sampled: int = 10


@dataclass(frozen=True)
class DlrmSettings:
    """A song tower of DLRM's form.

    Attributes
    ----------
    embedding
        Dimensions of an embedding, and of the bottom network's output.
    rows
        Of an embedding table, at most: rarer names share rows.
    bottom, top
        Hidden widths of the two networks.
    embeddings_too
        The top network sees the embeddings themselves beside their products, and not only the
        bottom's output.
    unknown
        How often a training song is drawn to be of an unknown artist; or, its artist being
        known, of an unknown release.
    untagged
        How often it is drawn to be without a kind of tags.
    """

    embedding: int = 32
    rows: int = 10_000
    bottom: tuple[int, ...] = (256,)
    top: tuple[int, ...] = (256, 128)
    embeddings_too: bool = False
    unknown: float = 0.5
    untagged: float = 0.1


@dataclass(frozen=True)
class FusionSettings:
    """How the modalities become one vector.

    Attributes
    ----------
    blocks
        Columns D_m of each modality, in the order in which they lie side by side.
    operator
        `concatenate` (the paper's), `add`, `multiply`, `max`, `min`, `mean`, or `gated`: a mean
        whose weights, one a modality and song, are a softmax over learned scores.
    align
        Bringing the modalities to one size W, for every operator but concatenation: `project`
        by a learned linear layer each; `pad` the smaller ones; `truncate` the larger ones
        (principal components, so the last ones matter least).
    width
        W under `project`; the largest or smallest D_m otherwise.
    absent
        A modality that a song does not have is left out of the operator (`neutral`: zeros where
        concatenated, which is the training mean of standardised features), or replaced by a
        `learned` vector.
    """

    blocks: tuple[int, ...]
    operator: Operator = "concatenate"
    align: Align = "project"
    width: int = 128
    absent: Absent = "neutral"
