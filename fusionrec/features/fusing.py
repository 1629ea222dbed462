"""Songs' modalities into one row each: scaled, reduced by PCA, side by side (paper 3.2, 5.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa

from fusionrec.features.moments import PCA, Scaler


@dataclass(frozen=True)
class Features:
    """One part's features of M modalities, side by side.

    Attributes
    ----------
    songs
        The song ids.
    rows
        Float32, shape (n, D).
    present
        Bool, shape (n, M).
    widths
        Columns of each modality; their sum is D.
    """

    songs: pa.ChunkedArray
    rows: np.ndarray
    present: np.ndarray
    widths: tuple[int, ...]

    @property
    def mask(self) -> np.ndarray:
        """Which of `rows` are there, bool, shape (n, D)."""
        return np.repeat(self.present, self.widths, axis=1)

    def with_all(self, modalities: Sequence[int]) -> np.ndarray:
        """Which songs have all of these modalities, bool, shape (n,)."""
        return np.asarray(self.present[:, modalities].all(axis=1))

    @property
    def complete(self) -> np.ndarray:
        """Which songs have all modalities, bool, shape (n,)."""
        return self.with_all(range(len(self.widths)))


@dataclass(frozen=True)
class Plan:
    """Which modalities, whether PCA is fitted for each, and whether incomplete songs leave."""

    modalities: tuple[str, ...]
    blockwise: bool
    drop: bool

    def blocks(self, widths: Sequence[int]) -> list[tuple[slice, list[int]]]:
        """The columns of each PCA, and the modalities they are of, given all widths."""
        ends = np.cumsum([0, *widths]).tolist()
        if not self.blockwise:
            return [(slice(0, ends[-1]), list(range(len(widths))))]
        return [(slice(a, b), [m]) for m, (a, b) in enumerate(pairwise(ends))]

    def fused(
        self, features: Features, fitted: Mapping[str, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Songs' features scaled, reduced and side by side.

        Parameters
        ----------
        fitted
            `scaler_mean` and `scaler_scale`, and of each PCA, numbered by block, `pca_mean_0`,
            `pca_components_0`, `pca_explained_0`.

        Returns
        -------
        tuple
            Float32, shape (n, P), P being all components; bool, shape (n,), which songs can be
            used; and bool, shape (n, blocks), which blocks each has.
        """
        scaler = Scaler(fitted["scaler_mean"], fitted["scaler_scale"])
        scaled = scaler.transform(features.rows, features.mask)
        usable = features.complete if self.drop else np.asarray(features.present.any(axis=1))
        fused, blocks = [], []
        for i, (columns, modalities) in enumerate(self.blocks(features.widths)):
            pca = PCA(*(fitted[f"pca_{name}_{i}"] for name in ("mean", "components", "explained")))
            here = features.with_all(modalities) if self.blockwise else usable
            coordinates = pca.transform(scaled[:, columns])
            # An absent block is zeros, not the image of the mean under this PCA.
            alone = np.where(here[:, None], coordinates, 0.0) if self.blockwise else coordinates
            fused.append(alone)
            blocks.append(here)
        return np.concatenate(fused, axis=1), usable, np.stack(blocks, axis=1)
