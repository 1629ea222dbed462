"""Kernels against direct computation, and features against kernels."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest
from scipy.sparse import csr_array
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.metrics.pairwise import cosine_similarity, rbf_kernel

from fusionrec.signals import basis, content, context
from fusionrec.signals.kernels import (
    Gaussian,
    Kernel,
    Linear,
    Rows,
    Sum,
    error,
    features,
    landmarks,
    most_played,
)
from fusionrec.signals.signal import Fold
from fusionrec.signals.songs import Songs
from tests.signals.corpus import OWN, SETTINGS, cold, corpus, fold

ALL = (*content.KERNELS, *context.KERNELS)


def full(kernel) -> np.ndarray:
    rows = np.arange(len(kernel.present))
    return kernel.block(rows, rows)


def test_terms_are_weighted_by_rarity() -> None:
    table = {
        "song_id": list("abcd"),
        "terms": [["rock", "loud"], ["rock", "soft"], ["rock"], []],
        "term_weights": [[1.0, 0.5], [0.5, 1.0], [1.0], []],
    }
    K = full(content.kernel(Songs(pa.table(table), own=4), "terms"))
    # "rock" is everybody's and so weighs nothing; what is left of a and b has nothing in common.
    assert K.tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize("name", ["terms", "tags"])
def test_terms_and_tags_are_cosines_of_tf_idf(name: str) -> None:
    songs, _ = corpus()
    column, weights = {
        "terms": ("terms", "term_weights"),
        "tags": ("mbtags", "mbtag_counts"),
    }[name]
    lists = songs.table.select([column, weights]).to_pylist()
    items = sorted({item for row in lists for item in row[column]})
    X = np.zeros((len(songs), len(items)))
    for s, row in enumerate(lists):
        for item, weight in zip(row[column], row[weights], strict=True):
            X[s, items.index(item)] = np.log1p(weight) if name == "tags" else weight
    some = X.any(axis=1)
    idf = np.log(some.sum() / (X > 0).sum(axis=0))
    np.testing.assert_allclose(
        full(content.kernel(songs, name)), cosine_similarity(X * idf), atol=1e-12
    )


def test_lyrics_are_cosines_of_square_rooted_tf_idf() -> None:
    songs, _ = corpus()
    counts = songs.lyrics.toarray()
    some = counts.any(axis=1)
    smoothed = TfidfTransformer(norm=None, smooth_idf=False).fit(counts[some])
    weighted = counts * (smoothed.idf_ - 1)  # scikit-learn adds 1
    np.testing.assert_allclose(
        full(content.kernel(songs, "lyrics")), cosine_similarity(np.sqrt(weighted)), atol=1e-7
    )


def test_artist_and_album_are_the_same_or_not() -> None:
    songs, _ = corpus()
    for name, groups in (("artist", songs.artists), ("album", songs.albums)):
        expected = groups[:, None] == groups[None]
        np.testing.assert_array_equal(full(content.kernel(songs, name)), expected)


def test_audio_and_year_are_gaussians_at_the_median_distance() -> None:
    songs, _ = corpus()
    audio = songs.vectors["audio"].astype(np.float64)
    known = audio.any(axis=1)
    X = (audio - audio[known].mean(axis=0)) / audio[known].std(axis=0)
    distances = np.sqrt(((X[known][:, None] - X[known][None]) ** 2).sum(axis=2))
    median = np.median(distances[np.triu_indices(known.sum(), 1)])
    expected = rbf_kernel(X, gamma=1 / (2 * median**2)) * np.outer(known, known)
    np.testing.assert_allclose(full(content.kernel(songs, "audio")), expected, atol=1e-6)
    K = full(content.kernel(songs, "year"))
    years = songs.numbers("year")
    assert K[0, np.flatnonzero(years == years[0])] == pytest.approx(1)


def test_a_gaussian_of_equal_points_is_one() -> None:
    kernel = Gaussian(np.ones((4, 2)), np.array([True, True, True, False]))
    expected = np.zeros((4, 4))
    expected[:3, :3] = 1
    np.testing.assert_allclose(full(kernel), expected)


@pytest.mark.parametrize("name", ALL)
def test_features_are_exact_where_every_song_is_a_landmark(name: str) -> None:
    kernel = basis.kernel(fold(), name)
    Phi = features(kernel, np.arange(len(kernel.present)), tolerance=1e-12)
    np.testing.assert_allclose(Phi @ Phi.T, full(kernel), atol=2e-4)
    assert error(kernel, Phi) < 1e-3
    rows = np.arange(len(kernel.present))
    np.testing.assert_allclose(kernel.diagonal(rows), np.diag(full(kernel)), atol=1e-6)


def test_the_error_of_few_landmarks_is_seen() -> None:
    kernel = basis.kernel(fold(), "audio")
    few, more = (features(kernel, np.flatnonzero(kernel.present)[:n]) for n in (3, 40))
    assert error(kernel, few) > 2 * error(kernel, more) > 0


def test_landmarks_are_the_most_played() -> None:
    kernel = basis.kernel(fold(), "audio")
    listeners = np.random.default_rng(0).integers(0, 100, len(kernel.present))
    chosen = landmarks(kernel, listeners, 5)
    assert kernel.present[chosen].all()
    others = np.setdiff1d(np.flatnonzero(kernel.present), chosen)
    assert listeners[chosen].min() >= listeners[others].max()
    np.testing.assert_array_equal(chosen, most_played(kernel, listeners, 5))


@pytest.mark.parametrize("name", ["artist", "album", "names", "year", "walks", "lists", "fame"])
def test_songs_that_are_the_same_to_a_kernel_need_one_landmark(name: str) -> None:
    kernel, listeners = basis.kernel(fold(), name), fold().histories.listeners
    different = len(np.unique(full(kernel)[kernel.present].round(9), axis=0))
    assert 1 < different < kernel.present.sum()
    chosen = landmarks(kernel, listeners, len(listeners))
    assert len(chosen) == different
    Phi = features(kernel, chosen, tolerance=1e-12)
    np.testing.assert_allclose(Phi @ Phi.T, full(kernel), atol=2e-4)


def test_an_artist_is_chosen_by_the_listeners_of_all_its_songs() -> None:
    table = {"song_id": list("abcde"), "artist_id": ["X", "Y", "Y", "Y", "Z"]}
    kernel = content.kernel(Songs(pa.table(table), own=5), "artist")
    assert landmarks(kernel, np.array([5, 2, 3, 2, 1]), 1).tolist() == [2]
    assert landmarks(kernel, np.array([5, 2, 3, 2, 1]), 2).tolist() == [0, 2]
    assert most_played(kernel, np.array([5, 2, 3, 2, 1]), 2).tolist() == [0, 2]


def test_a_sum_adds_weighted_kernels() -> None:
    kernels = [basis.kernel(fold(), name) for name in ("terms", "year", "artist")]
    total = Sum(kernels, [0.5, 0.0, 2.0])
    np.testing.assert_allclose(full(total), 0.5 * full(kernels[0]) + 2 * full(kernels[2]))
    with pytest.raises(ValueError, match="weight above 0"):
        Sum(kernels, [0, 0, 0])


def test_alignment_finds_the_kernels_that_plays_follow() -> None:
    known = ("terms", "titles", "audio")
    some = fold()
    kernels = [basis.kernel(some, name) for name in known]
    weights = basis.aligned(some, kernels, np.full(3, 1 / 3))
    assert weights.sum() == pytest.approx(1)
    assert weights[0] > 0.5 > 2 * weights[1]


def test_alignment_of_a_split_by_artist_gives_nothing_to_the_artist() -> None:
    some = fold("artist")
    kernels = [basis.kernel(some, name) for name in ("artist", "terms")]
    assert basis.aligned(some, kernels, np.full(2, 0.5)).tolist() == [0, 1]


def test_alignment_gives_nothing_to_what_says_nothing_between_artists() -> None:
    """A column that is but rounding could take all of the weight: least squares sees no harm."""
    songs, histories = corpus()
    bare = Songs(songs.table, OWN, songs.lyrics, {"audio": songs.vectors["audio"]})
    some = Fold(bare, histories, cold("artist"), "artist", SETTINGS)
    known = basis.names(some.songs, with_context=True)
    kernels = [basis.kernel(some, name) for name in known]

    @dataclass
    class Nearly:
        """A kernel of rounding."""

        kernel: Kernel

        def block(self, rows: Rows, columns: Rows) -> np.ndarray:
            return 1e-16 * self.kernel.block(rows, columns)

    silent = {"artist", "album", "encoder"}
    kernels = [
        Nearly(basis.kernel(some, "terms")) if name in silent else k
        for name, k in zip(known, kernels, strict=True)
    ]
    weights = basis.aligned(some, kernels, np.full(len(known), 1 / len(known)))
    assert weights.sum() == pytest.approx(1)
    assert {name for name, w in zip(known, weights, strict=True) if w == 0} >= silent


@pytest.mark.parametrize("sparse", [False, True])
def test_rows_that_songs_share_are_as_rows_of_their_own(sparse: bool) -> None:
    generator = np.random.default_rng(0)
    X = generator.normal(size=(4, 6)) * (generator.random((4, 6)) < 0.5)
    X[3] = 0
    of = generator.integers(0, 4, 15)
    shared, own = (
        Linear(csr_array(rows) if sparse else rows, which)
        for rows, which in ((X, of), (X[of], None))
    )
    rows, columns = generator.integers(0, 15, 9), np.arange(15)
    np.testing.assert_array_equal(shared.present, own.present)
    np.testing.assert_array_equal(shared.marks[:, None] == shared.marks, of[:, None] == of)
    np.testing.assert_allclose(shared.block(rows, columns), own.block(rows, columns), atol=1e-12)
    np.testing.assert_allclose(shared.diagonal(rows), own.diagonal(rows), atol=1e-12)
    np.testing.assert_allclose(own.diagonal(rows), np.diag(own.block(rows, rows)), atol=1e-12)
