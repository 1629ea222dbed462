"""Weights of signals: the loss against a plain loop, and what it makes of noise and constants."""

import numpy as np
import pytest

from fusionrec.errors import DataError
from fusionrec.signals import weights
from fusionrec.signals.histories import Histories
from fusionrec.signals.inner import Inner, inner_folds
from fusionrec.signals.lists import Lists, average_precision
from fusionrec.signals.registry import SIGNALS
from fusionrec.signals.signal import Factors, Fold
from tests.signals.corpus import SETTINGS, cold, corpus


def inner(by="song") -> list[Inner]:
    songs, histories = corpus()
    return inner_folds(Fold(songs, histories, cold(by), by, SETTINGS, 0))


def noise(seed: int) -> Factors:
    _, histories = corpus()
    generator = np.random.default_rng(seed)
    F, V = (generator.normal(size=(n, 3)).astype(np.float32) for n in histories.counts.shape[::-1])
    return Factors(F, V)


@pytest.fixture(scope="module")
def tables() -> list[weights.Table]:
    """Of terms, of noise, and of a signal that is the same for all cold songs."""
    found = []
    for number, some in enumerate(inner()):
        constant = Factors(np.ones((len(some.fold.songs), 1), np.float32), noise(0).V[:, :1])
        signals = [SIGNALS["neighbours-terms"].fit(some.fold), noise(number), constant]
        found.append(weights.table(Lists.of(some, 0), signals))
    return found


def test_lists_are_of_users_with_cold_and_other_songs() -> None:
    for some in inner():
        lists = Lists.of(some, 0)
        cold_counts = some.relevant.counts.toarray()
        assert (cold_counts[lists.users] > 0).any(axis=1).all()
        assert (some.fold.histories.sizes[lists.users] > 0).all()
        pairs = set(zip(lists.users[lists.owner].tolist(), lists.positives.tolist(), strict=True))
        users, songs = np.nonzero(cold_counts)
        assert pairs == {(u, s) for u, s in zip(users, songs, strict=True) if u in lists.users}
        assert set(lists.others) <= set(some.cold)
        np.testing.assert_array_equal(
            lists.negative, cold_counts[np.ix_(lists.users, lists.others)] == 0
        )


def test_average_precision_of_whole_lists() -> None:
    some = inner()[0]
    lists = Lists.of(some, 0)
    assert len(lists.others) == len(some.cold)  # so that nothing is sampled
    factors = noise(5)
    S = factors.V @ factors.F.T
    expected = []
    for u in lists.users:
        order = some.cold[np.argsort(-S[u, some.cold])]
        hits = some.relevant.counts.toarray()[u, order] > 0
        expected.append((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].mean())
    positives, others, _ = lists.scores(factors)
    assert average_precision(lists, positives, others) == pytest.approx(np.mean(expected))


def test_loss_is_a_softmax_over_each_relevant_song_and_the_negatives(tables) -> None:
    table = weights.standardise(tables)[0][0]
    w = np.array([0.7, 0.2, 0.0])
    lists, total, counted = table.lists, 0.0, 0.0
    listeners = np.bincount(lists.positives)
    for user in range(len(lists.users)):
        negatives = np.exp((table.others[user] @ w)[lists.negative[user]])
        own = np.flatnonzero(lists.owner == user)
        for row in own:
            p = np.exp(table.positives[row] @ w)
            share = listeners[lists.positives[row]] ** -0.25 / len(own)
            total -= share * np.log(p / (p + lists.correction[user] * negatives.sum()))
            counted += share
    assert weights._loss(table, w)[0] == pytest.approx(total / counted, rel=1e-5)


def test_gradient_is_that_of_the_loss(tables) -> None:
    table = weights.standardise(tables)[0][1]
    wide = weights.Table(
        table.lists, table.positives.astype(float), table.others.astype(float), table.sizes
    )
    w = np.array([0.5, 0.3, 0.1])
    _, gradient = weights._loss(wide, w)
    steps = np.eye(3) * 1e-2
    numeric = [
        (weights._loss(wide, w + h)[0] - weights._loss(wide, w - h)[0]) / 2e-2 for h in steps
    ]
    np.testing.assert_allclose(gradient, numeric, atol=1e-4)


def test_noise_weighs_nothing_and_constants_are_no_signals(tables) -> None:
    standard, deviations = weights.standardise(tables)
    assert np.isinf(deviations).tolist() == [False, False, True]
    found, l2 = weights.choose(standard)
    assert found[0] > 0.3
    assert 0 <= found[1] < 0.05 * found[0]
    assert l2 in weights.L2


def test_standardised_signals_have_unit_deviation(tables) -> None:
    standard, deviations = weights.standardise(tables)
    values = np.concatenate([t.others.reshape(-1, 3) for t in standard])
    np.testing.assert_allclose((values[:, :2] ** 2).mean(axis=0), 1, rtol=1e-4)
    assert not values[:, 2].any()
    scaled = [
        weights.Table(t.lists, t.positives * 100, t.others * 100, t.sizes * 100) for t in tables
    ]
    again, larger = weights.standardise(scaled)
    np.testing.assert_allclose(larger[:2], 100 * deviations[:2], rtol=1e-5)
    np.testing.assert_allclose(again[0].others, standard[0].others, atol=1e-4)


def test_sampled_negatives_stand_for_all() -> None:
    some = inner()[0]
    lists = Lists.of(some, 0)
    fewer = Inner(some.fold.with_settings(type(SETTINGS)(others=5)), some.cold, some.relevant)
    sampled = Lists.of(fewer, 0)
    assert sampled.negative.shape[1] == 5
    outside = len(some.cold) - np.bincount(sampled.owner)
    np.testing.assert_allclose(sampled.correction * sampled.negative.sum(axis=1), outside)
    np.testing.assert_allclose(lists.correction, 1)


def test_no_user_to_learn_from_is_an_error() -> None:
    some = inner()[0]
    nobody = Histories(some.relevant.counts * 0)
    nobody.counts.eliminate_zeros()
    with pytest.raises(DataError, match="no user played a cold and another song"):
        Lists.of(Inner(some.fold, some.cold, nobody), 0)
