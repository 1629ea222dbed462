"""Two towers on a graph: its edges, its layers, what it learns, and what it must not see."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fusionrec.errors import DataError
from fusionrec.models.graph import SongGraph, song_graph
from fusionrec.models.hgnn import GraphModel, GraphTowers, GraphTraining, Sampling
from fusionrec.models.settings import GraphSettings, RankingSettings, Settings
from fusionrec.signals.histories import Histories
from tests.models.planted import SONGS, TEST, TRAIN, USERS, VALIDATION, Planted, planted

SETTINGS = Settings(epochs=8, eta=0.01, p=0.1, patience=8)
RANKING = RankingSettings(dimensions=12, pairs=256, negatives=40, history=6, cold=0.5)
SHAPE = GraphSettings(nearest=8, sampled=4)
ARTISTS = np.arange(SONGS) // 3
"""So that songs 90 to 149, no training songs, are of artists without any."""


@pytest.fixture(scope="module")
def data() -> Planted:
    return planted()


def of_train(plays: Histories) -> Histories:
    return plays.without(~np.isin(np.arange(SONGS), TRAIN))


def graph(data: Planted, plays: Histories, unseen_artists: bool = True) -> SongGraph:
    return song_graph(
        data.songs.x, of_train(plays), ARTISTS, TRAIN, nearest=8, unseen_artists=unseen_artists
    )


def fitted(data: Planted, plays: Histories, settings=SETTINGS, train=TRAIN) -> GraphModel:
    return GraphTraining(
        data.songs.x,
        plays,
        graph(data, plays),
        train=train,
        validation=VALIDATION,
        settings=settings,
        ranking=RANKING,
        shape=SHAPE,
    ).run()


@pytest.fixture(scope="module")
def model(data) -> GraphModel:
    return fitted(data, data.plays)


@pytest.mark.parametrize("unseen_artists", [False, True])
def test_only_training_songs_are_heard_of(data, unseen_artists: bool) -> None:
    found = graph(data, data.plays, unseen_artists)
    for name in ("together", "alike"):
        rows, columns = found.relations[name].edges.nonzero()
        assert set(columns) <= set(TRAIN)
        assert (rows != columns).all()
        if unseen_artists:
            assert (ARTISTS[rows] != ARTISTS[columns]).all()
    assert set(found.relations["together"].edges.nonzero()[0]) <= set(TRAIN)
    assert set(found.relations["alike"].edges.nonzero()[0]) == set(range(SONGS))
    for name, songs in (("by", 0), ("of", 1)):
        pairs = found.relations[name].edges.nonzero()
        assert set(pairs[songs]) == set(TRAIN)
        np.testing.assert_array_equal(ARTISTS[pairs[songs]], pairs[1 - songs])


def test_sampled_neighbours_are_the_nodes_own(data) -> None:
    relation = graph(data, data.plays).relations["together"]
    rows, drawn = np.array([7, 3, 100, 3]), set()
    for seed in range(20):
        sources, owner = relation.heard(rows, 3, np.random.default_rng(seed))
        pairs = list(zip(sources.tolist(), owner.tolist(), strict=True))
        assert len(set(pairs)) == len(pairs)
        for place, row in enumerate(rows):
            own = relation.edges[[row]].nonzero()[1]
            assert set(sources[owner == place]) <= set(own)
            assert (owner == place).sum() == min(3, len(own))
        drawn |= {source for source, place in pairs if rows[place] == 7}
    assert drawn == set(relation.edges[[7]].nonzero()[1])


def test_a_layer_is_graphsage_by_relation(data) -> None:
    """Two layers against dense matrices."""
    found = graph(data, data.plays)
    towers = GraphTowers(data.songs.x, found, SETTINGS, RANKING, SHAPE)
    state = {name: value.numpy().astype(float) for name, value in towers.state_dict().items()}
    h = {
        "song": data.songs.x @ state["content.weight"].T + state["content.bias"],
        "artist": np.tile(state["artist"], (found.artists, 1)),
    }
    for layer in range(SHAPE.layers):
        after = {}
        for kind, own in h.items():
            of = f"layers.{layer}"
            total = own @ state[f"{of}.own.{kind}.weight"].T + state[f"{of}.own.{kind}.bias"]
            for name, relation in found.relations.items():
                if relation.target == kind:
                    edges = (relation.edges.toarray() != 0).astype(float)
                    edges /= np.maximum(edges.sum(axis=1, keepdims=True), 1)
                    total = total + edges @ h[relation.source] @ state[f"{of}.of.{name}.weight"].T
            total = np.maximum(total, 0)
            after[kind] = total / np.linalg.norm(total, axis=1, keepdims=True)
        h = after
    rows = np.array([140, 3, 3, 77])
    with torch.no_grad():
        nodes = towers.nodes("song", rows, SHAPE.layers, None).numpy()
    np.testing.assert_allclose(nodes, h["song"][rows], atol=1e-5)


def test_a_song_that_is_drawn_cold_has_a_cold_songs_edges(data) -> None:
    """What listeners and artist say of it changes nothing, and what they say of others does."""
    towers = GraphTowers(
        data.songs.x,
        graph(data, data.plays),
        replace(SETTINGS, p=0.0),
        RANKING,
        replace(SHAPE, layers=1),
    )
    other = graph(
        data, Histories(data.plays.counts[np.arange(USERS)][:, np.roll(np.arange(SONGS), 5)])
    )
    rows = np.array([2, 40])

    def vectors(cold: bool) -> np.ndarray:
        sampling = Sampling(99, np.random.default_rng(0), np.full(SONGS, cold))
        with torch.no_grad():
            return towers.songs(rows, sampling).numpy()

    cold, warm = vectors(True), vectors(False)
    assert (cold != warm).any(axis=1).all()
    relations = dict(towers.graph.relations)
    towers.graph = replace(
        towers.graph, relations={**relations, "together": other.relations["together"]}
    )
    np.testing.assert_array_equal(vectors(True), cold)
    assert (vectors(False) != warm).any()


def test_cold_songs_are_ranked_by_their_taste(data, model) -> None:
    F, V = model.vectors[TEST], model.users(data.seen().counts, np.arange(USERS))
    shuffled = np.random.default_rng(0).permutation(F)
    assert data.precision(F, V) > 1.5 * data.precision(shuffled, V)


def test_hidden_plays_change_nothing(data, model) -> None:
    counts = data.plays.counts.toarray()
    counts[:, TEST] = np.random.default_rng(0).integers(0, 5, (USERS, len(TEST)))
    users, songs = np.nonzero(counts)
    plays = Histories.of(users, songs, counts[users, songs].astype(int), counts.shape)
    np.testing.assert_array_equal(fitted(data, plays).vectors, model.vectors)


def test_the_seed_and_nothing_else_is_random(data) -> None:
    short = replace(SETTINGS, epochs=1)
    first = fitted(data, data.plays, short).vectors
    np.testing.assert_array_equal(first, fitted(data, data.plays, short).vectors)
    assert (first != fitted(data, data.plays, replace(short, seed=1)).vectors).any()


def test_no_example_is_said(data) -> None:
    with pytest.raises(DataError, match="no user has played two training songs"):
        fitted(data, data.plays, train=TRAIN[:1])
