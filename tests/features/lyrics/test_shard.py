"""A shard of bags becomes a row a song, wherever its bag lies."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from fusionrec import schemas
from fusionrec.features.lyrics.shard import lyrics_features
from fusionrec.tables import matrix

VOCABULARY = ["love", "you", "rain"]


class Encoder:
    """Counts the letters and the words of each text."""

    hidden_size = 2

    def encode(self, texts: list[str], **options: object) -> np.ndarray:
        assert options == {"pooling": "mean", "token_budget": 7}
        return np.array([[len(text), len(text.split())] for text in texts], np.float32)


def features(bags: list[tuple[str, list[int], list[int]]]) -> pa.Table:
    songs = pa.table({"song_id": ["S1", "S2", "S3", "S4"], "track_id": ["T1", "T2", "T3", "T4"]})
    columns = [list(column) for column in zip(*bags, strict=True)] or [[], [], []]
    table = pa.table(
        [columns[0], [0] * len(bags), *columns[1:]], schema=schemas.LYRICS
    )  # fmt: skip
    weights = np.array([1.0, 2.0, 0.0])
    return lyrics_features(
        songs, table, Encoder(), weights, VOCABULARY, words=1, pooling="mean", token_budget=7
    )


def test_rows_are_those_of_the_songs() -> None:
    # The most significant word of T4 is "you"; T2's only word weighs nothing.
    table = features([("T4", [0, 1], [3, 2]), ("T2", [2], [5]), ("T1", [0], [12])])
    assert table.schema == schemas.features(2)
    assert table["song_id"].to_pylist() == ["S1", "S2", "S3", "S4"]
    assert table["present"].to_pylist() == [True, False, False, True]
    expected = [[len("love:12"), 1], [0, 0], [0, 0], [len("you:2"), 1]]
    np.testing.assert_array_equal(matrix(table["vector"]), expected)


def test_a_shard_without_lyrics() -> None:
    table = features([])
    assert table["present"].to_pylist() == [False] * 4
    assert not matrix(table["vector"]).any()
