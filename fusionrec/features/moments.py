"""Standard scaling and PCA (paper section 5.3) from sums over shards, in float64.

Shapes: n rows, D columns, P principal components. A row's missing values are masked: they
enter no moment, and are 0 (the training mean) after scaling.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fusionrec.errors import DataError


@dataclass(frozen=True)
class Moments:
    """Count, mean and sum of squared deviations of each column; mergeable.

    Attributes
    ----------
    count, mean, squares
        Float64, shape (D,).
    """

    count: np.ndarray
    mean: np.ndarray
    squares: np.ndarray

    @staticmethod
    def of(rows: np.ndarray, present: np.ndarray) -> Moments:
        """Moments of `rows`, (n, D), where the bool mask `present`, (n, D) or (n, 1), is set."""
        mask = np.broadcast_to(present, rows.shape)
        values = np.where(mask, rows, 0).astype(np.float64)
        count = mask.sum(axis=0).astype(np.float64)
        mean = values.sum(axis=0) / np.maximum(count, 1)
        squares = (np.where(mask, values - mean, 0.0) ** 2).sum(axis=0)
        return Moments(count, mean, squares)

    def __add__(self, other: Moments) -> Moments:
        """Moments of both sets of rows (Chan, Golub & LeVeque 1979)."""
        count = self.count + other.count
        share = other.count / np.maximum(count, 1)
        delta = other.mean - self.mean
        return Moments(
            count,
            self.mean + delta * share,
            self.squares + other.squares + delta**2 * self.count * share,
        )


@dataclass(frozen=True)
class Scaler:
    """(x - mean) / scale, as scikit-learn's StandardScaler; `mean` and `scale` are (D,) float64."""

    mean: np.ndarray
    scale: np.ndarray

    @staticmethod
    def fit(moments: Moments) -> Scaler:
        """The scaler of these moments; a constant column has scale 1.

        Constant is what varies no more than rounding could explain (Chan, Golub & LeVeque
        1983), as in StandardScaler.
        """
        variance = moments.squares / np.maximum(moments.count, 1)
        rounding = moments.count * np.finfo(np.float64).eps
        constant = variance <= rounding * variance + (rounding * moments.mean) ** 2
        return Scaler(moments.mean, np.where(constant, 1.0, np.sqrt(variance)))

    def transform(self, rows: np.ndarray, present: np.ndarray) -> np.ndarray:
        """Scaled rows, float64 (n, D); 0 where `present`, (n, D) or (n, 1), is not set."""
        return np.where(present, (rows - self.mean) / self.scale, 0.0)


@dataclass(frozen=True)
class CoMoments:
    """Sums over scaled rows for their covariance: n, sum x (D,), sum x x' (D, D); mergeable."""

    count: int
    total: np.ndarray
    products: np.ndarray

    @staticmethod
    def of(scaled: np.ndarray) -> CoMoments:
        """Sums over `scaled`, float64 (n, D)."""
        return CoMoments(len(scaled), scaled.sum(axis=0), scaled.T @ scaled)

    def __add__(self, other: CoMoments) -> CoMoments:
        return CoMoments(
            self.count + other.count, self.total + other.total, self.products + other.products
        )


@dataclass(frozen=True)
class PCA:
    """Principal components, equal to scikit-learn's ``PCA(n_components=variance)``.

    Attributes
    ----------
    mean
        (D,) of the scaled rows.
    components
        (P, D), unit length, the entry of largest magnitude in each is positive.
    explained
        (P,) share of the variance of each.
    """

    mean: np.ndarray
    components: np.ndarray
    explained: np.ndarray

    @staticmethod
    def fit(sums: CoMoments, variance: float) -> PCA:
        """The fewest components whose share of the variance exceeds `variance`; 1 keeps all.

        Raises
        ------
        DataError
            If there are fewer than two rows, or none of the columns varies.
        """
        if sums.count < 2:
            raise DataError(
                f"{sums.count} training songs with features: PCA needs at least 2; "
                "check the split and ingest reports"
            )
        mean = sums.total / sums.count
        covariance = (sums.products - sums.count * np.outer(mean, mean)) / (sums.count - 1)
        values, vectors = np.linalg.eigh(covariance)
        values, vectors = values[::-1].clip(min=0), vectors[:, ::-1].T
        if values[0] == 0:
            raise DataError(
                "all fused features are constant over the training songs: nothing tells songs "
                "apart; add what does to embed.modalities (lyrics, audio, or vectors of your own), "
                "or give the songs titles, artists or years"
            )
        rank = min(len(values), sums.count - 1, int((values > values[0] * 1e-12).sum()))
        share = values / values.sum()
        kept = rank
        if variance < 1:
            kept = min(rank, int(np.searchsorted(np.cumsum(share), variance, side="right")) + 1)
        components = vectors[:kept]
        largest = np.abs(components).argmax(axis=1)
        signs = np.sign(components[np.arange(kept), largest])
        return PCA(mean, components * signs[:, None], share[:kept])

    def transform(self, scaled: np.ndarray) -> np.ndarray:
        """Coordinates on the components, float32 (n, P)."""
        rows: np.ndarray = ((scaled - self.mean) @ self.components.T).astype(np.float32)
        return rows
