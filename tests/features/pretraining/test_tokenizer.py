"""The word-level tokenizer: ids by hand, capping by brute force, the standard file format."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Regex, normalizers
from transformers import AutoTokenizer

from fusionrec.errors import DataError
from fusionrec.features.pretraining.tokenizer import _larger_than, build_tokenizer, is_count

WORDS = ["love", "12", "d'ou", "été", "a:b"]
LOVE, TWELVE, DOU, ETE, AB = range(5, 10)
ONE = 10
"""Id of the count 1, after five special tokens and five words."""


def test_special_tokens_have_robertas_ids() -> None:
    tokenizer = build_tokenizer(WORDS, model_max_length=32)
    tokens = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    assert tokenizer.convert_tokens_to_ids(tokens) == [0, 1, 2, 3, 4]
    assert (tokenizer.cls_token_id, tokenizer.pad_token_id, tokenizer.sep_token_id) == (0, 1, 2)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.mask_token_id) == (0, 2, 4)
    assert len(tokenizer) == 5 + 5 + 20


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("love:12", [LOVE, ONE + 11]),
        ("12:12 love:1", [TWELVE, ONE + 11, LOVE, ONE]),
        ("love:20 love:21 love:1345", [LOVE, ONE + 19] * 3),
        ("nobody:3", [3, ONE + 2]),
        ("d'ou:2  été:4\na:b:5", [DOU, ONE + 1, ETE, ONE + 3, AB, ONE + 4]),
        ("love 12", [LOVE, TWELVE]),
        ("", []),
    ],
)
def test_ids_by_hand(text: str, ids: list[int]) -> None:
    tokenizer = build_tokenizer(WORDS, model_max_length=32)
    assert tokenizer(text)["input_ids"] == [0, *ids, 2]


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("love:12 12:1345", [LOVE, TWELVE]),
        ("nobody:3 d'ou:2  été:4\na:b:5", [3, DOU, ETE, AB]),
        ("love 12", [LOVE, TWELVE]),
        (":3", []),
    ],
)
def test_counts_may_be_left_out(text: str, ids: list[int], tmp_path: Path) -> None:
    tokenizer = build_tokenizer(WORDS, counts=False, model_max_length=32)
    assert len(tokenizer) == 5 + 5
    assert tokenizer(text)["input_ids"] == [0, *ids, 2]
    tokenizer.save_pretrained(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path)(text)["input_ids"] == [0, *ids, 2]


def test_saved_files_give_the_same_ids_through_autotokenizer(tmp_path: Path) -> None:
    tokenizer = build_tokenizer(WORDS, max_count=7, model_max_length=5)
    tokenizer.save_pretrained(tmp_path)
    assert {"tokenizer.json", "tokenizer_config.json"} <= {p.name for p in tmp_path.iterdir()}
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded("love:12 été:2")["input_ids"] == [0, LOVE, ONE + 6, ETE, ONE + 1, 2]
    assert loaded("love:12 été:2", truncation=True)["input_ids"] == [0, LOVE, ONE + 6, ETE, 2]
    assert loaded.model_max_length == 5
    padded = loaded(["love", "love:1"], padding=True)
    assert padded["input_ids"] == [[0, LOVE, 2, 1], [0, LOVE, ONE, 2]]
    assert padded["attention_mask"] == [[1, 1, 1, 0], [1, 1, 1, 1]]


@pytest.mark.parametrize("maximum", [1, 9, 10, 19, 20, 99, 100, 255])
def test_pattern_of_larger_numbers_against_brute_force(maximum: int) -> None:
    capped = normalizers.Replace(Regex(rf"^(?:{_larger_than(maximum)})$"), "cap")
    for number in range(1200):
        expected = "cap" if number > maximum else str(number)
        assert capped.normalize_str(str(number)) == expected


@pytest.mark.parametrize("word", ["", "two words", "love:3", "<mask>", "love"])
def test_unusable_words_are_named(word: str) -> None:
    with pytest.raises(DataError, match=r"word 1: "):
        build_tokenizer(["love", word], model_max_length=32)


def test_is_count() -> None:
    assert [is_count(t) for t in (":3", ":12", "12", "a:b", ":", "<s>")] == [True, True] + [
        False
    ] * 4


@pytest.mark.parametrize(("max_count", "length"), [(0, 32), (20, 2)])
def test_no_room_is_refused(max_count: int, length: int) -> None:
    with pytest.raises(ValueError, match="max_count must be"):
        build_tokenizer(WORDS, max_count, model_max_length=length)
