"""How an encoder's tokenizer makes ids: the recipe for a vocabulary's words, and for texts."""

from __future__ import annotations

from collections.abc import Sequence

from fusionrec.features.lyrics.architecture import (
    config_of,
    load_tokenizer,
    position_limit,
    skeleton,
)
from fusionrec.features.lyrics.hub import local_copy, quiet_transformers
from fusionrec.features.lyrics.pieces import Recipe, recipe
from fusionrec.features.lyrics.texts import Long, TextTokenizer

_UNLIMITED, _USUAL = 1_000_000, 512
"""From so many tokens on a limit is none, and what is taken then."""


def recipe_of(name_or_dir: str, vocabulary: Sequence[str], max_tokens: int = 512) -> Recipe:
    """The recipe of an encoder, of which no weights are loaded.

    It keeps as many tokens of a text as
    :meth:`fusionrec.features.lyrics.encoder.LyricsEncoder.encode` does.

    Raises
    ------
    EncoderError
        As :func:`fusionrec.features.lyrics.encoder.load_encoder`, where config or tokenizer is at
        fault.
    """
    with quiet_transformers():
        directory = local_copy(name_or_dir)
        tokenizer = load_tokenizer(name_or_dir, directory)
        model = skeleton(name_or_dir, config_of(name_or_dir, directory))
        return recipe(tokenizer, vocabulary, min(max_tokens, position_limit(model, tokenizer)))


def text_tokenizer_of(name_or_dir: str, long: Long = "cut") -> TextTokenizer:
    """An encoder's own tokenizer for texts, to as many tokens as it has positions for.

    Those of an encoder without a limit are 512.

    Raises
    ------
    EncoderError
        As :func:`recipe_of`, and where windows are asked for that the tokenizer cannot make.
    """
    with quiet_transformers():
        directory = local_copy(name_or_dir)
        tokenizer = load_tokenizer(name_or_dir, directory)
        model = skeleton(name_or_dir, config_of(name_or_dir, directory))
        limit = position_limit(model, tokenizer)
    return TextTokenizer(tokenizer, limit if limit < _UNLIMITED else _USUAL, long).ready()
