"""Tokenising by pieces equals tokenising whole texts, or is not done."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import ByteLevelBPETokenizer, Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, RobertaTokenizerFast

from fusionrec.features.lyrics import pieces as pieces_module
from fusionrec.features.lyrics.pieces import PieceTokenizer
from fusionrec.features.pretraining.tokenizer import build_tokenizer

WORDS = ["love", "you", "été", "d'amour", "n", "nation", "'s", "12", "ça"]


@pytest.fixture(scope="module")
def roberta() -> RobertaTokenizerFast:
    """Byte-level BPE as RoBERTa's, trained on little."""
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(
        [" ".join(f"{word}:{i}" for i, word in enumerate(WORDS)) * 3],
        vocab_size=320,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        show_progress=False,
    )
    backend = Tokenizer.from_str(trained.to_str())
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return RobertaTokenizerFast(tokenizer_object=backend)


@pytest.fixture(scope="module")
def by_word() -> Any:
    return build_tokenizer(WORDS, model_max_length=64)


def whole(tokenizer: Any, texts: list[str], length: int) -> list[list[int]]:
    return tokenizer(texts, truncation=True, max_length=length)["input_ids"]


texts_of_pairs = st.lists(
    st.lists(
        st.tuples(st.sampled_from([*WORDS, "nie", "x"]), st.integers(1, 130)),
        min_size=1,
        max_size=12,
    ).map(lambda pairs: " ".join(f"{word}:{count}" for word, count in pairs)),
    min_size=1,
    max_size=8,
)


@pytest.mark.parametrize("which", ["roberta", "by_word"])
@given(texts=texts_of_pairs, length=st.integers(3, 64))
@settings(max_examples=60, deadline=None)
def test_pieces_equal_whole_texts(
    which: str, roberta: Any, by_word: Any, texts: list[str], length: int
) -> None:
    tokenizer = {"roberta": roberta, "by_word": by_word}[which]
    tokenize = PieceTokenizer(tokenizer)
    assert tokenize(texts, length) == whole(tokenizer, texts, length)
    assert tokenize.by_piece
    assert tokenize(texts[::-1], 64) == whole(tokenizer, texts[::-1], 64)


def test_odd_spaces(roberta: Any) -> None:
    texts = ["love:1  you:2", " love:1", "love:1 ", "love:1\nyou:2"]
    tokenize = PieceTokenizer(roberta)
    assert tokenize(texts, 64) == whole(roberta, texts, 64)


def test_a_tokenizer_that_looks_across_spaces_is_given_whole_texts() -> None:
    backend = Tokenizer(models.WordLevel({"a b": 0, "c": 1, "?": 2}, unk_token="?"))
    # Splits at commas only, so that a piece is no unit.
    backend.pre_tokenizer = pre_tokenizers.CharDelimiterSplit(",")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="?")
    tokenize = PieceTokenizer(tokenizer)
    texts = ["a b,c", "c"]
    assert tokenize(texts, 8) == whole(tokenizer, texts, 8) == [[0, 1], [1]]
    assert tokenize.by_piece is False


def test_memory_is_bounded(by_word: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces_module, "_MAX_PIECES", 5)
    tokenize = PieceTokenizer(by_word)
    for count in range(1, 20):
        texts = [f"love:{count} you:{count}"]
        assert tokenize(texts, 64) == whole(by_word, texts, 64)
        assert len(tokenize._ids) <= 5 + 2
