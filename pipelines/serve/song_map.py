"""The catalogue as a map: every song a point of the plane."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pipelines.serve.genres import Genres
from pipelines.serve.snapshot import Snapshot

MOST_POINTS = 100_000
"""Songs of a map; of a larger catalogue a sample, the same each time."""

MOST_FITTED = 20_000
"""Of them, those by which the two directions are found: more move them by less than one sees."""

NO_CLASS = 255
"""What stands for no class among the points' class numbers."""

_BLOCK = 8192
"""Vectors that are projected at once: those of a blend may have a thousand parts."""

_FLOOR = 1e-4
"""Class probabilities below count as this: their logarithms would be of noise."""


@dataclass(frozen=True)
class SongMap:
    """Points.

    Attributes
    ----------
    rows
        The songs that are on it, by number, ascending, uint32 (P,).
    places
        Where they lie, float32 (P, 2), within [-1, 1].
    classes
        Their classes, uint8 (P,); 255 for none.
    explained
        Of the variance of the vectors that they are fitted to, what each of the two directions has.
    songs
        Songs that could be on it: those with a vector.
    mean, axes
        What makes a place of a vector: float64 (d,) and (d, 2).
    """

    rows: NDArray[np.uint32]
    places: NDArray[np.float32]
    classes: NDArray[np.uint8]
    explained: tuple[float, float]
    songs: int
    mean: NDArray[np.float64]
    axes: NDArray[np.float64]

    @staticmethod
    def of(snapshot: Snapshot, genres: Genres, most: int = MOST_POINTS) -> SongMap:
        """Project the songs' vectors on the two directions in which they differ most (PCA).

        Time and memory are bounded: of many songs a sample is projected, on directions that are
        fitted to a sample of it. Class probabilities are projected by their centred log ratios, as
        parts of a whole are compared: else all songs of which a network is sure lie in the same
        few points.
        """
        known = np.flatnonzero(snapshot.batches.known)
        rows = sampled(known, most)

        def blocks(of: NDArray[np.int64]) -> Iterator[NDArray[np.float64]]:
            for start in range(0, len(of), _BLOCK):
                yield coordinates(snapshot, of[start : start + _BLOCK])

        fitted, d = sampled(rows, MOST_FITTED), snapshot.batches.ranked.songs.F.shape[1]
        mean, axes, explained = two_directions(lambda: blocks(fitted), d)
        places = np.concatenate([np.zeros((0, 2)), *((X - mean) @ axes for X in blocks(rows))])
        reach = float(np.abs(places).max()) if places.size else 0.0
        axes = axes / (reach or 1.0)
        classes = genres.of_song[rows]
        return SongMap(
            rows.astype(np.uint32),
            (places / (reach or 1.0)).astype(np.float32),
            np.where((classes >= 0) & (classes < NO_CLASS), classes, NO_CLASS).astype(np.uint8),
            explained,
            len(known),
            mean,
            axes,
        )

    def place(self, snapshot: Snapshot, row: int) -> tuple[float, float] | None:
        """Where a song lies, also one that is not among the points; None without a vector."""
        at = int(np.searchsorted(self.rows, row))
        if at < len(self.rows) and self.rows[at] == row:
            x, y = self.places[at].tolist()
            return x, y
        if not snapshot.batches.known[row]:
            return None
        x, y = ((coordinates(snapshot, np.array([row]))[0] - self.mean) @ self.axes).tolist()
        return x, y

    @cached_property
    def content(self) -> bytes:
        """Little-endian: P x 2 places (float32), P song numbers (uint32), P classes (uint8)."""
        parts = (
            self.places.astype("<f4", copy=False),
            self.rows.astype("<u4", copy=False),
            self.classes,
        )
        return b"".join(part.tobytes() for part in parts)


def sampled(rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Some of the rows, ascending: all if they are few, else always the same ones."""
    if len(rows) <= most:
        return rows
    chosen = np.random.default_rng(0).choice(len(rows), most, replace=False, shuffle=False)
    return rows[np.sort(chosen)]


def coordinates(snapshot: Snapshot, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """What is projected of songs, by number, (rows, d)."""
    F = snapshot.batches.ranked.songs.F[rows].astype(np.float64)
    if snapshot.model != "genre":
        return F
    logs = np.log(np.maximum(F, _FLOOR))
    return np.asarray(logs - logs.mean(axis=1, keepdims=True))


def two_directions(
    blocks: Callable[[], Iterable[NDArray[np.float64]]], d: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[float, float]]:
    """The mean (d,), the two directions of most variance (d, 2), and their shares of it.

    A direction points to where its largest part is positive, so that a map is the same each time.
    The vectors come in blocks of rows (rows, d), twice, so that they are never in memory at once.
    """
    n, mean = 0, np.zeros(d)
    for X in blocks():
        n += len(X)
        mean += X.sum(axis=0)
    mean /= max(n, 1)
    scatter = np.zeros((d, d))
    for X in blocks():
        centred = X - mean
        scatter += centred.T @ centred
    values, directions = np.linalg.eigh(scatter)
    axes = np.zeros((d, 2))
    best = np.argsort(-values, kind="stable")[:2]
    axes[:, : len(best)] = directions[:, best]
    largest = axes[np.abs(axes).argmax(axis=0), [0, 1]]
    axes *= np.where(largest < 0, -1.0, 1.0)
    whole = float(values.clip(0).sum()) or 1.0
    shares = [*(values[best].clip(0) / whole).tolist(), 0.0, 0.0]
    return mean, axes, (shares[0], shares[1])
