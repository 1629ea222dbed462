"""PageRank against the solution of its linear equations."""

import numpy as np
import pyarrow as pa
import pytest
from scipy.sparse import csr_array

from fusionrec.signals import context, pagerank
from fusionrec.signals.songs import Songs
from tests.signals.corpus import corpus


def test_profiles_solve_the_equations() -> None:
    generator = np.random.default_rng(0)
    W = generator.random((30, 30)) * (generator.random((30, 30)) < 0.2)
    W = W + W.T
    W[7] = W[:, 7] = 0
    sources = np.array([0, 3, 7, 29])
    found = pagerank.profiles(csr_array(W), sources, alpha=0.5, tolerance=1e-12, steps=200)
    degrees = W.sum(axis=1, keepdims=True)
    P = np.divide(W, degrees, out=np.zeros_like(W), where=degrees > 0)
    expected = np.linalg.solve(np.eye(30) - 0.5 * P.T, 0.5 * np.eye(30))[:, sources].T
    np.testing.assert_allclose(found.toarray(), expected, atol=1e-10)


def test_truncated_profiles_are_close_and_short() -> None:
    generator = np.random.default_rng(1)
    W = generator.random((400, 400)) * (generator.random((400, 400)) < 0.05)
    W = csr_array(W + W.T)
    sources = np.arange(5)
    exact = pagerank.profiles(W, sources, tolerance=1e-12, steps=200).toarray()
    short = pagerank.profiles(W, sources, tolerance=1e-3)
    assert (np.diff(short.indptr) < 200).all()
    assert np.abs(short.toarray() - exact).max() < 1e-2


def test_edges_weigh_by_rank_in_both_directions() -> None:
    table = {
        "song_id": list("abc"),
        "artist_id": ["x", "y", "z"],
        "similar_artists": [["y", "far"], ["x"], None],
    }
    W = pagerank.graph(Songs(pa.table(table), own=3)).toarray()
    x, y, z, far = 0, 1, 2, 3
    assert W[x, y] == W[y, x] == pytest.approx(2 / np.log2(2))
    assert W[x, far] == W[far, x] == pytest.approx(1 / np.log2(3))
    assert W[z].sum() == 0


def test_songs_of_one_artist_are_alike_and_unknown_ones_like_nobody() -> None:
    table = {
        "song_id": list("abcd"),
        "artist_id": ["x", "x", "y", None],
        "similar_artists": [None, ["far"], None, None],
    }
    songs = Songs(pa.table(table), own=4)
    for name in ("lists", "walks", "links"):
        K = context.kernel(songs, name).block(np.arange(4), np.arange(4))
        expected = np.zeros((4, 4))
        expected[:2, :2] = 1
        np.testing.assert_allclose(K, expected, atol=1e-12)


def test_links_and_lists_against_matrices() -> None:
    songs, _ = corpus()
    W = pagerank.graph(songs).toarray()
    artists = songs.artists
    unit = W / np.linalg.norm(W, axis=1, keepdims=True)
    rows = np.arange(len(songs))
    found = context.kernel(songs, "lists").block(rows, rows)
    np.testing.assert_allclose(found, (unit @ unit.T)[np.ix_(artists, artists)], atol=1e-12)
    d = 1 / np.sqrt(W.sum(axis=1))
    near = np.eye(len(W)) + d[:, None] * W * d
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    found = context.kernel(songs, "links").block(rows, rows)
    np.testing.assert_allclose(found, (near @ near.T)[np.ix_(artists, artists)], atol=1e-12)
