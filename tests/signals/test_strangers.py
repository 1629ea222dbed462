"""Users that a blend was not fitted on: by their plays its own users are told what they were."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_array

from fusionrec.baselines.factorisation import Here, confidence
from fusionrec.errors import ConfigError
from fusionrec.signals import blend as blends
from fusionrec.signals import taste
from fusionrec.signals.histories import Histories
from fusionrec.signals.registry import SIGNALS
from fusionrec.signals.signal import Factors, Fold, SignalSpec
from fusionrec.signals.strangers import Strangers
from tests.signals.corpus import OTHERS, OWN, SETTINGS, cold, corpus, fold

TOLD = (
    "popularity",
    "popularity-activity",
    "popularity-history",
    "popularity-context",
    "popularity-context-activity",
    "popularity-context-history",
    "taste-smoothed",
    "taste-smoothed-context",
    "factors-terms",
    "artist-factors",
)
"""All signals that tell something of a user beside the songs."""


def fitted(monkeypatch, names, some: Fold | None = None) -> blends.Blend:
    """A blend in which each of some signals has its weight, without a simulated cold start."""
    some, weights = some or fold(), np.linspace(1, 2, len(names))
    monkeypatch.setattr(blends.weights, "choose", lambda _: (weights, 1.0))
    simulated = blends.Simulated(tuple(names), some.settings, [], np.linspace(0.5, 1, len(names)))
    return blends.joined(simulated, some, unseen=True)


def strangers(blend: blends.Blend) -> Strangers:
    assert blend.strangers is not None
    return blend.strangers


def close(found: np.ndarray, expected: np.ndarray, tolerance: float = 3e-6) -> None:
    """To rounding, of the size that each dimension has."""
    assert found.shape == expected.shape
    size = np.abs(expected).max(axis=0)
    assert size.all()
    np.testing.assert_allclose(found / size, expected / size, atol=tolerance)


def test_all_told_signals_are_looked_at() -> None:
    made = {name: spec.fit(fold()) for name, spec in SIGNALS.items()}
    assert {name for name, factors in made.items() if factors.told} == set(TOLD)
    assert {
        name
        for name, factors in made.items()
        if factors.weighting is None or SIGNALS[name].kind == "popularity"
    } == set(TOLD)


@pytest.mark.parametrize("name", TOLD)
@pytest.mark.parametrize("by", ["song", "artist"])
def test_users_of_the_fit_are_told_what_the_blend_has_of_them(monkeypatch, by, name) -> None:
    """By all plays, those of hidden songs among them; of plays in other songs, too."""
    if by == "artist" and name == "artist-factors":
        pytest.skip("between artists it tells no songs apart")
    blend = fitted(monkeypatch, (name, "neighbours-terms"), fold(by))
    assert blend.layout.slices[name].stop > blend.layout.slices[name].start
    everything = corpus()[1]
    assert everything.counts[:, cold(by)].nnz
    assert everything.counts[:, OWN:].nnz
    close(strangers(blend).told(everything), blend.told)


@pytest.mark.parametrize("rank", [3, 128])
def test_all_signals_at_once_in_few_dimensions(monkeypatch, rank) -> None:
    some = replace(fold(), settings=replace(SETTINGS, rank=rank))
    blend = fitted(monkeypatch, tuple(SIGNALS), some)
    assert len(blend.layout.told) > 5
    close(strangers(blend).told(corpus()[1]), blend.told)


def test_more_plays_than_a_block_has(monkeypatch) -> None:
    monkeypatch.setattr(taste, "BLOCK", 300)
    asked = []

    class Counted(Here):
        def blocks(self, confidences):
            asked.append(len(confidences))
            return confidences

    blend = fitted(monkeypatch, TOLD, replace(fold(), sweeper=Counted()))
    assert min(asked) > 3
    close(strangers(blend).told(corpus()[1]), blend.told)


@pytest.mark.parametrize("iterations", [1, 2, 7])
def test_however_many_sweeps(monkeypatch, iterations) -> None:
    some = replace(fold(), settings=replace(SETTINGS, iterations=iterations))
    blend = fitted(monkeypatch, ("taste-smoothed", "popularity"), some)
    close(strangers(blend).told(corpus()[1]), blend.told)


def test_by_hand(monkeypatch) -> None:
    """Somebody like no user of the fit: the closed form, on the signals' own users."""
    blend = fitted(monkeypatch, TOLD)
    found, some = strangers(blend), fold()
    songs = np.array([1, 5, 30, OWN + 3, 8])  # the last of which is hidden
    assert cold()[8]
    listeners = some.histories.listeners
    assert (listeners[songs[:4]] > 0).all()
    plays = np.array([1, 7, 2, 3, 9])
    counts = csr_array((plays.astype(np.float32), (np.zeros(5, int), songs)), (1, len(cold())))
    Y = taste.factorised(some).songs_before.astype(np.float64)
    c = np.ones(len(Y))
    c[songs[:4]] = confidence(plays[:4], SETTINGS.alpha, SETTINGS.epsilon)
    p = np.isin(np.arange(len(Y)), songs[:4])
    A = (Y.T * c) @ Y + SETTINGS.regularisation * np.eye(Y.shape[1])
    x = np.linalg.solve(A, (Y.T * c) @ p)
    numbers = {
        "popularity": np.ones(1),
        "popularity-activity": np.log1p([4]),
        "popularity-history": np.log1p(listeners[songs[:4]]).mean(keepdims=True),
    }
    V = {name: SIGNALS[name].fit(some).V for name in TOLD}
    expected = np.zeros(blend.layout.width)
    for name, place in blend.layout.slices.items():
        # The map from a signal's own users to the blend's dimensions, by least squares.
        own = blend.told[:, np.searchsorted(blend.layout.told, np.arange(place.start, place.stop))]
        played = some.histories.sizes > 0
        turn = np.linalg.lstsq(V[name][played].astype(np.float64), own[played], rcond=None)[0]
        expected[place] = numbers.get(name.replace("popularity-context", "popularity"), x) @ turn
    told = found.told(Histories(counts))[0]
    close(told[None], expected[None, blend.layout.told].astype(np.float32), 1e-3)


def test_a_user_depends_on_no_other_to_the_last_bit(monkeypatch) -> None:
    found = strangers(fitted(monkeypatch, TOLD))
    counts = corpus()[1].counts
    whole = found.told(corpus()[1])
    for rows in ([17], [5, 250, 17], list(range(10, 60))):
        np.testing.assert_array_equal(found.told(Histories(counts[rows])), whole[rows])


def test_songs_that_the_fit_saw_nobody_play_count_nowhere(monkeypatch) -> None:
    """Hidden ones, one without plays, and songs that came later, behind all of the fit."""
    songs, histories = corpus()
    unplayed = 50
    assert not cold()[unplayed]
    without = histories.without(np.arange(len(songs)) == unplayed)
    found = strangers(fitted(monkeypatch, TOLD, replace(fold(), histories=without)))
    counts = without.without(cold()).counts
    expected = found.told(Histories(counts))
    more = np.zeros((counts.shape[0], OWN + OTHERS + 4), np.float32)
    more[:, : OWN + OTHERS] = counts.toarray()
    more[:, [*np.flatnonzero(cold()), unplayed, OWN + OTHERS, OWN + OTHERS + 3]] = 5
    np.testing.assert_array_equal(found.told(Histories(csr_array(more))), expected)
    only = np.zeros((1, more.shape[1]), np.float32)
    only[0, [unplayed, OWN + OTHERS]] = 2
    np.testing.assert_array_equal(found.told(Histories(csr_array(only)))[0], found.nobody)
    nobody = Histories(csr_array((2, OWN + OTHERS), dtype=np.float32))
    np.testing.assert_array_equal(found.told(nobody), np.stack([found.nobody] * 2))


def test_of_popularity_alone_everybody_is_told_the_same(monkeypatch) -> None:
    """To the last bit, so that who is known by nothing else is told from nobody by nothing."""
    blend = fitted(monkeypatch, ("popularity", "popularity-context", "neighbours-terms"))
    found = strangers(blend)
    assert found.nobody.all()
    told = found.told(corpus()[1])
    np.testing.assert_array_equal(told, np.tile(found.nobody, (len(told), 1)))


def test_a_blend_of_sums_over_songs_has_nothing_to_tell(monkeypatch) -> None:
    found = strangers(fitted(monkeypatch, ("neighbours-terms", "taste")))
    assert found.told(corpus()[1]).shape == (len(corpus()[1].sizes), 0)
    assert fitted(monkeypatch, ("taste", "popularity")).unseen is not None
    assert blends.fit_blend(fold(), ("taste", "popularity")).strangers is None


def test_a_signal_must_say_what_makes_its_users(monkeypatch) -> None:
    fit = SIGNALS["popularity"].fit

    def silent(some: Fold) -> Factors:
        return replace(fit(some), told=None)

    spec = SignalSpec("popularity", "popularity", "all", False, silent)
    monkeypatch.setitem(SIGNALS, "popularity", spec)
    with pytest.raises(ConfigError, match="popularity cannot be had of users"):
        fitted(monkeypatch, ("popularity", "taste"))
