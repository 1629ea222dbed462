"""A word-level tokenizer over the lyrics' own vocabulary, for texts ``word:count word:count``.

The paper (section 3.1.5) gives the encoder the significant words of a song as
"word:count". A subword tokenizer cuts the stemmed words of the musiXmatch
vocabulary into arbitrary pieces; an encoder that is pretrained on the corpus can
have one token a word instead, and one token a count.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from fusionrec.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
"""In the order of their ids; the first four are RoBERTa's ids, ``<mask>`` is its last id there."""

_COUNT = re.compile(r":\d+$")


def build_tokenizer(
    vocabulary: Sequence[str],
    max_count: int = 20,
    *,
    counts: bool = True,
    model_max_length: int,
) -> PreTrainedTokenizerFast:
    """Tokenizer with one token a word and, unless left out, one a count (paper section 3.1.5).

    ``"love:12 you:3"`` becomes ``<s> love :12 you :3 </s>``. The colon stays with the count,
    so the count of ``love:12`` and the word of ``12:1`` are different tokens. A word outside
    the vocabulary becomes ``<unk>``, its count stays. Without `counts` the same text becomes
    ``<s> love you </s>``, for an encoder that could not tell whose count a count is.

    Parameters
    ----------
    vocabulary
        The words; word i gets the id ``5 + i``, the count c the id ``4 + len(vocabulary) + c``.
    max_count
        Largest count with a token of its own; larger ones become ``:max_count``.
    counts
        Whether counts become tokens; else they are dropped.
    model_max_length
        Tokens, special ones included, at which a text is cut when asked to.

    Returns
    -------
    PreTrainedTokenizerFast
        Its `save_pretrained` writes the standard files, which AutoTokenizer reads.

    Raises
    ------
    DataError
        A word is empty, repeated, holds white space, or reads like a special token or a count.
    ValueError
        `max_count` or `model_max_length` leaves room for no count or no word.
    """
    from transformers import PreTrainedTokenizerFast

    if max_count < 1 or model_max_length < 3:
        raise ValueError(
            f"max_count must be 1 or more and model_max_length 3 or more, "
            f"not {max_count} and {model_max_length}"
        )
    tokens = [*SPECIAL_TOKENS, *_checked(vocabulary)]
    if counts:
        tokens += [f":{count}" for count in range(1, max_count + 1)]
        unwanted, instead = rf":(?:{_larger_than(max_count)})(?=\s|$)", f":{max_count}"
    else:
        unwanted, instead = r":\d+(?=\s|$)", ""
    ids = {token: index for index, token in enumerate(tokens)}

    backend = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    backend.normalizer = normalizers.Replace(Regex(unwanted), instead)
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex(_COUNT.pattern), "isolated")]
    )
    backend.post_processor = processors.RobertaProcessing(
        ("</s>", ids["</s>"]), ("<s>", ids["<s>"]), trim_offsets=False, add_prefix_space=False
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=model_max_length,
        padding_side="right",
        model_input_names=["input_ids", "attention_mask"],
        bos_token="<s>",
        cls_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        sep_token="</s>",
        unk_token="<unk>",
        mask_token="<mask>",
    )


def is_count(token: str) -> bool:
    """Whether a token stands for a count, such as ``:3``, and not for a word."""
    return _COUNT.fullmatch(token) is not None


def _checked(vocabulary: Sequence[str]) -> Sequence[str]:
    """`vocabulary`, or the error that names its first unusable word."""
    seen = set(SPECIAL_TOKENS)
    for position, word in enumerate(vocabulary):
        fault = (
            "is empty or holds white space"
            if word.split() != [word]
            else "reads like a count"
            if _COUNT.search(word)
            else "is there twice or is a special token"
            if word in seen
            else None
        )
        if fault:
            raise DataError(
                f"lyrics vocabulary, word {position}: {word!r} {fault}; "
                f"correct the word list of the musiXmatch files in source.lyrics"
            )
        seen.add(word)
    return vocabulary


def _larger_than(maximum: int) -> str:
    """Regular expression of the decimal numbers, without leading zeros, above `maximum`."""
    digits = str(maximum)
    longer = rf"[1-9]\d{{{len(digits)},}}"
    as_long = [
        rf"{digits[:i]}[{int(digit) + 1}-9]\d{{{len(digits) - i - 1}}}"
        for i, digit in enumerate(digits)
        if digit != "9"
    ]
    return "|".join([longer, *as_long])
