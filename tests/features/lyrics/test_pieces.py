"""Token ids put together from pieces equal those of whole texts, or whole texts are tokenised."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import (
    BertWordPieceTokenizer,
    ByteLevelBPETokenizer,
    Tokenizer,
    models,
    pre_tokenizers,
    processors,
)
from transformers import BertTokenizerFast, PreTrainedTokenizerFast, RobertaTokenizerFast

from fusionrec.features.lyrics import pieces as pieces_module
from fusionrec.features.lyrics.pieces import Recipe, WordTokenizer, recipe
from fusionrec.features.lyrics.tfidf import ChosenWords
from fusionrec.features.pretraining.tokenizer import build_tokenizer

WORDS = ["love", "you", "été", "d'amour", "n", "nation", "'s", "12", "ça", "nie", "x", "goin'"]
KINDS = ("byte-level BPE", "WordPiece", "words")


def _tokenizer(kind: str) -> Any:
    text = " ".join(f"{word}:{i}" for i, word in enumerate(WORDS[:9])) * 3
    if kind == "byte-level BPE":
        trained = ByteLevelBPETokenizer()
        trained.train_from_iterator(
            [text],
            vocab_size=320,
            special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
            show_progress=False,
        )
        backend = Tokenizer.from_str(trained.to_str())
        backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
        return RobertaTokenizerFast(tokenizer_object=backend)
    if kind == "WordPiece":
        wordpiece = BertWordPieceTokenizer()
        wordpiece.train_from_iterator([text], vocab_size=60, show_progress=False)
        return BertTokenizerFast(tokenizer_object=Tokenizer.from_str(wordpiece.to_str()))
    return build_tokenizer(WORDS, model_max_length=64)


TOKENIZERS = {kind: _tokenizer(kind) for kind in KINDS}


def chosen_words(bags: list[list[tuple[int, int]]]) -> ChosenWords:
    """Of bags of a word's position and its count."""
    flat = np.array([pair for bag in bags for pair in bag], np.int64).reshape(-1, 2)
    bounds = np.cumsum([0, *map(len, bags)])
    return ChosenWords(flat[:, 0].astype(np.int32), flat[:, 1], bounds)


def whole(tokenizer: Any, chosen: ChosenWords, length: int) -> list[list[int]]:
    texts = chosen.texts(WORDS)
    return tokenizer(texts, truncation=True, max_length=length)["input_ids"]


def ids(how: Recipe, chosen: ChosenWords) -> list[list[int]]:
    tokens = WordTokenizer(how)(chosen)
    assert tokens.ids.dtype == np.int32
    return [row.tolist() for row in tokens]


bags_of_words = st.lists(
    st.lists(
        st.tuples(st.integers(0, len(WORDS) - 1), st.integers(1, 40_000)), min_size=1, max_size=12
    ),
    min_size=1,
    max_size=8,
).map(chosen_words)


@pytest.mark.parametrize("kind", KINDS)
@given(chosen=bags_of_words, length=st.integers(3, 64))
@settings(max_examples=60, deadline=None)
def test_pieces_equal_whole_texts(kind: str, chosen: ChosenWords, length: int) -> None:
    tokenizer = TOKENIZERS[kind]
    how = recipe(tokenizer, WORDS, length)
    assert how.by_piece
    assert ids(how, chosen) == whole(tokenizer, chosen, length)


@pytest.mark.parametrize("kind", KINDS)
def test_a_recipe_travels_and_its_pieces_are_remembered(kind: str) -> None:
    """As JSON of the library tokenizers, so that a worker needs no transformers for it."""
    tokenizer = TOKENIZERS[kind]
    tokenize = WordTokenizer(pickle.loads(pickle.dumps(recipe(tokenizer, WORDS, 64))))
    first = chosen_words([[(0, 2), (1, 3)], [(1, 3)]])
    asked: list[str] = []
    ids_of = tokenize.ids_of
    tokenize.ids_of = lambda pieces: asked.extend(pieces) or ids_of(pieces)  # type: ignore
    for chosen in (first, chosen_words([[(1, 3), (1, 3)]]), first):
        found = [row.tolist() for row in tokenize(chosen)]
        assert found == whole(tokenizer, chosen, 64)
    assert sorted(asked) == [" you:3", "love:2", "you:3"]


def test_a_tokenizer_that_looks_across_spaces_is_given_whole_texts() -> None:
    backend = Tokenizer(models.WordLevel({"love:2 you:3": 0, "x:1": 1, "?": 2}, unk_token="?"))
    # Splits at commas only, so that a piece is no unit.
    backend.pre_tokenizer = pre_tokenizers.CharDelimiterSplit(",")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="?")
    how = recipe(tokenizer, WORDS, 8)
    assert not how.by_piece
    chosen = chosen_words([[(0, 2), (1, 3)], [(10, 1)]])
    assert ids(how, chosen) == whole(tokenizer, chosen, 8) == [[0], [1]]
    assert ids(how, chosen_words([])) == []


def test_a_tokenizer_that_cuts_on_the_left_is_given_whole_texts() -> None:
    tokenizer = _tokenizer("byte-level BPE")
    tokenizer.truncation_side = "left"
    how = recipe(tokenizer, WORDS, 12)
    chosen = chosen_words([[(i, 5) for i in range(9)]])
    assert not how.by_piece
    assert ids(how, chosen) == whole(tokenizer, chosen, 12)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces_module, "_MAX_PIECES", 5)
    tokenizer = TOKENIZERS["words"]
    tokenize = WordTokenizer(recipe(tokenizer, WORDS, 64))
    for count in range(1, 20):
        chosen = chosen_words([[(0, count), (1, count)]])
        assert [row.tolist() for row in tokenize(chosen)] == whole(tokenizer, chosen, 64)
        assert len(tokenize._keys) <= 5 + 2
