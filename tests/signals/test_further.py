"""Vectors of one's own: a similarity and a signal by their name, in every sum of similarities."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.preprocessing import StandardScaler

from fusionrec.errors import ConfigError
from fusionrec.signals import basis, catalogue, content
from fusionrec.signals.blend import fit_blend
from fusionrec.signals.histories import Histories
from fusionrec.signals.registry import SIGNALS, names, spec
from fusionrec.signals.signal import Fold
from fusionrec.signals.songs import Songs
from tests.signals.corpus import OWN, SETTINGS, TASTES, cold, corpus


def with_clap(seed: int = 0) -> tuple[Songs, Histories]:
    """The corpus with vectors that tell the taste, of very different scales; one song in six
    lacks them, and one is far off.
    """
    songs, histories = corpus()
    generator = np.random.default_rng(seed)
    taste = songs.artists % TASTES
    rows = generator.normal(size=(len(songs), 7)) + 3 * (np.arange(7) == taste[:, None])
    rows = (rows * 10.0 ** np.arange(-3, 4) + 5).astype(np.float32)
    rows[4, 2] = 1e30
    rows[::6] = 0
    rows[OWN:] = 0
    vectors = {**songs.vectors, "clap": rows}
    return Songs(songs.table, songs.own, songs.lyrics, vectors), histories


def test_the_similarity_is_the_cosine_of_standardised_vectors(monkeypatch) -> None:
    songs, _ = with_clap()
    rows = songs.vectors["clap"].astype(np.float64)
    known = rows.any(axis=1)
    X = np.zeros_like(rows)
    X[known] = np.clip(StandardScaler().fit_transform(rows[known]), -5, 5)
    every = np.arange(len(songs))
    for chunk in (1 << 14, 10):
        monkeypatch.setattr(content, "CHUNK", chunk)
        kernel = content.kernel(replace(songs, memo={}), "clap")
        np.testing.assert_array_equal(kernel.present, known)
        np.testing.assert_allclose(kernel.block(every, every), cosine_similarity(X), atol=1e-5)
    assert songs.vectors["clap"][4, 2] == np.float32(1e30)  # left as they were


@pytest.mark.parametrize("rows", [np.zeros((120, 3)), np.full((120, 3), 7.0)])
def test_vectors_that_tell_nothing_are_like_nothing(rows: np.ndarray) -> None:
    songs, histories = corpus()
    some = Songs(songs.table, songs.own, None, {"clap": rows.astype(np.float32)})
    every = np.arange(len(some))
    assert not content.kernel(some, "clap").block(every, every).any()
    found = spec("neighbours-clap").fit(Fold(some, histories, cold(), "song", SETTINGS))
    assert not found.F.any()


def test_every_sum_of_similarities_has_it() -> None:
    songs, histories = with_clap()
    bare, _ = corpus()
    for with_context in (False, True):
        has = set(basis.names(songs, with_context))
        assert has - set(basis.names(bare, with_context)) == {"clap"}
    fold, without = (
        Fold(some, histories, cold(), "song", replace(SETTINGS, aligned=0.5))
        for some in (songs, bare)
    )
    for name in ("taste", "taste-context", "colistened", "popularity", "artist-factors"):
        assert not np.array_equal(spec(name).fit(fold).F, spec(name).fit(without).F), name
    assert not np.array_equal(
        catalogue.same_artist(songs).toarray(), catalogue.same_artist(bare).toarray()
    )


def test_it_is_a_signal_of_content_by_its_name() -> None:
    assert names() == tuple(SIGNALS)
    assert names(False, ["clap"]) == (*names(False), "neighbours-clap")
    found = spec("neighbours-clap")
    assert (found.kind, found.modality, found.context) == ("content", "clap", False)
    songs, histories = with_clap()
    fold = Fold(songs, histories, cold(), "song", SETTINGS)
    factors = found.fit(fold)
    every = np.arange(len(songs))
    K = content.kernel(songs, "clap").block(every, every)
    counts = np.log1p(fold.histories.counts.toarray())
    W = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-30)
    np.testing.assert_allclose(factors.V @ factors.F.T, W @ K, atol=1e-3)


def test_the_blend_weighs_it_and_explains_by_it() -> None:
    songs, histories = with_clap()
    fold = Fold(songs, histories, cold(), "song", SETTINGS)
    blend = fit_blend(fold, ["neighbours-year", "neighbours-clap"])
    assert dict(zip(blend.names, blend.weights, strict=True))["neighbours-clap"] > 0
    assert blend.modalities["neighbours-clap"] == "clap"
    history = np.flatnonzero(fold.histories.counts[[3]].toarray()[0])
    plays = fold.histories.counts[[3]].toarray()[0][history]
    song = int(np.flatnonzero(songs.vectors["clap"].any(axis=1) & fold.hidden)[0])
    why = blend.explain(3, song, history, plays)
    parts = why.by(blend.modalities)
    assert parts["clap"] != 0
    assert sum(parts.values()) == pytest.approx(why.score, abs=1e-4)


def test_vectors_that_songs_do_not_have_are_no_signal() -> None:
    songs, histories = corpus()
    fold = Fold(songs, histories, cold(), "song", SETTINGS)
    with pytest.raises(ConfigError, match=r"names neighbours-clap: choose from .*neighbours-audio"):
        fit_blend(fold, ["neighbours-terms", "neighbours-clap"])
    with pytest.raises(KeyError):
        spec("clap")
