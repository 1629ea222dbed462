"""Songs by artist and title, as they are typed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fusionrec.search.edits import MOST_EDITS, allowed, prefix_edits
from fusionrec.search.words import MOST_LETTERS, folded, words_of

MOST_WORDS = 12
"""Words of a query that are looked at; those behind them are left out."""

_NONE = 255
_WHOLE, _BEGINNING = 0, 1
"""What a word of a song costs that is the one typed, or begins with it; an error costs two."""


_TOO_MUCH = 2000
_WEIGHTS = np.full(256, _TOO_MUCH, np.int16)
"""What a cost adds to a song's: any error more than all words that are not typed out; a word that
is not there more than all that can be. Twelve of these are within 16 bits."""

_WEIGHTS[: _BEGINNING + 2 * MOST_EDITS + 1] = [
    (cost // 2) * (MOST_WORDS + 1) + (cost != _WHOLE)
    for cost in range(_BEGINNING + 2 * MOST_EDITS + 1)
]


@dataclass(frozen=True)
class _Words:
    """The words of one text of every song: V distinct ones, ascending.

    Attributes
    ----------
    words
        Arrow strings.
    letters, starts
        Their letters, uint32, and where each word begins, int64 (V + 1,).
    songs, bounds
        Rows of the songs that have each word, int32, and where each word's begin, int64 (V + 1,).
    """

    words: NDArray[np.object_]
    letters: NDArray[np.uint32]
    starts: NDArray[np.int64]
    songs: NDArray[np.int32]
    bounds: NDArray[np.int64]

    @staticmethod
    def of(texts: pa.Array) -> _Words:
        lists = pc.split_pattern(folded(texts), " ")
        song = pc.list_parent_indices(lists).to_numpy().astype(np.int32)
        flat = pc.utf8_slice_codeunits(pc.list_flatten(lists), 0, MOST_LETTERS)
        coded = flat.dictionary_encode()
        distinct = np.array(coded.dictionary.to_pylist(), object)
        order = np.argsort(distinct, kind="stable") if len(distinct) else np.zeros(0, np.int64)
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        words = distinct[order]
        if len(words) and words[0] == "":  # of a text without any
            kept = place[coded.indices.to_numpy()] > 0
            of_row, song, words = place[coded.indices.to_numpy()][kept] - 1, song[kept], words[1:]
        else:
            of_row = place[coded.indices.to_numpy()]
        cells = np.sort((of_row << 32) | song)  # by word and song, each once
        cells = cells[np.diff(cells, prepend=-1) > 0]
        bounds = np.searchsorted(cells >> 32, np.arange(len(words) + 1))
        sizes = np.array([len(word) for word in words], np.int64)
        return _Words(
            words,
            _letters("".join(words)),
            np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
            (cells & 0xFFFFFFFF).astype(np.int32),
            bounds.astype(np.int64),
        )

    def costs(self, typed: str, songs: int, errors: int) -> NDArray[np.uint8]:
        """What the nearest word of each song costs, uint8 (songs,); `_NONE` where none is near."""
        found = np.full(songs, _NONE, np.uint8)
        if errors:
            edits = np.empty(len(self.words), np.uint8)
            prefix_edits(_letters(typed), self.letters, self.starts, errors, edits)
            for most in range(errors, 0, -1):
                for word in np.flatnonzero(edits == most).tolist():
                    found[self._of(word, word + 1)] = _BEGINNING + 2 * most
        first = int(np.searchsorted(self.words, typed))
        last = int(np.searchsorted(self.words, typed + chr(0x10FFFF)))
        found[self._of(first, last)] = _BEGINNING
        if first < len(self.words) and self.words[first] == typed:
            found[self._of(first, first + 1)] = _WHOLE
        return found

    def _of(self, first: int, last: int) -> NDArray[np.int32]:
        """Songs that have one of a range of words."""
        return self.songs[self.bounds[first] : self.bounds[last]]


def _letters(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "replace"), np.uint32)


@dataclass(frozen=True)
class SearchIndex:
    """Songs by the words of their texts.

    Every word that is typed must be near a word of a song's text: the word begins with it, or with
    something that is :func:`fusionrec.search.edits.allowed` errors away. All songs of which that is
    true of all words are found, and no others: no candidate is left out for speed. Letters of any
    alphabet are compared; capital letters, accents and apostrophes are not.

    Attributes
    ----------
    fields
        By the name of a text, its words.
    songs
        How many there are.
    weight
        What comes first of songs that fit equally well, int64 (songs,): the larger; then the
        catalogue's order.
    """

    fields: Mapping[str, _Words]
    songs: int
    weight: NDArray[np.int64]

    @staticmethod
    def of(texts: Mapping[str, pa.Array], weight: NDArray[np.integer[Any]]) -> SearchIndex:
        """Index the texts of all songs, one Arrow array of strings for each name."""
        fields = {name: _Words.of(each) for name, each in texts.items()}
        return SearchIndex(fields, len(weight), weight.astype(np.int64))

    def find(self, typed: Mapping[str, str], top: int) -> NDArray[np.int64]:
        """Rows of the best songs, at most `top` of them, int64.

        Those with the fewest errors come first; among them those of which more words are typed out.

        Parameters
        ----------
        typed
            What is to be in a text, by its name; under "" what may be in any. Without a word in
            any of them nothing is found.
        """
        wanted = [
            (word, [self.fields[name]] if name else [*self.fields.values()])
            for name, text in typed.items()
            for word in words_of(text)
        ][:MOST_WORDS]
        if not wanted:
            return np.zeros(0, np.int64)
        found = self._ranked(wanted, top, errors=False)
        if len(found) < top and any(allowed(len(word)) for word, _ in wanted):
            # Else the songs without an error are enough, and come before all others.
            found = self._ranked(wanted, top, errors=True)
        return found

    def _ranked(
        self, wanted: list[tuple[str, list[_Words]]], top: int, *, errors: bool
    ) -> NDArray[np.int64]:
        total = np.zeros(self.songs, np.int16)
        for word, fields in wanted:
            most = allowed(len(word)) if errors else 0
            costs = fields[0].costs(word, self.songs, most)
            for field in fields[1:]:
                np.minimum(costs, field.costs(word, self.songs, most), out=costs)
            total += _WEIGHTS[costs]
        rows = np.flatnonzero(total < _TOO_MUCH)
        if len(rows) > top:
            key = total[rows]
            worst = np.partition(key, top - 1)[top - 1]
            rows = rows[key <= worst]
        order = np.lexsort((-self.weight[rows], total[rows]))
        return rows[order][:top]
