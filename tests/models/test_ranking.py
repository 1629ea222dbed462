"""Two towers: what they learn of planted tastes, and what they must not see."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fusionrec.errors import DataError
from fusionrec.models.ranking import RankingModel, fit_ranking
from fusionrec.models.settings import RankingSettings, Settings
from fusionrec.models.user_tower import histories
from fusionrec.signals.histories import Histories
from tests.models.planted import SONGS, TEST, TRAIN, USERS, VALIDATION, Planted, planted

SETTINGS = Settings(epochs=8, eta=0.003, p=0.1, patience=5, dtype="float32")
RANKING = RankingSettings(dimensions=12, pairs=256, negatives=40, history=6, cold=0.5)
EVERYONE = np.arange(USERS)


@pytest.fixture(scope="module")
def data() -> Planted:
    return planted()


def fitted(data: Planted, settings=SETTINGS, ranking=RANKING, **changed) -> RankingModel:
    given = {"plays": data.plays, "factors": data.factors.songs, **changed}
    return fit_ranking(
        data.songs,
        given["plays"],
        given["factors"],
        train=given.get("train", TRAIN),
        validation=given.get("validation", VALIDATION),
        settings=settings,
        ranking=ranking,
    )


@pytest.fixture(scope="module")
def model(data) -> RankingModel:
    return fitted(data)


def test_cold_songs_are_ranked_by_their_content(data, model) -> None:
    V = model.users(data.seen().counts, EVERYONE)
    F = model.songs(TEST)
    rng = np.random.default_rng(0)
    assert data.precision(F, V) > 1.5 * data.precision(rng.permutation(F), V)
    assert min(row.validation_loss for row in model.history) < np.log(len(VALIDATION))


def test_a_score_is_one_product(data, model) -> None:
    users = np.array([5, 9, 5])
    V = model.users(data.seen().counts, users)
    played = histories(data.seen().counts, users)
    warm = torch.from_numpy(model.warm)
    with torch.no_grad():
        U = model.towers.users(warm, played, torch.from_numpy(played.songs))
        expected = model.towers.scores(U, torch.from_numpy(model.content[TEST])).numpy()
    np.testing.assert_allclose(V @ model.songs(TEST).T, expected, rtol=1e-4, atol=1e-5)


def test_cold_songs_have_no_collaborative_vector(model) -> None:
    np.testing.assert_array_equal(model.warm[TEST], model.content[TEST])
    moved = (model.warm[TRAIN] != model.content[TRAIN]).any(axis=1)
    assert moved.mean() > 0.9
    np.testing.assert_array_equal(model.songs(TRAIN, cold=False), model.warm[TRAIN])


def test_plays_and_factors_of_held_out_songs_change_nothing(data, model) -> None:
    counts = data.plays.counts.toarray()
    rng = np.random.default_rng(0)
    counts[:, TEST] = rng.integers(0, 5, (USERS, len(TEST)))
    users, songs = np.nonzero(counts)
    plays = Histories.of(users, songs, counts[users, songs].astype(int), counts.shape)
    factors = data.factors.songs.copy()
    factors[TEST] = rng.normal(size=(len(TEST), factors.shape[1]))
    again = fitted(data, plays=plays, factors=factors)
    np.testing.assert_array_equal(again.warm, model.warm)
    np.testing.assert_array_equal(
        again.users(data.seen().counts, EVERYONE), model.users(data.seen().counts, EVERYONE)
    )


def test_validation_songs_only_say_when_to_stop(data) -> None:
    settings = replace(SETTINGS, epochs=2, patience=None)
    first, second = (fitted(data, settings, validation=rows) for rows in (VALIDATION, TEST[:0]))
    np.testing.assert_array_equal(first.content, second.content)
    assert second.history[0].validation_loss is None


def test_the_seed_and_nothing_else_is_random(data) -> None:
    settings = replace(SETTINGS, epochs=1)
    first = fitted(data, settings)
    np.testing.assert_array_equal(first.warm, fitted(data, settings).warm)
    assert (first.warm != fitted(data, replace(settings, seed=1)).warm).any()


def test_always_cold_learns_no_map(data) -> None:
    model = fitted(data, replace(SETTINGS, epochs=1), replace(RANKING, cold=1.0))
    np.testing.assert_array_equal(model.warm, model.content)
    assert len(model.warm) == SONGS


def test_no_example_is_said(data) -> None:
    with pytest.raises(DataError, match="no user has played two training songs"):
        fitted(data, train=TRAIN[:1])
