"""Two towers: what they learn of planted tastes, and what they must not see."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from fusionrec.errors import DataError
from fusionrec.models.ranking import RankingModel, RankingTraining
from fusionrec.models.settings import RankingSettings, Settings
from fusionrec.models.shares import of_attention
from fusionrec.signals.histories import Histories
from tests.models.planted import SONGS, TEST, TRAIN, USERS, VALIDATION, Planted, planted

SETTINGS = Settings(epochs=12, eta=0.003, p=0.1, dtype="float32")
RANKING = RankingSettings(dimensions=12, pairs=256, negatives=40, history=6, cold=0.5)
EVERYONE = np.arange(USERS)


@pytest.fixture(scope="module")
def data() -> Planted:
    return planted()


@dataclass(frozen=True)
class Fitted:
    """A model, and what it says of the planted songs."""

    model: RankingModel
    content: np.ndarray
    warm: np.ndarray
    users: np.ndarray


def training(data: Planted, settings=SETTINGS, ranking=RANKING, **changed) -> RankingTraining:
    return RankingTraining(
        data.songs,
        changed.get("plays", data.plays),
        changed.get("factors", data.factors.songs),
        train=changed.get("train", TRAIN),
        validation=changed.get("validation", VALIDATION),
        settings=settings,
        ranking=ranking,
        collective=changed.get("collective"),
    )


def said_by(model: RankingModel, data: Planted) -> Fitted:
    content = model.content(data.songs.x, data.songs.present)
    warm = model.warm(content, data.factors.songs)
    return Fitted(model, content, warm, model.users(warm, data.seen().counts, EVERYONE))


def fitted(data: Planted, settings=SETTINGS, ranking=RANKING, **changed) -> Fitted:
    return said_by(training(data, settings, ranking, **changed).run(), data)


@pytest.fixture(scope="module")
def model(data) -> Fitted:
    return fitted(data)


def test_cold_songs_are_ranked_by_their_content(data, model) -> None:
    F, V = model.content[TEST], model.users
    rng = np.random.default_rng(0)
    assert data.precision(F, V) > 1.5 * data.precision(rng.permutation(F), V)
    losses = [row.validation_loss for row in model.model.history]
    assert min(losses) < np.log(len(VALIDATION))


def test_a_score_is_that_of_the_songs_played_by_their_shares(data, model) -> None:
    counts, d = data.seen().counts, RANKING.dimensions
    for user in (5, 9):
        songs = counts[[user]].indices
        attention = model.model.attention
        shares = of_attention(
            model.warm[songs, :d],
            counts[[user]].data,
            attention.query.detach().numpy(),
            attention.slope.item(),
        )
        assert shares.sum() == pytest.approx(1, rel=1e-5)
        F = model.content[TEST]
        each = model.warm[songs, :d] @ F[:, :d].T / np.sqrt(d)
        expected = shares @ each + F[:, d]
        np.testing.assert_allclose(model.users[user] @ F.T, expected, rtol=1e-4, atol=1e-5)


def test_cold_songs_have_no_collaborative_vector(model) -> None:
    np.testing.assert_array_equal(model.warm[TEST], model.content[TEST])
    moved = (model.warm[TRAIN] != model.content[TRAIN]).any(axis=1)
    assert moved.mean() > 0.9


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
    np.testing.assert_array_equal(again.users, model.users)


def test_validation_songs_only_say_when_to_stop(data) -> None:
    settings = replace(SETTINGS, epochs=2)
    first, second = (fitted(data, settings, validation=rows) for rows in (VALIDATION, TEST[:0]))
    np.testing.assert_array_equal(first.content, second.content)
    assert second.model.history[0].validation_loss is None


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
