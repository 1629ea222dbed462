"""Regression to taste and attention against other libraries and plain loops."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.kernel_ridge import KernelRidge

from fusionrec.signals import basis, catalogue, content, taste
from fusionrec.signals.neighbours import neighbours
from tests.signals.corpus import SETTINGS, fold


def mixed_kernel(some, with_context: bool) -> np.ndarray:
    """The weighted sum of kernels, of mean 1 on the learned songs' diagonal; dense (n, n)."""
    known = basis.names(some.songs, with_context)
    rows = np.arange(len(some.songs))
    weights = basis.kernel_weights(some, known)
    K = sum(
        w * basis.kernel(some, name).block(rows, rows)
        for w, name in zip(weights, known, strict=True)
    )
    return K / np.diag(K)[some.learned].mean()


@pytest.mark.parametrize("name", ["terms", "walks", "audio"])
def test_neighbours_are_histories_times_the_kernel(name: str) -> None:
    some = fold()
    found = neighbours(some, name)
    rows = np.arange(len(some.songs))
    K = basis.kernel(some, name).block(rows, rows)
    counts = np.log1p(some.histories.counts.toarray())
    W = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-30)
    np.testing.assert_allclose(found.V @ found.F.T, W @ K, atol=1e-4)


@pytest.mark.parametrize("with_context", [False, True])
def test_taste_is_kernel_ridge_to_histories(with_context: bool) -> None:
    some = fold(settings=replace(SETTINGS, penalty=2.0, context_penalty=2.0))
    found = taste.to_histories(some, with_context)
    K, learned = mixed_kernel(some, with_context), some.learned
    targets = some.histories.weights("binary").toarray()[:, learned].T
    ridge = KernelRidge(alpha=2.0, kernel="precomputed").fit(K[np.ix_(learned, learned)], targets)
    np.testing.assert_allclose((found.V @ found.F.T).T, ridge.predict(K[:, learned]), atol=2e-4)


def test_smoothed_taste_is_kernel_ridge_to_products_of_factors() -> None:
    some = fold(settings=replace(SETTINGS, smooth_penalty=0.5))
    found = taste.to_smoothed(some, False)
    users, songs = taste.smoothed(some)
    K, learned = mixed_kernel(some, False), some.learned
    ridge = KernelRidge(alpha=0.5, kernel="precomputed")
    ridge.fit(K[np.ix_(learned, learned)], songs[learned] @ users.T)
    np.testing.assert_allclose((found.V @ found.F.T).T, ridge.predict(K[:, learned]), atol=1e-3)
    assert not songs[some.hidden].any()


def test_means_by_terms_leave_the_song_out() -> None:
    some = fold()
    found = taste.means_by_terms(some)
    users, songs = taste.smoothed(some)
    rows = np.arange(len(some.songs))
    K = basis.kernel(some, "terms").block(rows, rows) ** 4
    played = [t for t in some.learned if basis.kernel(some, "terms").present[t]]
    mean = songs[played].mean(axis=0)
    for s in (0, 1, 50, 100):
        others = [t for t in played if t != s]
        expected = K[s, others] @ songs[others] + SETTINGS.shrinkage * mean
        expected /= K[s, others].sum() + SETTINGS.shrinkage
        np.testing.assert_allclose(found.F[s], expected, atol=1e-5)
    np.testing.assert_array_equal(found.V, users)


def test_attention_is_a_softmax_over_the_artists_other_songs() -> None:
    some = fold()
    names = [n for n in content.KERNELS if n not in ("artist", "names")]
    rows = np.arange(len(some.songs))
    K = np.mean([content.kernel(some.songs, n).block(rows, rows) for n in names], axis=0)
    _, songs = taste.smoothed(some)
    factors, of_songs = catalogue.by_attention(some), catalogue.by_songs(some)
    Y = some.histories.weights("binary").toarray()
    artists = some.songs.artists
    for s in range(0, len(some.songs), 5):
        others = [t for t in some.learned if artists[t] == artists[s] and t != s]
        e = np.exp(SETTINGS.sharpness * K[s, others])
        n = len(others)
        a = e / max(e.sum(), 1e-30) * n / (n + SETTINGS.shrinkage)
        np.testing.assert_allclose(factors.F[s], a @ songs[others], atol=1e-5)
        listened = (artists[None] == artists[others][:, None]).astype(float)
        expected = Y @ (a @ listened) if n else np.zeros(len(Y))
        np.testing.assert_allclose(of_songs.V @ of_songs.F[s], expected, atol=1e-3)


def test_attention_has_nothing_to_say_of_unseen_artists() -> None:
    some = fold("artist")
    assert not catalogue.by_attention(some).F[some.hidden].any()
