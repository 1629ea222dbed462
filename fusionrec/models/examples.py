"""What the fusion network learns from: labelled songs, in memory, in global batches.

Shapes: N songs, D fused features, M modalities, B the rows of a batch that are this worker's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from fusionrec.errors import DataError
from fusionrec.models.batch import BatchShare
from fusionrec.models.collective import Collective
from fusionrec.models.settings import FusionSettings

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")
_SCANNED_AT_ONCE = 8192


@dataclass(frozen=True)
class Examples:
    """Labelled songs.

    Attributes
    ----------
    x
        Float32, shape (N, D).
    present
        Bool, shape (N, M): which modalities each song has.
    y
        Int64 classes, shape (N,).
    """

    x: np.ndarray
    present: np.ndarray
    y: np.ndarray


@dataclass(frozen=True)
class TrainingSet:
    """The labelled songs of each part of the split, `classes` (k) and how to fuse them."""

    train: Examples
    validation: Examples
    test: Examples
    classes: int
    fusion: FusionSettings

    def of(self, part: Part) -> Examples:
        """The songs of a part."""
        found: Examples = getattr(self, part)
        return found


@dataclass(frozen=True)
class Batch:
    """This worker's rows of a global batch, and where they lie in it.

    `batch_y` are the classes of the whole global batch, where they are known.
    """

    x_BD: Tensor
    present_BM: Tensor
    y_B: Tensor
    share: BatchShare
    batch_y: Tensor | None = None


class Feed(Protocol):
    """Where batches come from; on every worker alike, but for the rows it gets.

    Attributes
    ----------
    counts
        Labelled training songs of each class, int64 (k,).
    fusion
        How the modalities lie side by side, and how to fuse them.
    """

    @property
    def counts(self) -> np.ndarray: ...

    @property
    def fusion(self) -> FusionSettings: ...

    def batches(self, epoch: int) -> Iterator[Batch]:
        """The global batches of an epoch, in an order that depends on the epoch."""
        ...

    def scan(self, part: Part) -> Iterator[Batch]:
        """This worker's share of the songs of a part, each once; nothing if it has none."""
        ...


class InMemory:
    """All songs as tensors on the device; the batches do not depend on the number of workers.

    Parameters
    ----------
    data
        The same on every worker.
    batch_size
        Songs in a global batch.
    seed
        Of the order of the songs.
    norm_group
        Songs in a normalisation group; None for the whole batch.
    dtype
        Of the features.

    Raises
    ------
    DataError
        If fewer than two training songs are labelled.
    """

    def __init__(
        self,
        data: TrainingSet,
        *,
        batch_size: int,
        seed: int,
        norm_group: int | None = None,
        collective: Collective | None = None,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        require_songs(len(data.train.y))
        self.counts = np.bincount(data.train.y, minlength=data.classes)
        self.fusion = data.fusion
        self.batch_size = batch_size
        self.seed = seed
        self.norm_group = norm_group
        self.group = collective or Collective()
        self.device = device
        self.tensors = {
            part: (
                torch.from_numpy(songs.x).to(device, dtype),
                torch.from_numpy(songs.present).to(device),
                torch.from_numpy(songs.y).to(device),
            )
            for part in PARTS
            for songs in [data.of(part)]
        }

    def batches(self, epoch: int) -> Iterator[Batch]:
        """See :class:`Feed`."""
        for rows_B in self.rows(epoch):
            yield self.batch(rows_B)

    def rows(self, epoch: int) -> Iterator[Tensor]:
        """Of each global batch of an epoch the songs, int64 (B,), on the device."""
        songs = len(self.tensors["train"][-1])
        order = np.random.default_rng([self.seed, epoch]).permutation(songs)
        order_N = torch.from_numpy(order).to(self.device)
        for first, last in cuts(songs, self.batch_size):
            yield order_N[first:last]

    def batch(self, rows_B: Tensor) -> Batch:
        """This worker's part of the global batch of these songs."""
        x_ND, present_NM, y_N = self.tensors["train"]
        share = BatchShare.of(len(rows_B), self.norm_group, self.group)
        mine = rows_B[share.start : share.stop]
        return Batch(
            x_ND.index_select(0, mine),
            present_NM.index_select(0, mine),
            y_N.index_select(0, mine),
            share,
            y_N.index_select(0, rows_B),
        )

    def scan(self, part: Part) -> Iterator[Batch]:
        """See :class:`Feed`."""
        tensors = self.tensors[part]
        first, last = self.group.slice(len(tensors[-1]))
        for start in range(first, last, _SCANNED_AT_ONCE):
            x, present, y = (t[start : min(last, start + _SCANNED_AT_ONCE)] for t in tensors)
            yield Batch(x, present, y, BatchShare(len(y), 0, len(y)))


def require_songs(labelled: int) -> None:
    """Raise DataError where there are too few labelled training songs."""
    if labelled < 2:
        raise DataError(
            f"{labelled} labelled training songs: the fusion network needs at least 2; "
            "check label.source and the tags in the ingest report"
        )


def cuts(songs: int, size: int) -> Iterator[tuple[int, int]]:
    """[start, stop) of each batch; a remainder too small to normalise joins the last one."""
    smallest = max(2, min(16, size // 2))
    starts = list(range(0, songs, size))
    if len(starts) > 1 and songs - starts[-1] < smallest:
        starts.pop()
    yield from zip(starts, [*starts[1:], songs], strict=True)
