"""A shard's bags become batches of tokens, and a row a song, wherever its bag lies."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from fusionrec import schemas
from fusionrec.features.lyrics.pieces import WordTokenizer, recipe
from fusionrec.features.lyrics.shard import Prepared, features, prepare
from fusionrec.features.pretraining.tokenizer import build_tokenizer
from fusionrec.tables import matrix

VOCABULARY = ["love", "you", "rain"]
SONGS = pa.table({"song_id": ["S1", "S2", "S3", "S4"], "track_id": ["T1", "T2", "T3", "T4"]})
TOKENIZER = build_tokenizer(VOCABULARY, model_max_length=64)


def prepared(bags: list[tuple[str, list[int], list[int]]], words: int, budget: int) -> Prepared:
    columns = [list(column) for column in zip(*bags, strict=True)] or [[], [], []]
    table = pa.table(
        [columns[0], [0] * len(bags), *columns[1:]], schema=schemas.LYRICS
    )  # fmt: skip
    tokenize = WordTokenizer(recipe(TOKENIZER, VOCABULARY, 64))
    weights = np.array([1.0, 2.0, 0.0])
    return prepare(SONGS, table, tokenize, weights, words=words, token_budget=budget)


def ids(text: str) -> list[int]:
    return TOKENIZER(text)["input_ids"]


def test_rows_are_those_of_the_songs() -> None:
    # The most significant word of T4 is "you"; T2's only word weighs nothing.
    bags = [("T4", [0, 1], [3, 2]), ("T2", [2], [5]), ("T1", [0], [12])]
    found = prepared(bags, words=1, budget=100)
    assert [row.tolist() for row in found.batches.tokens] == [ids("you:2"), ids("love:12")]
    assert found.rows.tolist() == [3, 0]
    table = features(SONGS["song_id"].combine_chunks(), found.rows, np.array([[7, 1], [9, 2]]))
    assert table.schema == schemas.features(2)
    assert table["song_id"].to_pylist() == ["S1", "S2", "S3", "S4"]
    assert table["present"].to_pylist() == [True, False, False, True]
    np.testing.assert_array_equal(matrix(table["vector"]), [[9, 2], [0, 0], [0, 0], [7, 1]])


def test_the_longest_texts_are_first_and_batches_keep_to_the_budget() -> None:
    bags = [("T1", [0], [1]), ("T3", [0, 1], [1, 2]), ("T4", [1], [1]), ("T2", [1, 0], [4, 4])]
    found = prepared(bags, words=9, budget=2 * len(ids("love:1 you:2")))
    assert found.rows.tolist() == [2, 1, 0, 3]
    assert found.batches.cuts.tolist() == [0, 2, 4]
    assert [len(rows) for _, rows in found.batches] == [2, 2]


def test_a_shard_without_lyrics() -> None:
    found = prepared([], words=1, budget=100)
    assert list(found.batches) == []
    nothing = np.zeros((0, 2), np.float32)
    table = features(SONGS["song_id"].combine_chunks(), found.rows, nothing)
    assert table["present"].to_pylist() == [False] * 4
    assert not matrix(table["vector"]).any()
