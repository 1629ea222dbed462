"""Songs that signals were not fitted on: the fit's own cold songs, given again, get their rows."""

import json
from collections import Counter
from dataclasses import replace
from functools import cache

import numpy as np
import pyarrow as pa
import pytest
from safetensors.numpy import load, save

from fusionrec.ranking.split import By
from fusionrec.signals import blend, registry
from fusionrec.signals.explain import Layout
from fusionrec.signals.inner import kept_with
from fusionrec.signals.signal import Factors, Fold
from fusionrec.signals.songs import Songs
from fusionrec.signals.unseen import encoder as encoder_module
from fusionrec.signals.unseen.encoder import UnseenSongs
from fusionrec.signals.unseen.joining import joined
from fusionrec.signals.unseen.read import Catalogued
from fusionrec.signals.unseen.stored import as_arrays, of_arrays
from tests.signals.corpus import OWN, SETTINGS, TASTES, corpus

BY: tuple[By, ...] = ("song", "artist", "album")
NAMES = (*registry.names(), "neighbours-clap")
HALF = replace(SETTINGS, landmarks=40)
"""Fewer landmarks than songs: features are approximate, and unseen songs' must be as well."""


@cache
def fold(by: By) -> Fold:
    """The corpus with vectors of one's own, a title a song and gaps in every column."""
    songs, histories = corpus()
    generator = np.random.default_rng(3)
    n = len(songs)
    table = songs.table
    words = ["love", "night", "rain", "sun", "road", "dance"]
    titles = [" ".join(generator.permutation(words)[:2]) for _ in range(n)]
    columns = {"title": titles, "release": [f"{words[s % 5]} {s % 3}" for s in range(n)]}
    for name, texts in columns.items():
        table = table.set_column(table.column_names.index(name), name, pa.array(texts))
    for place, name in enumerate(table.column_names):
        if name not in ("song_id", "similar_artists"):
            gone = pa.array(generator.random(n) < 0.08)
            column = table[name].combine_chunks()
            table = table.set_column(place, name, pa.compute.if_else(gone, None, column))
    taste = songs.artists % TASTES
    clap = generator.normal(2.0, 3.0, (n, 7)) + 3 * (np.arange(7) == taste[:, None])
    clap[::6] = 0
    vectors = {**songs.vectors, "clap": clap.astype(np.float32)}
    whole = Songs(table, OWN, songs.lyrics, vectors)
    test = np.zeros(n, bool)
    groups = {"song": np.arange(n), "artist": whole.artists, "album": whole.albums}[by]
    test[:OWN] = groups[:OWN] % 6 == 1
    return Fold(whole, histories, kept_with(whole, test, by), by, HALF, 0)


def some(songs: Songs, rows: np.ndarray) -> Songs:
    """Some songs of a corpus as others give them, and nothing of the rest."""
    lyrics = None if songs.lyrics is None else songs.lyrics[rows]
    vectors = {name: of[rows] for name, of in songs.vectors.items()}
    return Songs(songs.table.take(rows), len(rows), lyrics, vectors)


def encoder(fold: Fold, name: str) -> tuple[Factors, UnseenSongs]:
    """A signal as it is, in a layout of its own."""
    factors = registry.spec(name).fit(fold)
    assert factors.unseen is not None
    d = factors.F.shape[1]
    kind = registry.spec(name).kind
    layout = Layout({name: slice(0, d)}, {name: factors.weighting}, {name: kind})
    maps = {name: factors.unseen()}
    mean, turn = np.zeros(d, np.float32), np.eye(d, dtype=np.float32)
    return factors, joined(fold.songs, maps, layout, mean, turn)


def close(found: np.ndarray, expected: np.ndarray, tolerance: float = 2e-6) -> None:
    size = np.abs(expected).max(initial=1e-30)
    np.testing.assert_allclose(found / size, expected / size, atol=tolerance)


@pytest.mark.parametrize("by", BY)
@pytest.mark.parametrize("name", NAMES)
def test_songs_of_the_fit_get_the_rows_of_the_fit(by: By, name: str) -> None:
    here = fold(by)
    factors, found = encoder(here, name)
    cold = np.flatnonzero(here.hidden)
    description, arrays = as_arrays(found)
    unseen = of_arrays(description, arrays).rows(some(here.songs, cold))
    assert factors.F.any()
    has = unseen.present
    assert has.mean() > 0.6
    assert not unseen.features[~has].any()
    close(unseen.features[has], factors.F[cold[has]])
    close(unseen.F[has], factors.F[cold[has]])
    # Of the songs that were played, atoms that do not tell who played them.
    every = np.arange(len(here.songs))
    by_plays = name.startswith(("colistened", "popularity")) or factors.atoms is None
    if factors.atoms is not None:
        rows = cold if by_plays else every
        close(found.rows(some(here.songs, rows)).atoms, factors.atoms[rows])


@pytest.mark.parametrize("by", BY)
def test_a_blend_has_them_in_the_dimensions_that_it_ranks_by(by: By, monkeypatch) -> None:
    """Whatever the weights, in few dimensions, and some songs at a time."""
    here = replace(fold(by), settings=replace(HALF, rank=12))
    found = blend.fit_blend(here, NAMES, unseen=True)
    assert found.unseen is not None
    cold = np.flatnonzero(here.hidden[:OWN])
    given = some(here.songs, cold)
    rows = found.unseen.rows(given)
    assert rows.F.shape == (len(cold), found.F.shape[1])
    has = rows.present
    close(rows.F[has], found.F[cold[has]], 1e-5)
    close(rows.features[has], found.features[cold[has]], 1e-5)
    close(rows.atoms[has], found.atoms[cold[has]], 1e-5)
    monkeypatch.setattr(encoder_module, "_CHUNK", 3)
    close(found.unseen.rows(given).F, rows.F, 1e-6)
    assert blend.fit_blend(here, ["taste", "neighbours-year"]).unseen is None


def test_signals_without_a_weight_keep_nothing() -> None:
    found = blend.fit_blend(fold("song"), ["neighbours-year", "neighbours-clap"], unseen=True)
    assert found.unseen is not None
    kept = set(found.layout.slices)
    assert set(found.unseen.readers) == {name.removeprefix("neighbours-") for name in kept}


def test_what_the_fit_did_not_have_is_left_out_and_counted() -> None:
    here = fold("song")
    _, found = encoder(here, "taste-context")
    row = int(np.flatnonzero([bool(t) for t in here.songs.table["terms"].to_pylist()])[0])
    one = here.songs.table.slice(row, 1).to_pylist()[0]
    known = {**one, "artist_id": "A1", "artist_name": "Duo"}
    more = {
        "terms": [*one["terms"], "polka"],
        "term_weights": [*(one["term_weights"] or [1.0] * 3), 1.0],
        "artist_id": "unheard",
    }
    nobody = {**known, "artist_id": None}
    unknown: Counter[str] = Counter()
    kind = here.songs.table.schema

    def rows(of: dict[str, object], unknown: Counter[str] | None = None) -> np.ndarray:
        return found.rows(Songs(pa.Table.from_pylist([of], schema=kind), 1), unknown).F[0]

    stranger = rows({**known, **more}, unknown)
    assert {"artist": 1, "terms": 1}.items() <= unknown.items()
    np.testing.assert_allclose(stranger, rows(nobody), atol=1e-6)
    assert not np.allclose(stranger, rows(known), atol=1e-2)


def test_a_new_song_has_the_context_of_its_artist() -> None:
    """With an artist's id alone, its similar artists, and their fame where all songs have it."""
    songs, histories = corpus()
    here = Fold(songs, histories, fold("song").hidden, "song", HALF, 0)
    _, found = encoder(here, "taste-context")
    columns = ("artist_hotttnesss", "artist_familiarity")
    row = songs.table.select(["artist_id", *columns]).slice(3, 1)
    alone, whole = row.select(["artist_id"]), row
    np.testing.assert_array_equal(found.rows(Songs(alone, 1)).F, found.rows(Songs(whole, 1)).F)
    other = row.set_column(1, columns[0], pa.array([0.99], pa.float32()))
    assert not np.allclose(found.rows(Songs(other, 1)).F, found.rows(Songs(whole, 1)).F, atol=1e-3)
    walks = encoder(here, "neighbours-walks")
    np.testing.assert_allclose(
        walks[1].rows(Songs(alone, 1)).F[0], walks[0].F[3], atol=1e-6 * np.abs(walks[0].F).max()
    )


def test_a_song_of_which_nothing_is_known_has_no_row() -> None:
    """Not even that which the fit gives to songs of its own of which nothing is known."""
    for name in ("taste-context", "factors-terms", "popularity", "artist-factors"):
        _, found = encoder(fold("song"), name)
        bare = found.rows(Songs(pa.table({"song_id": ["x", "y"]}), 2))
        assert not bare.present.any()
        assert not bare.F.any()
        assert not bare.atoms.any()


@pytest.mark.parametrize("column", ["year", "clap", "artist_id"])
def test_songs_of_which_little_is_known_have_what_there_is(column: str) -> None:
    """No term and no text in the whole corpus, and none in what is stored; or artists alone."""
    whole = fold("song").songs
    table = whole.table.select(["song_id", *([] if column == "clap" else [column])])
    vectors = {"clap": whole.vectors["clap"]} if column == "clap" else {}
    bare = Songs(table, OWN, None, vectors)
    here = Fold(bare, corpus()[1], fold("song").hidden, "song", HALF, 0)
    names = registry.names(further=bare.further)
    found = blend.fit_blend(here, names, unseen=True)
    assert found.unseen is not None
    description, arrays = as_arrays(found.unseen)
    again = of_arrays(json.loads(json.dumps(description)), load(save(arrays)))
    cold = np.flatnonzero(here.hidden)
    rows = again.rows(some(bare, cold))
    has = rows.present
    assert has.any()
    close(rows.F[has], found.F[cold[has]], 1e-5)
    # Of the rest nothing is known: the fit has one row for all, and as new songs they have none.
    assert not rows.F[~has].any()
    if column == "year":
        rest = found.F[cold[~has & (cold < OWN)]]
        assert len(rest) > 1
        close(rest, np.broadcast_to(rest[0], rest.shape), 1e-5)
        assert np.abs(rest).max() > 1e-3 * np.abs(found.F).max()


def test_albums_are_pairs_of_an_artist_and_a_release() -> None:
    pairs = [("a\nb", "c"), ("a", "b\nc"), ("a\\nb", "c"), ("a\\", "nb\nc")]
    ids, releases = zip(*pairs, strict=True)
    columns = {"song_id": list("wxyz"), "artist_id": list(ids), "release": list(releases)}
    songs = Songs(pa.table(columns), 4)
    assert len(set(songs.albums)) == 4
    assert len(set(Catalogued.of(songs).codes(songs)[1])) == 4
