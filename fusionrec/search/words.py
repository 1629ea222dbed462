"""Texts as words: what is compared when a song is searched for."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

MOST_LETTERS = 64
"""Letters of a word that are compared; what is behind them is cut off, in texts and in queries."""


def folded(texts: pa.Array) -> pa.Array:
    """Texts in small letters without accents, by words with one space between them.

    An apostrophe joins what is around it ("don't" is "dont"); anything else that is neither letter
    nor digit parts words. A null is a text without words.
    """
    found = pc.utf8_normalize(texts.cast(pa.large_string()).fill_null(""), "NFKD")
    found = pc.replace_substring_regex(found, r"[\p{M}'’ʼ`]+", "")
    found = pc.utf8_lower(found)
    found = pc.replace_substring_regex(found, r"[^\p{L}\p{N}]+", " ")
    return pc.utf8_trim(found, " ")


def words_of(text: str) -> list[str]:
    """The words of one text, in its order."""
    sound = text.encode(errors="replace").decode()  # JSON can spell halves of a letter
    found: list[str] = folded(pa.array([sound]))[0].as_py().split()
    return [word[:MOST_LETTERS] for word in found]
