"""What a blend keeps in memory, and that to keep less changes nothing."""

from dataclasses import replace

import numpy as np
import pytest

from fusionrec.signals import basis, blend, compress, kernels, lists, popularity, signal, taste
from fusionrec.signals.compress import shares_of_rank
from fusionrec.signals.histories import Histories
from fusionrec.signals.memo import Memo
from fusionrec.signals.registry import SIGNALS
from fusionrec.signals.signal import Factors
from tests.signals.corpus import SETTINGS, cold, corpus, fold

SOME = ("neighbours-terms", "neighbours-artist", "taste", "taste-smoothed", "popularity")


def array(size: int) -> np.ndarray:
    return np.zeros(size // 4, np.float32)


def test_what_was_used_last_is_kept_within_the_limit() -> None:
    memo, made = Memo(limit=100), []

    def take(name: str, size: int = 40) -> None:
        memo.while_it_fits(name, size, lambda: made.append(name) or array(size))

    for name in ("a", "b", "a", "c", "a", "b"):
        take(name)
    assert made == ["a", "b", "c", "b"]  # c took the place of b, which was used before a
    take("large", 400)
    assert list(memo.again) == ["large"]


def test_what_has_no_limit_stays() -> None:
    memo = Memo(limit=0)
    assert memo.once("any", lambda: 1) == memo.once("any", lambda: 2) == 1
    memo.while_it_fits("features", 8, lambda: array(8))
    assert memo.of(("any",)).kept == {"any": 1}
    assert not memo.of(("any",)).again
    assert list(memo.of(("feat",)).again) == ["features"]


def test_features_that_are_made_again_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    features = basis.features

    def counted(*given):
        made.append(1)
        return features(*given)

    monkeypatch.setattr(basis, "features", counted)
    whole, short = fold(), replace(fold(), memo=Memo(limit=0))
    for name in SOME * 2:
        kept, again = SIGNALS[name].fit(whole), SIGNALS[name].fit(short)
        np.testing.assert_array_equal(kept.F, again.F)
        np.testing.assert_array_equal(kept.V, again.V)
    assert len(short.memo.again) == 1
    assert len(made) > 2 * len(whole.memo.again)


def test_parts_of_the_songs_at_once_are_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    songs, _ = corpus()
    whole = blend.fit_blend(fold(), SOME)
    for module in (kernels, compress, lists, popularity, signal, taste):
        monkeypatch.setattr(module, "CHUNK", 7)
    parts = blend.fit_blend(fold(), SOME)
    rows = np.flatnonzero(cold()[: songs.own])
    expected, found = (b.V.astype(float) @ b.F[rows].T for b in (whole, parts))
    np.testing.assert_allclose(found, expected, atol=2e-3 * np.abs(expected).max())


def test_dimensions_that_are_dropped_as_signals_come_are_dropped_at_the_end() -> None:
    generator = np.random.default_rng(0)
    energies = [np.sort(generator.exponential(size=n))[::-1] for n in (9, 1, 4, 12, 6)]
    for rank in (1, 5, 8, 40):
        least = [len(e) for e in energies]
        for number in range(1, 6):
            now = shares_of_rank(energies[:number], rank)
            least = [min(a, b) for a, b in zip(least, now, strict=False)] + least[number:]
            assert sum(now) <= rank
        assert least == shares_of_rank(energies, rank)


def test_leading_dimensions_are_a_copy() -> None:
    some = Factors(np.ones((5, 4), np.float32), np.ones((3, 4), np.float32))
    short = compress.leading(some, 2)
    assert short.F.shape == (5, 2)
    assert short.vectors().shape == (3, 2)
    assert short.F.base is None
    assert compress.leading(some, 4) is some


def test_weights_share_the_places_of_plays() -> None:
    _, histories = corpus()
    for weighting in ("log", "binary", "mean"):
        found = Histories(histories.counts).weights(weighting)
        assert np.shares_memory(found.indices, histories.counts.indices)
    settings = replace(SETTINGS, landmarks=20)
    assert basis.single(fold(settings=settings), "terms").shape[1] <= 20
