"""No signal learns anything from the plays of hidden songs, nor from what it must not read."""

from dataclasses import replace

import numpy as np
import pytest

from fusionrec.signals.content import KERNELS
from fusionrec.signals.histories import Histories
from fusionrec.signals.registry import SIGNALS, names
from fusionrec.signals.signal import Fold
from fusionrec.signals.songs import Songs
from tests.signals.corpus import SETTINGS as WHOLE
from tests.signals.corpus import cold, corpus

SETTINGS = replace(WHOLE, landmarks=30)

CONTEXT = ("similar_artists", "artist_hotttnesss", "artist_familiarity")


@pytest.mark.parametrize("by", ["song", "artist"])
@pytest.mark.parametrize("name", SIGNALS)
def test_hidden_plays_change_nothing(name: str, by) -> None:
    songs, histories = corpus()
    hidden = cold(by)
    counts = histories.counts.toarray()
    generator = np.random.default_rng(1)
    changed = counts.copy()
    changed[:, hidden] = generator.integers(0, 50, (len(counts), hidden.sum()))
    assert not np.array_equal(changed, counts)

    def computed(plays: np.ndarray):
        table = type(histories.counts)(plays.astype(np.float32))
        return SIGNALS[name].fit(Fold(songs, Histories(table), hidden, by, SETTINGS, 0))

    before, after = computed(counts), computed(changed)
    np.testing.assert_array_equal(before.F, after.F)
    np.testing.assert_array_equal(before.V, after.V)


def test_visible_plays_change_every_signal() -> None:
    """So that the test above can fail."""
    songs, histories = corpus()
    hidden = cold()
    counts = histories.counts.toarray()
    changed = np.where(np.arange(len(songs)) % 2 == 0, counts[::-1], counts)
    for name, spec in SIGNALS.items():
        both = [
            spec.fit(Fold(songs, Histories(type(histories.counts)(c)), hidden, "song", SETTINGS, 0))
            for c in (counts, changed)
        ]
        same = [np.array_equal(x, y) for x, y in zip(*((f.F, f.V) for f in both), strict=True)]
        assert not all(same), name


@pytest.mark.parametrize("name", names(with_context=False))
def test_signals_of_content_read_no_context(name: str) -> None:
    songs, histories = corpus()
    table = songs.table.drop_columns(list(CONTEXT))
    without = Songs(table, songs.own, songs.lyrics, songs.vectors)
    before, after = (
        SIGNALS[name].fit(Fold(some, histories, cold(), "song", SETTINGS, 0))
        for some in (songs, without)
    )
    np.testing.assert_array_equal(before.F, after.F)
    np.testing.assert_array_equal(before.V, after.V)


def test_signals_of_context_are_named_as_such() -> None:
    kinds = {name: (spec.kind, spec.context) for name, spec in SIGNALS.items()}
    assert {context for kind, context in kinds.values() if kind == "context"} == {True}
    assert {context for kind, context in kinds.values() if kind == "content"} == {False}
    assert {f"neighbours-{kernel}" for kernel in KERNELS} <= set(names(with_context=False))


def test_a_user_who_played_hidden_songs_only_has_no_vector() -> None:
    songs, histories = corpus()
    hidden = cold()
    counts = histories.counts.toarray()
    counts[0] = 0
    counts[0, hidden] = 9
    fold = Fold(songs, Histories(type(histories.counts)(counts)), hidden, "song", SETTINGS, 0)
    for name, spec in SIGNALS.items():
        assert not spec.fit(fold).V[0].any(), name
