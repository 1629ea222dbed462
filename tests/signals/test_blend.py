"""The blend: inner folds, one pair of matrices, explanations, and what inner folds choose."""

from dataclasses import replace

import numpy as np
import pytest

from fusionrec.errors import ConfigError, DataError
from fusionrec.ranking.split import assign
from fusionrec.signals import blend as blends
from fusionrec.signals import context
from fusionrec.signals.compress import rotated
from fusionrec.signals.explain import REST
from fusionrec.signals.histories import Histories
from fusionrec.signals.inner import FOLDS, Inner, inner_folds, kept_with
from fusionrec.signals.lists import Lists, average_precision
from fusionrec.signals.reduced import ReducedUsers, reduced_atoms, weightings
from fusionrec.signals.registry import SIGNALS, names
from fusionrec.signals.signal import Factors, Fold, SignalSpec
from fusionrec.signals.songs import Songs
from fusionrec.signals.tuning import STEPS, tuned
from tests.signals.corpus import OWN, SETTINGS, cold, corpus, fold

SOME = (
    "neighbours-terms",
    "neighbours-audio",
    "taste",
    "taste-smoothed",
    "popularity",
    "popularity-history",
)


def fitted(by="song", names=SOME, settings=SETTINGS, seed=0) -> blends.Blend:
    songs, histories = corpus()
    return blends.fit_blend(Fold(songs, histories, cold(by), by, settings, seed), names)


@pytest.fixture(scope="module")
def blend() -> blends.Blend:
    return fitted()


def groups(songs: Songs, by: str) -> np.ndarray:
    return {"song": np.arange(len(songs)), "artist": songs.artists, "album": songs.albums}[by]


@pytest.mark.parametrize("by", ["song", "artist", "album"])
def test_inner_folds_follow_the_split(by) -> None:
    songs, histories = corpus()
    hidden = cold(by)
    folds = inner_folds(Fold(songs, histories, hidden, by, SETTINGS, 0))
    assert len(folds) == FOLDS
    every = np.concatenate([some.cold for some in folds])
    np.testing.assert_array_equal(np.sort(every), np.flatnonzero(~hidden[:OWN]))
    own = groups(songs, by)
    for some in folds:
        assert some.fold.hidden[hidden].all()
        assert some.fold.hidden[some.cold].all()
        learned = some.fold.learned
        assert not set(own[some.cold]) & set(own[learned])
        assert not set(own[hidden]) & set(own[learned])
        assert not some.relevant.listeners[hidden].any()
        # Everything else may be learned from, with songs outside the catalogue.
        assert (learned >= OWN).any()
        plays = histories.counts.toarray()
        plays[:, some.fold.hidden] = 0
        np.testing.assert_array_equal(some.fold.histories.counts.toarray(), plays)


def test_songs_of_unknown_artists_stay_hidden_unless_the_split_is_by_song() -> None:
    songs, _ = corpus()
    ids = songs.table["artist_id"].to_pylist()
    ids[OWN] = None
    table = songs.table.set_column(songs.table.column_names.index("artist_id"), "artist_id", [ids])
    unknown = Songs(table, OWN)
    test = np.zeros(len(songs), bool)
    test[0] = True
    same = unknown.artists == unknown.artists[0]
    assert kept_with(unknown, test, "song").sum() == 1
    expected = same.copy()
    expected[OWN] = True
    np.testing.assert_array_equal(kept_with(unknown, test, "artist"), expected)


def test_the_blend_is_the_weighted_sum_of_signals(blend: blends.Blend) -> None:
    some = fold(settings=blend.settings)
    candidates = np.flatnonzero(some.hidden[:OWN])
    total = 0
    for name, weight, deviation in zip(blend.names, blend.weights, blend.deviations, strict=True):
        if weight > 0:
            factors = SIGNALS[name].fit(some)
            scores = factors.V.astype(float) @ factors.F[candidates].T
            total = total + weight * (scores - scores.mean(axis=1, keepdims=True)) / deviation
    found = blend.V.astype(float) @ blend.F[candidates].T
    np.testing.assert_allclose(found, total, atol=1e-3 * np.abs(total).max())
    assert blend.kept == pytest.approx(1)
    assert np.isfinite(blend.F).all()


def test_a_lower_rank_loses_the_least_of_the_scores() -> None:
    settings = replace(SETTINGS, rank=5)
    short, whole = fitted(settings=settings), fitted()
    assert short.F.shape[1] == 5 < whole.F.shape[1]
    candidates = np.flatnonzero(cold()[:OWN])
    exact = whole.V @ whole.F[candidates].T
    error = np.linalg.norm(short.V @ short.F[candidates].T - exact) / np.linalg.norm(exact)
    assert error < 0.35
    assert 0.8 < short.kept < 1


def test_rotation_keeps_the_best_rank_of_a_signal() -> None:
    some = fold()
    candidates = np.flatnonzero(some.hidden[:OWN])
    factors = SIGNALS["neighbours-audio"].fit(some)
    scores = factors.V.astype(float) @ factors.F[candidates].T
    scores -= scores.mean(axis=1, keepdims=True)
    for rank in (1, 3):
        short, energies = rotated(factors, candidates, rank)
        u, s, vt = np.linalg.svd(scores, full_matrices=False)
        best = (u[:, :rank] * s[:rank]) @ vt[:rank]
        np.testing.assert_allclose(short.V @ short.F[candidates].T, best, atol=1e-3)
        np.testing.assert_allclose(energies, s[:rank] ** 2, rtol=1e-3)


def test_parts_add_up_to_the_score(blend: blends.Blend) -> None:
    visible = corpus()[1].without(cold()).counts
    for user in (3, 50, 200):
        row = visible[[user]]
        for song in (0, 8, 16):
            why = blend.explain(user, song, row.indices, row.data)
            assert why.score == pytest.approx(float(blend.V[user] @ blend.F[song]), abs=1e-4)
            for parts in (why.signals, why.by(blend.kinds), why.by(blend.modalities)):
                assert sum(parts.values()) == pytest.approx(why.score, abs=1e-9)
            other = sum(
                part
                for name, part in why.signals.items()
                if name == REST
                or blend.layout.weightings[name] is None
                or blend.kinds[name] == "popularity"
            )
            assert why.history + other == pytest.approx(why.score, abs=1e-3)
            assert len(why.songs) <= 3


def test_songs_of_a_history_add_what_is_lost_without_them() -> None:
    """The weights of taste do not change with the rest of a history: the difference is exact."""
    only = fitted(names=("taste",))
    visible = corpus()[1].without(cold()).counts
    user = int(np.argmax(np.diff(visible.indptr)))
    row = visible[[user]]
    why = only.explain(user, 8, row.indices, row.data)
    assert why.songs
    whole = only.layout.user(only.atoms[row.indices], row.data)
    for place, adds in why.songs:
        rest = np.arange(row.nnz) != place
        less = only.layout.user(only.atoms[row.indices[rest]], row.data[rest])
        assert float((whole - less) @ only.features[8]) == pytest.approx(adds, abs=1e-4)


def test_parts_are_the_signals_own_whatever_the_rank() -> None:
    """Each is its weighted, standardised score above that of a mean cold song."""
    found = fitted(settings=replace(SETTINGS, rank=8))
    some = fold(settings=found.settings)
    candidates = np.flatnonzero(some.hidden[:OWN])
    row = corpus()[1].without(cold()).counts[[50]]
    whys = [found.explain(50, song, row.indices, row.data) for song in candidates]
    rests = [abs(why.signals[REST]) for why in whys]
    assert 0 < np.mean(rests) < 0.1 * np.std([why.score for why in whys])
    for name, weight, deviation in zip(found.names, found.weights, found.deviations, strict=True):
        if weight > 0:
            factors = SIGNALS[name].fit(some)
            scores = factors.V[50].astype(float) @ factors.F[candidates].T
            scores = weight * (scores - scores.mean()) / deviation
            parts = [why.signals[name] for why in whys]
            np.testing.assert_allclose(parts, scores, atol=0.05 * np.abs(scores).max())


def test_a_history_has_the_vector_of_its_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blends.weights, "choose", lambda _: (np.ones(len(SOME)), 1.0))
    blend = fitted()
    row, layout = corpus()[1].without(cold()).counts[[7]], blend.layout
    atoms = blend.atoms[row.indices]
    whole = layout.user(atoms, row.data, blend.told[7])
    candidates = np.flatnonzero(cold()[:OWN])
    np.testing.assert_allclose(
        blend.features[candidates] @ whole, blend.F[candidates] @ blend.V[7], atol=1e-3
    )
    alone = layout.user(atoms, row.data)
    assert not alone[layout.told].any()
    np.testing.assert_array_equal(np.delete(alone, layout.told), np.delete(whole, layout.told))
    told = {name for name, place in layout.slices.items() if place.start in layout.told}
    assert told == {"taste-smoothed", "popularity", "popularity-history"}


def test_popularity_is_no_part_of_a_song_that_was_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blends.weights, "choose", lambda _: (np.ones(2), 1.0))
    found = fitted(names=("neighbours-terms", "popularity-history"))
    terms, popular = (found.layout.slices[name] for name in found.names)
    row = corpus()[1].without(cold()).counts[[7]]
    atoms = found.atoms[row.indices]
    assert atoms[:, popular].any()
    v = found.layout.user(atoms, row.data)
    assert v[terms].any()
    assert not v[popular].any()
    why = found.explain(7, 8, row.indices, row.data)
    assert why.signals["popularity-history"]
    assert sum(why.signals.values()) == pytest.approx(why.score)
    assert why.history == pytest.approx(why.signals["neighbours-terms"], abs=1e-4)


def test_hidden_plays_change_nothing_in_a_blend(blend: blends.Blend) -> None:
    songs, histories = corpus()
    hidden = cold()
    counts = histories.counts.toarray()
    counts[:, hidden] = np.random.default_rng(2).integers(0, 9, (len(counts), hidden.sum()))
    changed = Histories(type(histories.counts)(counts))
    again = blends.fit_blend(Fold(songs, changed, hidden, "song", SETTINGS, 0), SOME)
    np.testing.assert_array_equal(again.F, blend.F)
    np.testing.assert_array_equal(again.V, blend.V)
    np.testing.assert_array_equal(again.weights, blend.weights)


def test_signals_of_one_artist_weigh_nothing_between_artists() -> None:
    found = fitted("artist", ("neighbours-artist", "artist-factors", "neighbours-terms"))
    assert list(found.layout.slices) == ["neighbours-terms"]
    assert found.weights[:2].tolist() == [0, 0]


def test_a_signal_of_noise_weighs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """But for luck: of eight kinds of noise five had no weight, and two some .055."""
    shares = []
    for seed in range(4):

        def noise(some: Fold, seed: int = seed) -> Factors:
            generator = np.random.default_rng(
                [seed, int(some.hidden @ np.arange(len(some.hidden)))]
            )
            users, songs = some.histories.counts.shape
            F, V = (generator.normal(size=(n, 4)).astype(np.float32) for n in (songs, users))
            return Factors(F, V)

        monkeypatch.setitem(SIGNALS, "noise", SignalSpec("noise", "content", "none", False, noise))
        found = fitted(names=(*SOME, "noise"))
        shares.append(found.weights[-1] / found.weights.max())
    assert np.mean(shares) < 0.03


def test_the_blend_ranks_about_as_the_best_of_its_signals(blend: blends.Blend) -> None:
    _, histories = corpus()
    some = fold(settings=blend.settings)
    cold_songs = np.flatnonzero(some.hidden[:OWN])
    outer = Inner(some, cold_songs, histories.without(~some.hidden))
    lists = Lists.of(outer, 0)

    def precision(factors: Factors) -> float:
        positives, others, _ = lists.scores(factors)
        return average_precision(lists, positives, others)

    alone = [precision(SIGNALS[name].fit(some)) for name in SOME]
    assert precision(Factors(blend.F, blend.V)) > 0.96 * max(alone) > 1.2 * min(alone)


def test_tuning_takes_what_ranks_best() -> None:
    songs, histories = corpus()
    folds = inner_folds(Fold(songs, histories, cold(), "song", SETTINGS, 0))
    lists = [Lists.of(some, 0) for some in folds]
    found = tuned(folds, lists, SETTINGS, ("taste",))
    assert found.smooth_penalty == SETTINGS.smooth_penalty  # not asked for
    step = next(step for step in STEPS if "penalty" in step.values[0])

    def precision(penalty: float) -> float:
        values = []
        for some, of in list(zip(folds, lists, strict=True))[:2]:
            trial = some.fold.with_settings(replace(found, penalty=penalty))
            positives, others, _ = of.scores(SIGNALS["taste"].fit(trial))
            values.append(average_precision(of, positives, others))
        return float(np.mean(values))

    assert precision(found.penalty) == max(precision(v["penalty"]) for v in step.values)


def test_tuning_takes_no_ranking_by_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores that differ in their last bits may rank well, but have no weight in a blend."""
    songs, histories = corpus()
    folds = inner_folds(Fold(songs, histories, cold(), "song", SETTINGS, 0))
    lists = [Lists.of(some, 0) for some in folds]
    fit = SIGNALS["taste"].fit

    def shrunk(some: Fold) -> Factors:
        found = fit(some)
        if some.settings.penalty != 30:
            # As large as before for songs that are in no list, and rounding for those that are.
            return replace(found, F=np.where(some.hidden[:, None], 1e-9 * found.F, found.F))
        return found

    monkeypatch.setitem(SIGNALS, "taste", replace(SIGNALS["taste"], fit=shrunk))
    assert tuned(folds, lists, SETTINGS, ("taste",)).penalty == 30


def test_what_cannot_be_blended_is_an_error() -> None:
    with pytest.raises(ConfigError, match="names wrong"):
        fitted(names=("wrong",))
    with pytest.raises(DataError, match="no signal tells"):
        fitted("artist", ("neighbours-artist",))


def test_signals_of_what_no_song_has_weigh_nothing() -> None:
    songs, histories = corpus()
    bare = Songs(songs.table.select(["song_id", "artist_id", "terms"]), OWN)
    found = blends.fit_blend(Fold(bare, histories, cold(), "song", SETTINGS, 0), names())
    assert set(found.layout.slices) & {"neighbours-terms", "taste", "factors-terms"}
    for name, weight in zip(found.names, found.weights, strict=True):
        if name.startswith("neighbours-") and name[11:] not in ("terms", "artist"):
            assert weight == 0, name


@pytest.mark.parametrize("by", ["song", "artist"])
def test_without_any_artist_the_signals_of_artists_are_empty(by) -> None:
    songs, histories = corpus()
    bare = Songs(songs.table.drop_columns(["artist_id"]), OWN)
    some = Fold(bare, histories, kept_with(bare, cold(), by), by, SETTINGS)
    for name in context.KERNELS:
        found = SIGNALS[f"neighbours-{name}"].fit(some)
        assert found.F.any() == (name == "fame")
    assert SIGNALS["taste-context"].fit(some).F.any()


@pytest.mark.parametrize("by", ["song", "artist", "album"])
def test_too_few_songs_or_artists_for_inner_folds_are_an_error(by) -> None:
    songs, histories = corpus()
    codes = groups(songs, by)[:OWN]
    hidden = np.zeros(len(songs), bool)
    hidden[:OWN] = ~np.isin(codes, np.unique(codes)[:3])
    with pytest.raises(DataError, match=rf"needs at least 4 {by}s outside the test .* are 3"):
        inner_folds(Fold(songs, histories, hidden, by, SETTINGS, 0))


def test_an_artist_of_nearly_all_songs_leaves_an_inner_fold_empty() -> None:
    songs, histories = corpus()
    ids = [f"A{max(row - OWN + 5, 0)}" for row in range(len(songs))]
    table = songs.table.set_column(songs.table.column_names.index("artist_id"), "artist_id", [ids])
    uneven = Songs(table, OWN)
    with pytest.raises(DataError, match=r"the 5 artists .* one artist has too many of the 96"):
        inner_folds(Fold(uneven, histories, np.zeros(len(songs), bool), "artist", SETTINGS, 0))


def test_cold_songs_that_no_signal_tells_apart_are_an_error() -> None:
    songs, histories = corpus()
    hidden = np.zeros(len(songs), bool)
    hidden[8] = True
    with pytest.raises(DataError, match="tells the 1 songs of the test part apart"):
        blends.fit_blend(Fold(songs, histories, hidden, "song", SETTINGS, 0), SOME)


def test_a_user_without_plays_gets_what_is_popular(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blends.weights, "choose", lambda _: (np.ones(len(SOME)), 1.0))
    songs, histories = corpus()
    hidden = cold()
    counts = histories.counts.toarray()
    counts[3, ~hidden] = 0
    some = Histories(type(histories.counts)(counts))
    found = blends.fit_blend(Fold(songs, some, hidden, "song", SETTINGS, 0), SOME)
    candidates = np.flatnonzero(hidden[:OWN])
    others = np.arange(len(counts)) != 3
    expected = np.zeros(len(candidates))
    given = Fold(songs, some, hidden, "song", found.settings, 0)
    played = others & (given.histories.sizes > 0)
    for name, deviation in zip(found.names, found.deviations, strict=True):
        if SIGNALS[name].kind == "popularity":
            factors = SIGNALS[name].fit(given)
            parts = factors.V[played].astype(float).mean(axis=0) @ factors.F[candidates].T
            expected += (parts - parts.mean()) / deviation
    scores = found.V[3].astype(float) @ found.F[candidates].T
    assert np.ptp(scores) > 0
    np.testing.assert_allclose(scores, expected, atol=1e-4)
    monkeypatch.undo()
    without = blends.fit_blend(
        Fold(songs, some, hidden, "song", SETTINGS, 0), ("neighbours-terms",)
    )
    assert not without.V[3].any()


def test_inner_folds_are_not_those_of_another_cut_of_the_songs() -> None:
    songs, histories = corpus()
    hidden = np.zeros(len(songs), bool)
    ids = songs.texts("song_id")[:OWN]
    found = [
        set(some.cold) for some in inner_folds(Fold(songs, histories, hidden, "song", SETTINGS, 0))
    ]
    for seed in range(3):
        settings = {"by": "song", "folds": FOLDS, "test_fold": 0, "validation": 0.0}
        outer = assign(ids, ids, seed=seed, **settings)[1]  # type: ignore[arg-type]
        assert all(set(np.flatnonzero(outer == number)) not in found for number in range(FOLDS))


def test_users_are_made_of_their_plays_in_the_dimensions_that_are_ranked_by(blend) -> None:
    """Those that the blend made of the same plays; with what is hidden, of all of them."""
    _, histories = corpus()
    seen, layout, n = histories.without(cold("song")), blend.layout, len(blend.atoms)
    atoms = {
        weighting: reduced_atoms(
            layout, blend.rotation, weighting, np.array_split(blend.atoms, 3), n
        )
        for weighting in weightings(layout)
    }
    assert len(atoms) > 1
    users = ReducedUsers(atoms, blend.rotation[layout.told])
    found = users.of_songs(seen) + users.of_told(blend.told)
    near = {"rtol": 1e-3, "atol": 1e-4 * np.abs(blend.V).max()}
    np.testing.assert_allclose(found, blend.V, **near)
    nobody = blend.nobody @ blend.rotation
    for user in np.flatnonzero(seen.sizes == 0):
        np.testing.assert_allclose(nobody, blend.V[user], **near)
    user = int(np.flatnonzero(histories.sizes > seen.sizes)[0])
    row = histories.counts[[user]]
    whole = layout.user(blend.atoms[row.indices], row.data, blend.told[user]) @ blend.rotation
    more = (users.of_songs(histories) + users.of_told(blend.told))[user]
    np.testing.assert_allclose(more, whole, **near)
    assert not np.allclose(whole, blend.V[user], rtol=1e-2)
