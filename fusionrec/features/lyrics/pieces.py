"""Token ids of texts ``word:count word:count ...`` without the texts: each distinct piece once.

A corpus of a quarter of a million songs has thirty million pieces, but only some hundred
thousand distinct ones. What a worker needs for it is small and read without transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fusionrec.features.lyrics.tfidf import ChosenWords
from fusionrec.features.lyrics.tokens import Tokens, bounds_of, ragged

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_MAX_PIECES = 1_000_000
"""Pieces remembered, about 40 bytes each."""

_WORDS_A_TRIAL = 32
"""Of each text on which piece by piece and whole are compared before the former is believed."""

_COUNTS_TRIED = 130


@dataclass(frozen=True)
class Recipe:
    """How texts of a vocabulary's words become token ids.

    Attributes
    ----------
    vocabulary
        The words, by position.
    max_tokens
        Tokens of a text that are kept, special ones included.
    content
        The tokenizer as JSON of the library tokenizers; a tokenizer of transformers where whole
        texts have to be tokenised.
    before, after
        Special tokens that begin and end each text.
    """

    vocabulary: Sequence[str]
    max_tokens: int
    content: str | PreTrainedTokenizerBase
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()

    @property
    def by_piece(self) -> bool:
        """Whether a text's ids are those of its pieces, one behind the other."""
        return isinstance(self.content, str)


def recipe(
    tokenizer: PreTrainedTokenizerBase, vocabulary: Sequence[str], max_tokens: int
) -> Recipe:
    """The recipe for a tokenizer, by pieces if that gives what the tokenizer gives for whole texts.

    Whether the two agree depends on the tokenizer, and is tried on every word of the vocabulary:
    they do where spaces separate what it looks at (byte-level BPE such as RoBERTa's, WordPiece,
    words). If they do not, whole texts are tokenised.
    """
    whole = Recipe(vocabulary, max_tokens, tokenizer)
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or not vocabulary:
        return whole
    bare = replace(whole, content=str(backend.to_str()))
    sample = f"{vocabulary[0]}:1"
    piece = WordTokenizer(bare).ids_of([sample])[0]
    ids = _whole(tokenizer, [sample], len(piece) + 16)[0]
    at = next((i for i in range(len(ids)) if ids[i : i + len(piece)] == piece), None)
    if not piece or at is None:
        return whole
    found = replace(bare, before=tuple(ids[:at]), after=tuple(ids[at + len(piece) :]))
    special = len(found.before) + len(found.after)
    words = np.arange(len(vocabulary), dtype=np.int32)
    for order in (words, words[::-1]):  # so that other words are first in their texts
        starts = np.arange(0, len(order), _WORDS_A_TRIAL)
        counts = order.astype(np.int64) % _COUNTS_TRIED + 1
        chosen = ChosenWords(order, counts, np.append(starts, len(order)))
        texts = chosen.texts(vocabulary)
        for length in {max_tokens, min(max_tokens, special + 8)}:
            tokens = WordTokenizer(replace(found, max_tokens=length))(chosen)
            if [row.tolist() for row in tokens] != _whole(tokenizer, texts, length):
                return whole
    return found


def _whole(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], length: int
) -> list[list[int]]:
    ids: list[list[int]] = tokenizer(list(texts), truncation=True, max_length=length)["input_ids"]
    return ids


class WordTokenizer:
    """Chosen words into token ids, by a recipe; it remembers the pieces that it has seen."""

    def __init__(self, how: Recipe) -> None:
        self._how = how
        self._room = how.max_tokens - len(how.before) - len(how.after)
        self._forget()

    def _forget(self) -> None:
        self._keys = np.zeros(0, np.int64)
        """Of the pieces, ascending; `_starts` and `_lengths` say where in `_ids` each lies."""
        self._starts, self._lengths = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self._ids = np.zeros(0, np.int32)

    def __call__(self, chosen: ChosenWords) -> Tokens:
        """Ids of each bag's text, special tokens included; each bag has a word."""
        how = self._how
        if not how.by_piece:
            assert not isinstance(how.content, str)
            texts = chosen.texts(how.vocabulary)
            return Tokens.of(_whole(how.content, texts, how.max_tokens) if texts else [])
        at = self._pieces(chosen)
        starts, lengths = self._starts[at], self._lengths[at]
        # Of a text that is longer than what is kept, the pieces behind that have no room.
        ends = bounds_of(lengths)
        pieces = np.diff(chosen.bounds)
        within = ends[:-1] - np.repeat(ends[chosen.bounds[:-1]], pieces)
        lengths = np.clip(self._room - within, 0, lengths)
        kept = bounds_of(lengths)[chosen.bounds]
        before, after = len(how.before), len(how.after)
        bounds = bounds_of(np.diff(kept) + before + after)
        ids = np.empty(bounds[-1], np.int32)
        ordinary = np.ones(bounds[-1], bool)
        for place, token in enumerate(how.before):
            ids[bounds[:-1] + place] = token
            ordinary[bounds[:-1] + place] = False
        for place, token in enumerate(how.after):
            ids[bounds[1:] - after + place] = token
            ordinary[bounds[1:] - after + place] = False
        ids[ordinary] = self._ids[ragged(starts, lengths)]
        return Tokens(ids, bounds)

    def _pieces(self, chosen: ChosenWords) -> NDArray[np.int64]:
        """The place of each word's piece among those that are remembered."""
        # A piece that begins a text stands without the space that others follow.
        first = np.zeros(len(chosen.words), np.int64)
        first[chosen.bounds[:-1]] = 1
        keys = (chosen.words.astype(np.int64) << 32 | chosen.counts) << 1 | first
        wanted, inverse = np.unique(keys, return_inverse=True)
        if len(self._keys) > _MAX_PIECES:
            self._forget()
        self._learn(np.setdiff1d(wanted, self._keys, assume_unique=True))
        places: NDArray[np.int64] = np.asarray(np.searchsorted(self._keys, wanted), np.int64)
        return places[inverse]

    def _learn(self, keys: NDArray[np.int64]) -> None:
        if not len(keys):
            return
        words, counts = (keys >> 33).tolist(), (keys >> 1 & 0xFFFFFFFF).tolist()
        found = Tokens.of(
            self.ids_of(
                [
                    f"{'' if key & 1 else ' '}{self._how.vocabulary[word]}:{count}"
                    for key, word, count in zip(keys.tolist(), words, counts, strict=True)
                ]
            )
        )
        everything = np.concatenate([self._keys, keys])
        order = np.argsort(everything, kind="stable")
        starts = np.concatenate([self._starts, found.bounds[:-1] + len(self._ids)])
        self._keys, self._starts = everything[order], starts[order]
        self._lengths = np.concatenate([self._lengths, found.lengths])[order]
        self._ids = np.concatenate([self._ids, found.ids])

    def ids_of(self, pieces: Sequence[str]) -> list[list[int]]:
        """Ids of pieces, without special tokens."""
        encodings = self._backend.encode_batch_fast(list(pieces), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    @cached_property
    def _backend(self) -> Any:
        from tokenizers import Tokenizer

        backend = Tokenizer.from_str(self._how.content)
        backend.no_truncation()
        backend.no_padding()
        return backend
