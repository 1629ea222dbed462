"""The search against a plain one, which compares every word of every song."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusionrec.search.edits import allowed
from fusionrec.search.index import SearchIndex
from fusionrec.search.words import words_of


def edits(typed: str, word: str) -> int:
    """Errors between `typed` and the nearest beginning of `word`, by the whole table."""
    table = np.zeros((len(typed) + 1, len(word) + 1), int)
    table[:, 0], table[0] = np.arange(len(typed) + 1), np.arange(len(word) + 1)
    for i in range(1, len(typed) + 1):
        for j in range(1, len(word) + 1):
            table[i, j] = min(
                table[i - 1, j] + 1,
                table[i, j - 1] + 1,
                table[i - 1, j - 1] + (typed[i - 1] != word[j - 1]),
            )
            if i > 1 and j > 1 and typed[i - 2 : i] == word[j - 1] + word[j - 2]:
                table[i, j] = min(table[i, j], table[i - 2, j - 2] + 1)
    return int(table[-1].min())


def plainly(texts: dict[str, list[str]], weight: list[int], typed: dict[str, str]) -> list[int]:
    """All songs that fit, best first."""
    ranked = []
    for song in range(len(weight)):
        errors = unfinished = 0
        for name, text in typed.items():
            there = [w for n in ([name] if name else texts) for w in words_of(texts[n][song])]
            for word in words_of(text):
                near = [(edits(word, w), word != w) for w in there]
                near = [each for each in near if each[0] <= allowed(len(word))]
                if not near:
                    break
                errors, unfinished = errors + min(near)[0], unfinished + min(near)[1]
            else:
                continue
            break
        else:
            ranked.append((errors, unfinished, -weight[song], song))
    return [song for *_, song in sorted(ranked)]


words = st.text("abc", min_size=1, max_size=10)
texts_of_songs = st.lists(words, max_size=3).map(" ".join)


@given(
    songs=st.lists(st.tuples(texts_of_songs, texts_of_songs, st.integers(0, 3)), max_size=12),
    both=st.lists(words, max_size=2).map(" ".join),
    title=st.lists(words, max_size=2).map(" ".join),
    top=st.integers(1, 15),
)
@settings(max_examples=150, deadline=None)
def test_it_finds_what_a_plain_search_finds(songs, both, title, top) -> None:
    texts = {"artist": [a for a, _, _ in songs], "title": [t for _, t, _ in songs]}
    weight = [w for *_, w in songs]
    index = SearchIndex.of(
        {name: pa.array(each, pa.string()) for name, each in texts.items()},
        np.array(weight, np.int64),
    )
    typed = {"": both, "title": title}
    expected = plainly(texts, weight, typed) if both or title else []
    assert index.find(typed, top).tolist() == expected[:top]


SONGS = [
    ("Björk", "Jóga"),
    ("Guns N' Roses", "Don't Cry"),
    ("Sigur Rós", "Hoppípolla"),
    ("AC/DC", "T.N.T."),
    ("Кино", "Группа крови"),
    (None, None),
    ("!!!", "???"),
    ("Bjorn Again", "Waterloo"),
]


@pytest.fixture(scope="module")
def index() -> SearchIndex:
    artists, titles = ([song[i] for song in SONGS] for i in (0, 1))
    texts = {"artist": pa.array(artists, pa.string()), "title": pa.array(titles, pa.string())}
    return SearchIndex.of(texts, np.array([5, 1, 1, 1, 1, 1, 1, 9]))


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("bjork", [0, 7]),  # a letter of "bjorn" is another one
        ("BJÖRK JOGA", [0]),
        ("bjo", [7, 0]),  # both begin so: the one with more listeners first
        ("bjrok", [0]),  # neighbours that changed places; "bjorn" would take two errors
        ("dont cry", [1]),
        ("don’t", [1]),
        ("guns roses", [1]),
        ("hopipolla", [2]),
        ("ac dc", [3]),
        ("группа", [4]),
        ("кровь", [4]),  # the last letter another one
        ("cry waterloo", []),
        ("???", []),
        ("", []),
    ],
)
def test_what_people_type(index, typed, found) -> None:
    assert index.find({"": typed}, 10).tolist() == found


def test_any_text_is_searched_for_without_error(index) -> None:
    for typed in ("\ud800", "\x00", "a" * 5000, "x " * 400, "ﬁ", "\u0301", "😀 ok"):
        assert index.find({"": typed}, 5).tolist() == []


def test_no_song_is_an_index_too() -> None:
    none = pa.array([], pa.string())
    index = SearchIndex.of({"artist": none, "title": none}, np.zeros(0, np.int64))
    assert index.find({"": "anything longer"}, 3).tolist() == []
