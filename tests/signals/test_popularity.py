"""Predicted popularity against plain loops and scikit-learn."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from fusionrec.signals import basis, popularity
from tests.signals.corpus import SETTINGS, fold


@pytest.mark.parametrize("by", ["song", "artist", "album"])
def test_neighbour_means_are_those_of_a_cold_song(by) -> None:
    some = fold(by)
    found = popularity.neighbour_means(some)
    songs, learned = some.songs, some.learned
    own = {"song": np.arange(len(songs)), "artist": songs.artists, "album": songs.albums}[by]
    values = np.log1p(some.histories.listeners)
    values = values - values[learned].mean()
    rows = np.arange(len(songs))
    K = basis.kernel(some, "terms").block(rows, rows) ** 4

    def mean(s: int, weights: np.ndarray) -> float:
        others = [t for t in learned if own[t] != own[s] and t != s]
        total = weights[others].sum() + SETTINGS.shrinkage
        return float(weights[others] @ values[others] / total)

    for s in range(0, len(songs), 7):
        expected = [
            mean(s, (songs.artists == songs.artists[s]).astype(float)) if by != "artist" else 0,
            mean(s, (songs.albums == songs.albums[s]).astype(float)) if by == "song" else 0,
            mean(s, K[s]),
        ]
        np.testing.assert_allclose(found[s], expected, atol=1e-9)


@pytest.mark.parametrize("with_context", [False, True])
def test_popularity_is_ridge_regression(with_context: bool) -> None:
    some = fold(settings=replace(SETTINGS, popularity_penalty=2.0))
    found = popularity.predicted(some, with_context)
    X = popularity.inputs(some, with_context).astype(float)
    y = np.log1p(some.histories.listeners)
    ridge = Ridge(alpha=2.0).fit(X[some.learned], y[some.learned])
    expected = ridge.predict(X) - y[some.learned].mean()
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_users_weigh_popularity_by_their_histories() -> None:
    some = fold()
    sizes = some.histories.sizes
    alone, active, history = (
        make(some, False)
        for make in (popularity.alone, popularity.by_activity, popularity.by_history)
    )
    np.testing.assert_array_equal(alone.V[:, 0], sizes > 0)
    np.testing.assert_allclose(active.V[:, 0], np.log1p(sizes), rtol=1e-6)
    counts = some.histories.counts.toarray() > 0
    means = counts @ np.log1p(some.histories.listeners) / np.maximum(sizes, 1)
    np.testing.assert_allclose(history.V[:, 0], means, rtol=1e-5)
    np.testing.assert_array_equal(alone.F, history.F)
