"""Tokenising texts ``word:count word:count ...`` piece by piece, each distinct piece once.

A corpus of a quarter of a million songs has thirty million pieces, but only some hundred
thousand distinct ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_MAX_PIECES = 1_000_000
"""Pieces remembered, about 150 bytes each."""

_TRIAL = 32
"""Texts on which piece by piece and whole are compared before the former is believed."""


class PieceTokenizer:
    """A tokenizer's ids of whole texts, special tokens included, put together from pieces.

    Whether the two agree depends on the tokenizer, and is tried at first use: they do where
    spaces separate what it looks at (byte-level BPE such as RoBERTa's, WordPiece, words). If
    they do not, whole texts are tokenised.

    Attributes
    ----------
    by_piece
        Whether pieces are used; None before the first use.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.by_piece: bool | None = None
        self._tokenizer = tokenizer
        # A piece that begins a text stands without the space that others follow.
        self._ids: dict[str, list[int]] = {}
        self._before: list[int] = []
        self._after: list[int] = []

    def __call__(self, texts: Sequence[str], max_length: int) -> list[list[int]]:
        """Ids of each text, of which the first `max_length`, special ones included, are kept."""
        if self.by_piece is None and texts:
            self.by_piece = self._agrees(texts[:_TRIAL], max_length)
        return self._pieces(texts, max_length) if self.by_piece else self._whole(texts, max_length)

    def _whole(self, texts: Sequence[str], max_length: int) -> list[list[int]]:
        ids: list[list[int]] = self._tokenizer(list(texts), truncation=True, max_length=max_length)[
            "input_ids"
        ]
        return ids

    def _agrees(self, texts: Sequence[str], max_length: int) -> bool:
        sample = texts[0].split(" ")[0]
        bare = self._bare([sample])[0]
        whole = self._whole([sample], len(bare) + 16)[0]
        at = next((i for i in range(len(whole)) if whole[i : i + len(bare)] == bare), None)
        if not bare or at is None:
            return False
        self._before, self._after = whole[:at], whole[at + len(bare) :]
        return all(
            self._pieces(texts, length) == self._whole(texts, length)
            for length in (max_length, min(max_length, 10))
        )

    def _bare(self, pieces: Sequence[str]) -> list[list[int]]:
        ids: list[list[int]] = self._tokenizer(list(pieces), add_special_tokens=False)["input_ids"]
        return ids

    def _pieces(self, texts: Sequence[str], max_length: int) -> list[list[int]]:
        cut = [text.replace(" ", "\n ").split("\n") for text in texts]
        if len(self._ids) > _MAX_PIECES:
            self._ids.clear()
        unknown = list({piece for pieces in cut for piece in pieces} - self._ids.keys())
        if unknown:
            self._ids |= zip(unknown, self._bare(unknown), strict=True)
        room = max_length - len(self._before) - len(self._after)
        of = self._ids.__getitem__
        return [
            self._before + list(chain.from_iterable(map(of, pieces)))[:room] + self._after
            for pieces in cut
        ]
