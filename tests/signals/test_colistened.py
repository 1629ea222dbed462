"""Content distilled from item-kNN, against plain loops."""

import numpy as np
import pytest

from fusionrec.signals import basis, colistened
from tests.signals.corpus import SETTINGS, corpus, fold


def nearest(some) -> np.ndarray:
    """The graph by loops over users and pairs, dense (n, n)."""
    counts, groups = some.histories.counts.toarray(), basis.groups_of(some)
    n = counts.shape[1]
    together = np.zeros((n, n))
    for row in counts:
        songs = np.flatnonzero(row)
        for t in songs:
            together[t, songs] += 1 / len(songs)
    lengths = np.sqrt(np.diag(together))
    found = together / (lengths[:, None] * lengths + SETTINGS.shrinkage)
    found[(groups[:, None] == groups) & (groups >= 0)[:, None]] = 0
    np.fill_diagonal(found, 0)
    for row in found:
        row[np.argsort(-row, kind="stable")[3:]] = 0
    return found


@pytest.mark.parametrize("by", ["song", "artist"])
def test_the_graph_has_the_nearest_that_the_split_keeps_apart(monkeypatch, by) -> None:
    monkeypatch.setattr(colistened, "NEAREST", 3)
    monkeypatch.setattr(colistened, "_CHUNK", 7)
    some = fold(by)
    found = colistened.graph(some)
    np.testing.assert_allclose(found.toarray(), nearest(some), atol=1e-5)
    rows, columns = found.nonzero()
    assert not some.hidden[rows].any()
    assert not some.hidden[columns].any()
    if by == "artist":
        assert (some.songs.artists[rows] != some.songs.artists[columns]).all()


@pytest.mark.parametrize("with_context", [False, True])
def test_it_is_ridge_from_content_to_the_graph(with_context: bool) -> None:
    some = fold("artist")
    found = colistened.by_content(some, with_context)
    Phi, learned = basis.mixed(some, with_context).astype(float), some.learned
    G = colistened.graph(some).toarray()
    A = Phi[learned].T @ Phi[learned] + SETTINGS.colistened_penalty * np.eye(Phi.shape[1])
    predicted = G[:, learned] @ Phi[learned] @ np.linalg.inv(A) @ Phi.T
    W = np.log1p(some.histories.counts.toarray())
    W /= np.maximum(W.sum(axis=1, keepdims=True), 1e-30)
    np.testing.assert_allclose(found.V @ found.F.T, W @ predicted, atol=1e-4)


def test_songs_of_unseen_artists_get_the_place_of_their_taste() -> None:
    some = fold("artist")
    _, plays = corpus()
    found = colistened.by_content(some, False)
    scores = found.V @ found.F[some.hidden].T
    relevant = plays.counts.toarray()[:, some.hidden] > 0
    users = (some.histories.sizes > 3) & relevant.any(axis=1) & ~relevant.all(axis=1)
    higher = [
        s[r].mean() > s[~r].mean() for s, r in zip(scores[users], relevant[users], strict=True)
    ]
    assert np.mean(higher) > 0.6
