"""The bag of audio words: how often a song's segments fall to each word of a codebook.

After van den Oord et al. (2013, section 6.1.1), who quantise 13 MFCCs with their first and
second differences to 4,000 codewords and keep 95 % of the variance of the counts by PCA. A
frame here is a segment of the Echo Nest analysis: 12 timbre and 12 pitch values with their
differences, :data:`DIMENSION` columns. V is the number of codewords.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse import csr_array
from sklearn.cluster import MiniBatchKMeans

from fusionrec.errors import DataError
from fusionrec.features.moments import PCA, CoMoments, Moments, Scaler
from fusionrec.hashing import stable_hash

Frames = NDArray[np.float32]

DIMENSION = 3 * (12 + 12)
"""Columns of a frame: 24 values, their first and their second differences."""

_BLOCK = 512  # frames: their scores stay in the processor's cache
_SONGS = 8192  # bags that are projected at a time


def frames(timbre: NDArray[np.floating[Any]], pitches: NDArray[np.floating[Any]]) -> Frames:
    """The frames of one song.

    The first difference of a segment is half of what the next one's values are above those of
    the one before; the first segment stands in for the one before it and the last for the one
    after it, so that the differences of a song of one segment are 0. The second difference is
    the difference of the first ones, in the same way.

    Parameters
    ----------
    timbre, pitches
        Shape (n, 12).

    Returns
    -------
    Array of shape (n, 72), float32: timbre and pitches, their first and second differences.
    """
    values = np.empty((len(timbre), DIMENSION), np.float32)
    values[:, :12], values[:, 12:24] = timbre, pitches
    values[:, 24:48] = _differences(values[:, :24])
    values[:, 48:] = _differences(values[:, 24:48])
    return values


def sample_frames(segments: pa.Table, per_song: int, seed: int) -> Frames:
    """Frames to fit a codebook on, at most so many of each song.

    Which of a song's frames are drawn, without replacement, follows from the seed and its
    track id alone, not from the songs beside it.

    Parameters
    ----------
    segments
        Schema :data:`fusionrec.schemas.SEGMENTS`.
    per_song
        Frames of a song at most, at least 1.
    seed
        Another seed draws other frames.

    Returns
    -------
    Array of shape (m, 72), float32: the songs in their order, each one's frames in theirs.
    """
    hashes = stable_hash(segments["track_id"], seed=seed, purpose="audio words")
    drawn = [np.empty((0, DIMENSION), np.float32)]
    for song, (timbre, pitches) in zip(hashes, _songs(segments), strict=True):
        rows = frames(timbre, pitches)
        if len(rows) > per_song:
            order = np.random.default_rng(song).choice(len(rows), per_song, replace=False)
            rows = rows[np.sort(order)]
        drawn.append(rows)
    return np.concatenate(drawn)


@dataclass(frozen=True)
class Codebook:
    """Codewords among standardised frames.

    Attributes
    ----------
    mean, scale
        Shape (72,), float32: of the frames it was fitted on.
    centroids
        Shape (V, 72), float32, of standardised frames.
    """

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    centroids: Frames

    def assign(self, rows: Frames) -> NDArray[np.int32]:
        """The nearest centroid of each frame; the lowest of several whose distances are equal.

        Distances are compared in float32: which of two centroids a frame goes to that is
        halfway between them up to rounding is not defined.

        Parameters
        ----------
        rows
            Shape (n, 72), float32, as :func:`frames` gives them.

        Returns
        -------
        Array of shape (n,), int32, from 0 to V - 1.
        """
        # |x - c|^2 is least where x.c - |c|^2 / 2 is greatest: one product, x ending in a 1.
        halves = 0.5 * np.square(self.centroids, dtype=np.float64).sum(axis=1)
        weights = np.column_stack([self.centroids, -halves]).astype(np.float32).T
        block = np.ones((min(_BLOCK, len(rows)), DIMENSION + 1), np.float32)
        scores = np.empty((len(block), len(self.centroids)), np.float32)
        words = np.empty(len(rows), np.int32)
        for start in range(0, len(rows), _BLOCK):
            part = rows[start : start + _BLOCK]
            x, out = block[: len(part)], scores[: len(part)]
            np.subtract(part, self.mean, out=x[:, :-1])
            x[:, :-1] /= self.scale
            words[start : start + _BLOCK] = np.matmul(x, weights, out=out).argmax(axis=1)
        return words


def fit_codebook(rows: Frames, codewords: int, seed: int) -> Codebook:
    """Codewords by mini-batch K-Means (Sculley 2010) over standardised frames.

    It does not depend on the order of the frames: they are sorted first, and those that are
    equal become one of their weight.

    Parameters
    ----------
    rows
        Shape (m, 72), float32, of :func:`sample_frames`.
    codewords
        V, at least 1.
    seed
        Of K-Means' random numbers.

    Raises
    ------
    DataError
        There are fewer distinct frames than codewords.
    """
    whole = np.ascontiguousarray(rows, np.float32) + np.float32(0.0)  # -0 becomes 0
    records, weights = np.unique(whole.view(f"V{whole.itemsize * DIMENSION}"), return_counts=True)
    if len(records) < codewords:
        raise DataError(
            f"audio words: the training songs have {len(records)} distinct frames, too few for "
            f"{codewords} codewords: lower compare.audio_words.codewords, raise "
            "compare.audio_words.frames, or add songs with audio"
        )
    distinct = records.view(np.float32).reshape(-1, DIMENSION)
    ordered = np.repeat(distinct, weights, axis=0)
    parts = (ordered[start : start + 2**16] for start in range(0, len(ordered), 2**16))
    scaler = Scaler.fit(reduce(add, (Moments.of(part, np.ones((1, 1), bool)) for part in parts)))
    mean, scale = scaler.mean.astype(np.float32), scaler.scale.astype(np.float32)
    means = MiniBatchKMeans(codewords, random_state=seed, n_init=1, batch_size=max(1024, codewords))
    means.fit((distinct - mean) / scale, sample_weight=weights.astype(np.float32))
    return Codebook(mean, scale, means.cluster_centers_.astype(np.float32))


def bags(segments: pa.Table, codebook: Codebook) -> tuple[csr_array, NDArray[np.int32]]:
    """How many segments of each song are of each codeword.

    Parameters
    ----------
    segments
        Schema :data:`fusionrec.schemas.SEGMENTS`.

    Returns
    -------
    counts
        Shape (songs, V), float32, in the songs' order.
    lengths
        Shape (songs,), int32: segments of each song, the sum of its row; 0 for one without.
    """
    words, counts = [np.empty(0, np.int32)], [np.empty(0, np.int64)]
    filled, lengths = [0], []
    # Song by song, so that a song's counts are bit for bit the same in any shard.
    for timbre, pitches in _songs(segments):
        found, times = np.unique(codebook.assign(frames(timbre, pitches)), return_counts=True)
        words.append(found)
        counts.append(times)
        filled.append(filled[-1] + len(found))
        lengths.append(len(timbre))
    parts = np.concatenate(counts).astype(np.float32), np.concatenate(words), np.array(filled)
    shape = segments.num_rows, len(codebook.centroids)
    return csr_array(parts, shape=shape), np.array(lengths, np.int32)


@dataclass(frozen=True)
class BagProjection:
    """Principal components of the square roots of term frequencies.

    Attributes
    ----------
    mean
        Shape (V,), float64.
    components
        Shape (r, V), float64, unit length.
    explained
        Shape (r,), float64: share of the variance of each.
    """

    mean: NDArray[np.float64]
    components: NDArray[np.float64]
    explained: NDArray[np.float64]

    def transform(self, counts: csr_array) -> tuple[Frames, NDArray[np.bool_]]:
        """Coordinates of bags on the components.

        Parameters
        ----------
        counts
            Shape (n, V), of :func:`bags`.

        Returns
        -------
        tuple
            Float32, shape (n, r), and bool, shape (n,): whether the bag has a frame. One
            without has a row of zeros, which is the training mean.
        """
        present = counts.sum(axis=1) > 0
        rows = np.zeros((counts.shape[0], len(self.components)), np.float32)
        origin = self.components @ self.mean
        for start in range(0, len(rows), _SONGS):
            part = _hellinger(counts[start : start + _SONGS]) @ self.components.T - origin
            rows[start : start + _SONGS] = part
        rows[~present] = 0.0
        return rows, present


def fit_projection(counts: csr_array, variance: float) -> BagProjection:
    """PCA of training bags, exact, by their V x V covariance.

    It is made of the square roots of term frequencies (counts over the song's segments):
    their Euclidean distance is the Hellinger distance of two songs' distributions over
    codewords, whereas in that of the frequencies themselves the few commonest codewords,
    which vary most, would crowd out the others.

    Parameters
    ----------
    counts
        Shape (songs, V), of :func:`bags`; songs without a segment are left out.
    variance
        Share of the variance to keep, up to 1: the fewest components that exceed it.

    Raises
    ------
    DataError
        Fewer than two songs have segments, or all have the same frequencies.
    """
    roots = _hellinger(counts[counts.sum(axis=1) > 0])
    sums = CoMoments(roots.shape[0], roots.sum(axis=0), (roots.T @ roots).toarray())
    try:
        pca = PCA.fit(sums, variance)
    except DataError as error:
        raise DataError(
            f"audio words: no principal components of the bags of {sums.count} training songs "
            "with segments: it takes two songs with different ones; check the ingest report"
        ) from error
    return BagProjection(pca.mean, pca.components, pca.explained)


def _differences(values: Frames) -> Frames:
    padded = np.concatenate([values[:1], values, values[-1:]])
    halves: Frames = (padded[2:] - padded[:-2]) * np.float32(0.5)
    return halves


def _songs(segments: pa.Table) -> Iterator[tuple[Frames, Frames]]:
    """Timbre and pitches of each song, (n, 12) each."""
    for batch in segments.select(["timbre", "pitches"]).to_batches():
        ends = np.cumsum(batch["timbre"].value_lengths().to_numpy())
        timbre, pitches = (
            batch[name].flatten().flatten().to_numpy().reshape(-1, 12)
            for name in ("timbre", "pitches")
        )
        for start, stop in zip([0, *ends], ends, strict=False):
            yield timbre[start:stop], pitches[start:stop]


def _hellinger(counts: csr_array) -> csr_array:
    """Square roots of the rows' term frequencies, float64; a row without a count stays empty."""
    totals = np.repeat(counts.sum(axis=1, dtype=np.float64), np.diff(counts.indptr))
    roots = np.sqrt(counts.data / totals)
    return csr_array((roots, counts.indices, counts.indptr), shape=counts.shape)
