"""The bag of audio words against brute force, scikit-learn's PCA and closed forms."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from scipy.sparse import csr_array
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA

from fusionrec.errors import DataError
from fusionrec.features.audio_words import (
    DIMENSION,
    Codebook,
    bags,
    fit_codebook,
    fit_projection,
    frames,
    sample_frames,
)
from fusionrec.schemas import SEGMENTS

LENGTHS = [40, 0, 1, 2, 90, 700, 3, 0]


def songs(lengths: list[int], seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    rows = [
        {
            "track_id": f"TR{i}",
            "start": np.arange(n, dtype=np.float32),
            "timbre": (rng.normal(size=(n, 12)) * 50 + 10).tolist(),
            "pitches": rng.random((n, 12)).tolist(),
            "loudness_max": np.zeros(n),
        }
        for i, n in enumerate(lengths)
    ]
    return pa.Table.from_pylist(rows, schema=SEGMENTS)


SONGS = songs(LENGTHS)


def frames_of(table: pa.Table, song: int) -> np.ndarray:
    timbre, pitches = (
        np.array(table[n][song].as_py()).reshape(-1, 12) for n in SEGMENTS.names[2:4]
    )
    return frames(timbre, pitches)


def codebook(codewords: int = 20, seed: int = 0) -> Codebook:
    return fit_codebook(sample_frames(SONGS, 100, seed), codewords, seed)


def test_differences_of_a_parabola() -> None:
    """t^2 has the central differences 2t, and 2 as their difference away from the edges."""
    t = np.arange(7.0)
    timbre, pitches = np.outer(t**2, np.ones(12)), np.outer(t, np.arange(12))
    rows = frames(timbre, pitches)
    assert rows.shape == (7, DIMENSION)
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows[:, :12], timbre)
    np.testing.assert_array_equal(rows[:, 12:24], pitches)
    np.testing.assert_array_equal(rows[:, 24], [0.5, 2, 4, 6, 8, 10, 5.5])
    np.testing.assert_array_equal(rows[:, 48], [0.75, 1.75, 2, 2, 2, -1.25, -2.25])
    np.testing.assert_array_equal(rows[1:-1, 36:48], np.tile(np.arange(12), (5, 1)))
    inner = np.gradient(timbre, axis=0)[1:-1]
    np.testing.assert_array_equal(rows[1:-1, 24:36], inner)


def test_songs_of_no_one_and_two_segments() -> None:
    nothing = np.empty((0, 12))
    assert frames(nothing, nothing).shape == (0, DIMENSION)
    one = frames(np.full((1, 12), 3.0), np.full((1, 12), 0.5))
    assert one[0, :24].tolist() == [3.0] * 12 + [0.5] * 12
    assert not one[0, 24:].any()
    two = frames(np.array([[1.0] * 12, [5.0] * 12]), np.zeros((2, 12)))
    np.testing.assert_array_equal(two[:, 24:36], 2)
    assert not two[:, 48:].any()


def test_the_sample_depends_on_seed_and_track_alone() -> None:
    whole = sample_frames(SONGS, 50, seed=1)
    sizes = np.minimum(LENGTHS, 50)
    assert whole.shape == (sizes.sum(), DIMENSION)
    parts = [sample_frames(SONGS[a:b], 50, seed=1) for a, b in ((0, 3), (3, 5), (5, 8))]
    np.testing.assert_array_equal(whole, np.concatenate(parts))
    order = [5, 3, 0, 7, 4, 1, 6, 2]
    starts = np.cumsum(sizes) - sizes
    moved = [whole[starts[i] : starts[i] + sizes[i]] for i in order]
    np.testing.assert_array_equal(sample_frames(SONGS.take(order), 50, 1), np.concatenate(moved))

    drawn = whole[starts[5] : starts[5] + 50]
    here = (drawn[:, None] == frames_of(SONGS, 5)[None]).all(axis=2)
    assert here.sum(axis=1).tolist() == [1] * 50
    assert here.any(axis=0).sum() == 50  # without replacement
    assert not np.array_equal(whole, sample_frames(SONGS, 50, seed=2))
    assert sample_frames(SONGS[:0], 50, seed=1).shape == (0, DIMENSION)


def test_every_frame_of_a_song_is_as_likely_to_be_drawn() -> None:
    counts = np.zeros(10)
    table = songs([10])
    for seed in range(400):
        drawn = sample_frames(table, 3, seed)
        counts[[np.flatnonzero((frames_of(table, 0) == row).all(1))[0] for row in drawn]] += 1
    assert counts.sum() == 1200
    assert ((counts - 120) ** 2 / 120).sum() < 27.9  # chi squared of 9, P = .001


@pytest.mark.parametrize("n", [0, 1, 511, 512, 513, 1500])
def test_assignment_against_brute_force(n: int) -> None:
    rng = np.random.default_rng(n)
    mean, scale = rng.normal(size=DIMENSION) * 30, rng.uniform(0.1, 60, size=DIMENSION)
    book = Codebook(
        mean.astype(np.float32),
        scale.astype(np.float32),
        rng.normal(size=(37, DIMENSION)).astype(np.float32),
    )
    rows = (rng.normal(size=(n, DIMENSION)) * scale + mean).astype(np.float32)
    words = book.assign(rows)
    assert words.dtype == np.int32
    scaled = (rows.astype(np.float64) - book.mean) / book.scale
    distances = cdist(scaled, book.centroids)
    np.testing.assert_allclose(distances[np.arange(n), words], distances.min(1, initial=99.0))
    assert (words == distances.argmin(axis=1)).all()


def test_of_equal_distances_the_lowest_index() -> None:
    """Small integers, so that every sum is exact: points halfway, and a centroid repeated."""
    centroids = np.zeros((40, DIMENSION), np.float32)
    centroids[:, 0] = np.tile([4, 0, 2, 0], 10)
    book = Codebook(np.zeros(DIMENSION, np.float32), np.ones(DIMENSION, np.float32), centroids)
    rows = np.zeros((5, DIMENSION), np.float32)
    rows[:, 0] = [0, 1, 2, 3, 5]
    assert book.assign(rows).tolist() == [1, 1, 2, 0, 0]


def test_a_codebook_finds_planted_words_in_any_order() -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(6, DIMENSION)) * 20
    scale = np.geomspace(0.01, 100, DIMENSION)
    planted = rng.integers(0, 6, 900)
    rows = ((centres[planted] + rng.normal(size=(900, DIMENSION))) * scale).astype(np.float32)
    book = fit_codebook(rows, 6, seed=3)
    assert book.centroids.dtype == np.float32
    words = book.assign(rows)
    assert len({*zip(words.tolist(), planted.tolist(), strict=True)}) == 6
    np.testing.assert_allclose(book.mean, rows.mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(book.scale, rows.std(axis=0), rtol=1e-4)
    again = fit_codebook(rows[rng.permutation(900)], 6, seed=3)
    np.testing.assert_array_equal(book.centroids, again.centroids)
    np.testing.assert_array_equal(book.mean, again.mean)


def test_fewer_distinct_frames_than_codewords() -> None:
    rows = np.repeat(frames_of(SONGS, 6), 10, axis=0)
    assert len(fit_codebook(rows, 3, seed=0).centroids) == 3
    with pytest.raises(DataError, match=r"3 distinct frames.*compare\.audio_words\.codewords"):
        fit_codebook(rows, 4, seed=0)
    with pytest.raises(DataError, match="0 distinct frames"):
        fit_codebook(rows[:0], 4, seed=0)


def test_bags_count_each_songs_words_in_any_sharding() -> None:
    book = codebook()
    counts, lengths = bags(SONGS, book)
    assert counts.shape == (len(LENGTHS), 20)
    assert counts.dtype == np.float32
    assert lengths.tolist() == LENGTHS
    for song in range(len(LENGTHS)):
        words = book.assign(frames_of(SONGS, song))
        assert counts[[song]].toarray()[0].tolist() == np.bincount(words, minlength=20).tolist()
    shards = [bags(SONGS[a:b], book)[0].toarray() for a, b in ((0, 1), (1, 2), (2, 6), (6, 8))]
    np.testing.assert_array_equal(counts.toarray(), np.concatenate(shards))
    chunked = pa.concat_tables([SONGS[:3], SONGS[3:]])
    np.testing.assert_array_equal(counts.toarray(), bags(chunked, book)[0].toarray())
    none, no_lengths = bags(SONGS[:0], book)
    assert none.shape == (0, 20)
    assert no_lengths.shape == (0,)


def test_the_projection_against_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.gamma(0.5, 4, size=(1, 30)), size=(200, 30)).astype(np.float32)
    counts[[3, 77]] = 0
    present = counts.sum(axis=1) > 0
    projection = fit_projection(csr_array(counts), 0.9)
    rows, known = projection.transform(csr_array(counts))
    np.testing.assert_array_equal(known, present)
    assert not rows[~present].any()
    assert rows.dtype == np.float32
    roots = np.sqrt(counts[present] / counts[present].sum(axis=1, keepdims=True))
    theirs = PCA(0.9, svd_solver="full").fit(roots.astype(np.float64))
    assert rows.shape[1] == theirs.n_components_
    np.testing.assert_allclose(projection.explained, theirs.explained_variance_ratio_, rtol=1e-6)
    signs = np.sign((projection.components * theirs.components_).sum(axis=1))
    np.testing.assert_allclose(rows[present] * signs, theirs.transform(roots), atol=1e-5)
    np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-6)
    # A bag that is another one several times over has the same frequencies.
    np.testing.assert_allclose(projection.transform(csr_array(counts * 7))[0], rows, atol=1e-6)


def test_all_components_keep_hellinger_distances() -> None:
    counts, _ = bags(SONGS, codebook())
    rows, known = fit_projection(counts, 1.0).transform(counts)
    assert known.tolist() == [n > 0 for n in LENGTHS]
    shares = counts.toarray()[known] / np.array(LENGTHS)[known, None]
    affinity = np.sqrt(shares[:, None] * shares[None]).sum(axis=2)
    expected = np.sqrt(np.maximum(2 - 2 * affinity, 0))
    np.testing.assert_allclose(cdist(rows[known], rows[known]), expected, atol=1e-3)


@pytest.mark.parametrize("counts", [np.zeros((3, 4)), np.eye(1, 4), np.ones((3, 4))])
def test_bags_without_a_difference(counts: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"audio words: .* two songs with different ones"):
        fit_projection(csr_array(counts.astype(np.float32)), 0.95)
