"""Token ids of lyrics as they are written, by an encoder's own tokenizer, and windows of long ones.

A bag's words have no order, and are chosen by significance; a text is read as it stands. What is
longer than an encoder takes is cut there, or becomes windows, one behind the other, each between
the special tokens that the model wants, whose vectors become the text's.

Shapes: n texts, W windows of all texts together, H the width of a vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from fusionrec.errors import EncoderError
from fusionrec.features.lyrics.tokens import Tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Long = Literal["cut", "windows"]
"""What becomes of a text that is longer than the encoder takes."""


@dataclass(frozen=True)
class Windows:
    """Texts as an encoder takes them.

    Attributes
    ----------
    tokens
        Of each window, special ones included.
    of
        The text that each window is of, int64, shape (W,), ascending. A text without a token of
        its own has no window.
    longer
        Texts that are longer than the encoder takes.
    """

    tokens: Tokens
    of: NDArray[np.int64]
    longer: int


@dataclass(frozen=True)
class TextTokenizer:
    """An encoder's tokenizer of texts.

    Attributes
    ----------
    tokenizer
        Of transformers.
    max_tokens
        Tokens of a window, special ones included, at most.
    long
        `cut`: of a longer text the tokenizer's own cut. `windows`: all of it.
    """

    tokenizer: PreTrainedTokenizerBase
    max_tokens: int
    long: Long = "cut"

    def __call__(self, texts: Sequence[str]) -> Windows:
        """The windows of texts.

        Raises
        ------
        EncoderError
            Windows are asked for, and the tokenizer does not put a text between special tokens.
        """
        whole = self._ids(texts) if texts else []
        special = self.tokenizer.num_special_tokens_to_add()
        longer = [i for i, ids in enumerate(whole) if len(ids) > self.max_tokens]
        parts = {i: self._windows(whole[i]) for i in longer if self.long == "windows"}
        if longer and self.long == "cut":
            cut = self.tokenizer(
                [texts[i] for i in longer], truncation=True, max_length=self.max_tokens
            )
            parts = {i: [ids] for i, ids in zip(longer, cut["input_ids"], strict=True)}
        windows = [parts.get(i, [ids] if len(ids) > special else []) for i, ids in enumerate(whole)]
        return Windows(
            Tokens.of([ids for each in windows for ids in each]),
            np.repeat(np.arange(len(texts)), [len(each) for each in windows]),
            len(longer),
        )

    def ready(self) -> TextTokenizer:
        """The same, found able to do what is asked of it, before there is a long text.

        Raises
        ------
        EncoderError
            As a call.
        """
        if self.long == "windows":
            _ = self._ends
        return self

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Of whole texts, however long."""
        # Said to be quiet: it would warn of texts longer than the model takes.
        ids: list[list[int]] = self.tokenizer(list(texts), truncation=False, verbose=False)[
            "input_ids"
        ]
        return ids

    def _windows(self, ids: list[int]) -> list[list[int]]:
        before, after = self._ends
        body = ids[len(before) : len(ids) - len(after)]
        room = max(1, self.max_tokens - len(before) - len(after))
        starts = range(0, len(body), room)
        return [[*before, *body[start : start + room], *after] for start in starts]

    @cached_property
    def _ends(self) -> tuple[list[int], list[int]]:
        """Special tokens that begin and end a text."""
        bare = self.tokenizer("a", add_special_tokens=False)["input_ids"]
        ids = self.tokenizer("a")["input_ids"]
        at = next((i for i in range(len(ids)) if ids[i : i + len(bare)] == bare), None)
        if not bare or at is None:
            raise EncoderError(
                f"embed.lyrics.long = windows: {type(self.tokenizer).__name__} does not put a text "
                "between special tokens, so that windows of it cannot be; set "
                "embed.lyrics.long=cut, or take another encoder"
            )
        return ids[:at], ids[at + len(bare) :]


def averaged(
    rows: NDArray[np.int64], lengths: NDArray[np.int64], found: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Vectors of songs from those of their windows: the mean, weighted by the windows' tokens.

    Parameters
    ----------
    rows
        The song of each window, shape (W,).
    lengths
        Tokens of each window, special ones included, shape (W,); so that means over tokens become
        the mean over all of them.
    found
        Shape (W, H).

    Returns
    -------
    tuple
        The songs, each once, and their vectors, float32. Where no song has two windows they are
        `rows` and `found` themselves.
    """
    songs, at = np.unique(rows, return_inverse=True)
    if len(songs) == len(rows):
        return rows, found
    weights = lengths / np.bincount(at, lengths)[at]
    means = csr_array((weights, (at, np.arange(len(rows)))), shape=(len(songs), len(rows)))
    return songs, np.asarray(means @ found.astype(np.float64), np.float32)
