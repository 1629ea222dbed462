"""Splits: sizes, disjointness, and independence of the order of rows."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusionrec.errors import ConfigError, DataError
from fusionrec.ranking.split import assign

SONGS = [f"SO{i:04d}" for i in range(200)]
ARTISTS = [f"AR{i % 37:02d}" for i in range(200)]
USUAL: dict[str, Any] = {"by": "song", "folds": 5, "test_fold": 0, "validation": 0.1, "seed": 0}


def test_by_song_has_the_papers_shares_exactly() -> None:
    part, fold = assign(SONGS, ARTISTS, **USUAL)
    assert Counter(part) == {"train": 144, "validation": 16, "test": 40}
    assert Counter(fold.tolist()) == dict.fromkeys(range(5), 40)
    assert fold.dtype == np.int32
    assert np.array_equal(part == "test", fold == 0)


def test_validation_songs_come_from_every_other_fold() -> None:
    part, fold = assign(SONGS, ARTISTS, **USUAL)
    assert set(fold[part == "validation"]) == {1, 2, 3, 4}


def test_folds_do_not_depend_on_which_is_tested() -> None:
    whole = [assign(SONGS, ARTISTS, **{**USUAL, "test_fold": f}) for f in range(5)]
    assert all(np.array_equal(fold, whole[0][1]) for _, fold in whole)
    tested = np.sum([part == "test" for part, _ in whole], axis=0)
    assert np.all(tested == 1)


@pytest.mark.parametrize("by", ["song", "artist"])
def test_order_of_rows_is_irrelevant_and_the_seed_is_not(by: str) -> None:
    setting = {**USUAL, "by": by}
    part, fold = assign(SONGS, ARTISTS, **setting)
    shuffled = np.random.default_rng(3).permutation(len(SONGS))
    again, fold_again = assign(
        [SONGS[i] for i in shuffled], [ARTISTS[i] for i in shuffled], **setting
    )
    assert np.array_equal(part[shuffled], again)
    assert np.array_equal(fold[shuffled], fold_again)
    other, _ = assign(SONGS, ARTISTS, **{**setting, "seed": 1})
    assert not np.array_equal(part, other)


@settings(max_examples=60, deadline=None)
@given(
    artists=st.lists(st.integers(0, 12), min_size=20, max_size=80),
    folds=st.integers(2, 6),
    validation=st.floats(0, 0.5),
    seed=st.integers(0, 1000),
)
def test_by_artist_no_artist_is_on_two_sides(
    artists: list[int], folds: int, validation: float, seed: int
) -> None:
    songs = [f"S{i}" for i in range(len(artists))]
    names = [f"A{a}" if a else "" for a in artists]
    try:
        part, fold = assign(
            songs, names, by="artist", folds=folds, test_fold=0, validation=validation, seed=seed
        )
    except DataError:
        assert len(set(names)) <= 3  # only few, large artists can leave train or test empty
        return
    assert set(part) <= {"train", "validation", "test"}
    for name in set(names) - {""}:
        mine = np.array([n == name for n in names])
        assert len(set(part[mine])) == 1
        assert len(set(fold[mine])) == 1
    # Greedy filling: the boundary after each fold is passed by less than the largest artist.
    largest = max(Counter(n for n in names if n).values(), default=1)
    for f in range(folds):
        filled = np.sum(fold <= f) - len(songs) * (f + 1) / folds
        assert 0 <= filled < largest


def test_by_album_no_album_of_an_artist_is_on_two_sides() -> None:
    generator = np.random.default_rng(0)
    artists = [f"A{i}" for i in generator.integers(0, 20, 200)]
    # Titles are shared by artists; every tenth song has none.
    titles = [
        f"Greatest Hits {i}" if n % 10 else ""
        for n, i in enumerate(generator.integers(3, size=200))
    ]
    _, fold = assign(SONGS, artists, titles, **{**USUAL, "by": "album"})
    sides: dict[tuple[str, str], set[int]] = {}
    for artist, title, number in zip(artists, titles, fold, strict=True):
        if title:
            sides.setdefault((artist, title), set()).add(int(number))
    assert all(len(folds) == 1 for folds in sides.values())
    # Albums of one title by several artists are not kept together, nor songs without one.
    by_title = [
        {min(f) for (_, t), f in sides.items() if t == title} for title in set(titles) - {""}
    ]
    assert all(len(folds) > 1 for folds in by_title)
    untitled = [n for n, title in zip(fold, titles, strict=True) if not title]
    assert len(set(untitled)) > 1


def test_by_album_needs_the_releases() -> None:
    with pytest.raises(ValueError, match="release of every song"):
        assign(SONGS, ["A"] * 200, **{**USUAL, "by": "album"})


def test_songs_without_an_artist_are_groups_of_their_own() -> None:
    by_artist, _ = assign(SONGS, [""] * 200, **{**USUAL, "by": "artist"})
    by_song, _ = assign(SONGS, ARTISTS, **USUAL)
    assert np.array_equal(by_artist, by_song)


@pytest.mark.parametrize(
    ("wrong", "names"),
    [
        ({"folds": 1}, "split.folds"),
        ({"test_fold": 5}, "split.test_fold"),
        ({"test_fold": -1}, "split.test_fold"),
        ({"validation": 0.95}, "split.validation"),
        ({"validation": -0.1}, "split.validation"),
        ({"by": "genre"}, "split.by"),
    ],
)
def test_bad_settings_are_named(wrong: dict[str, object], names: str) -> None:
    with pytest.raises(ConfigError, match=names):
        assign(SONGS, ARTISTS, **{**USUAL, **wrong})


def test_parts_that_come_out_empty_are_errors() -> None:
    with pytest.raises(DataError, match="train part"):
        assign([], [], **USUAL)
    with pytest.raises(DataError, match="test part"):
        assign(SONGS[:2], ARTISTS[:2], **{**USUAL, "test_fold": 1})
    with pytest.raises(DataError, match="train part"):
        assign(SONGS, ["AR"] * 200, **{**USUAL, "by": "artist"})
    with pytest.raises(DataError, match="more than once"):
        assign(["S", "S"], ["A", "B"], **USUAL)
    part, _ = assign(SONGS, ARTISTS, **{**USUAL, "validation": 0.0})
    assert set(part) == {"train", "test"}


def test_another_purpose_cuts_otherwise_and_none_as_ever() -> None:
    ids = [f"S{number}" for number in range(400)]
    chosen = {"by": "song", "folds": 4, "test_fold": 0, "validation": 0.1}

    def folds(seed: int, **more: str) -> np.ndarray:
        return assign(ids, ids, seed=seed, **chosen, **more)[1]  # type: ignore[arg-type]

    np.testing.assert_array_equal(folds(1), folds(1, purpose=""))
    for seed in range(3):  # as alike as two random cuts into four
        assert np.mean(folds(1, purpose="other") == folds(seed)) < 0.35
