"""Lyrics as they are written: what transformers' own forward pass makes of the same text."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from fusionrec import schemas
from fusionrec.errors import EncoderError
from fusionrec.features.lyrics import recipes
from fusionrec.features.lyrics.check import check_encoder
from fusionrec.features.lyrics.encoder import load_encoder
from fusionrec.features.lyrics.pieces import WordTokenizer
from fusionrec.features.lyrics.recipes import recipe_of, text_tokenizer_of
from fusionrec.features.lyrics.shard import Prepared, features, prepare
from fusionrec.features.lyrics.texts import Long, TextTokenizer, averaged
from fusionrec.features.lyrics.tokens import cut
from fusionrec.tables import matrix
from tests.features.lyrics.pretrained import cosines, transformers_vectors
from tests.features.lyrics.small_encoder import POSITIONS, without_ends, write_encoder

VOCABULARY = ["love", "you", "rain"]
SONGS = pa.table({"song_id": [f"S{i}" for i in range(7)], "track_id": [f"T{i}" for i in range(7)]})
TEXTS = {
    "T5": "Love, you and the rain\nand love again",
    "T0": "d'amour, été: " * 30,
    "T3": "you",
    "T2": " \u00a0\n\t",
    "T6": "Night and heart and dance, " * 13 + "愛の雨",
}
BAGS = {"T0": [0, 1], "T1": [2, 0], "T2": [1], "T3": [1], "T5": [0, 2]}
"""T1 has a bag alone, T2's text is blank, T4 has nothing, T6's words are unknown."""


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("encoder"))


def prepared(place: Path, long: Long, *, as_text: bool = True, budget: int = 100) -> Prepared:
    bags = pa.table(
        [list(BAGS), [0] * len(BAGS), list(BAGS.values()), [[2] * len(b) for b in BAGS.values()]],
        schema=schemas.LYRICS,
    )
    texts = pa.table([[*TEXTS, "T1"], [*TEXTS.values(), None]], schema=schemas.LYRICS_TEXT)
    return prepare(
        SONGS,
        bags,
        WordTokenizer(recipe_of(str(place), VOCABULARY)),
        np.ones(3),
        token_budget=budget,
        texts=texts if as_text else None,
        read=text_tokenizer_of(str(place), long) if as_text else None,
    )


def encoded(place: Path, found: Prepared, pooling: str) -> tuple[np.ndarray, list[bool]]:
    encoder = load_encoder(str(place), dtype="float32")
    (vectors,) = encoder.encode_batches([found.batches], pooling=pooling)
    table = features(
        SONGS["song_id"].combine_chunks(), found.rows, vectors, found.batches.tokens.lengths
    )
    return matrix(table["vector"]), table["present"].to_pylist()


def plain(place: Path, text: str, pooling: str, limit: int) -> np.ndarray:
    """Window by window through transformers' own modules, and the mean by their tokens."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(place)
    model = transformers.AutoModel.from_pretrained(place, dtype=torch.float32).eval()
    body = tokenizer(text, add_special_tokens=False)["input_ids"]
    room = limit - 2
    total, tokens = 0.0, 0
    while body:
        window = [tokenizer.cls_token_id, *body[:room], tokenizer.sep_token_id]
        body = body[room:]
        with torch.no_grad():
            states = model(input_ids=torch.tensor([window])).last_hidden_state[0].double()
        vector = {"cls": states[0], "last": states[-1], "mean": states.mean(0)}[pooling]
        total, tokens = total + len(window) * vector.numpy(), tokens + len(window)
    return total / tokens


@pytest.mark.parametrize("pooling", ["cls", "mean", "last"])
def test_texts_are_what_transformers_makes_of_them(small, pooling) -> None:
    """Cut at the encoder's positions; a song without a text goes by the words of its bag."""
    found = prepared(small, "cut")
    vectors, present = encoded(small, found, pooling)
    assert present == [True, True, True, True, False, True, True]
    assert (found.as_text, found.longer) == (4, 2)
    texts = [TEXTS["T0"], TEXTS["T3"], TEXTS["T5"], TEXTS["T6"]]
    expected = transformers_vectors(small, texts, [pooling], max_length=POSITIONS)[pooling]
    np.testing.assert_allclose(vectors[[0, 3, 5, 6]], expected, atol=2e-5)
    alone, there = encoded(small, prepared(small, "cut", as_text=False), pooling)
    np.testing.assert_allclose(vectors[[1, 2]], alone[[1, 2]], atol=2e-5)
    assert there == [True, True, True, True, False, True, False]


@pytest.mark.parametrize("pooling", ["cls", "mean", "last"])
def test_windows_are_those_of_a_plain_loop(small, pooling) -> None:
    vectors, present = encoded(small, prepared(small, "windows"), pooling)
    assert present == [True, True, True, True, False, True, True]
    for row, track in ((0, "T0"), (3, "T3"), (5, "T5"), (6, "T6")):
        expected = plain(small, TEXTS[track], pooling, POSITIONS)
        np.testing.assert_allclose(vectors[row], expected, atol=2e-5)
    cut, _ = encoded(small, prepared(small, "cut"), pooling)
    np.testing.assert_allclose(vectors[[1, 2, 3, 5]], cut[[1, 2, 3, 5]], atol=2e-5)
    assert (np.abs(vectors[[0, 6]] - cut[[0, 6]]).max(axis=1) > 1e-2).all()


@pytest.mark.parametrize("long", ["cut", "windows"])
def test_batches_keep_to_the_budget_and_vectors_to_their_songs(small, long) -> None:
    whole, small_ones = (prepared(small, long, budget=budget) for budget in (10_000, 50))
    assert len(whole.batches.cuts) == 2 < len(small_ones.batches.cuts)
    for _, rows in small_ones.batches:
        assert len(rows) == 1 or len(rows) * rows.lengths.max() <= 50
    one, other = (encoded(small, found, "mean")[0] for found in (whole, small_ones))
    np.testing.assert_allclose(one, other, atol=2e-5)


@pytest.mark.parametrize("long", ["cut", "windows"])
def test_a_real_encoder_reads_texts(minilm, long) -> None:
    """Its tokenizer's file has a cut at 128 tokens and padding to 128 switched on."""
    lines = "Don't stop believin', hold on to that feelin' — ça ira, señor. 愛の雨\n"
    texts = [lines * 45, "Rain on me", lines]
    read = text_tokenizer_of(str(minilm), long)
    found = read(texts)
    assert found.of.tolist() == ([0] * (1 if long == "cut" else 3) + [1, 2])
    assert found.longer == 1
    encoder = load_encoder(str(minilm), dtype="float32")
    order, batches = cut(found.tokens, 4096)
    (vectors,) = encoder.encode_batches([batches], pooling="mean")
    _, means = averaged(found.of[order], batches.tokens.lengths, vectors)
    if long == "cut":
        by_songs = np.empty_like(means)
        by_songs[found.of[order]] = vectors
        means = by_songs
    expected = (
        transformers_vectors(minilm, texts, ["mean"], max_length=read.max_tokens)["mean"]
        if long == "cut"
        else np.stack([plain(minilm, text, "mean", read.max_tokens) for text in texts])
    )
    assert cosines(means, expected).min() > 0.99999


def test_special_tokens_are_the_tokenizers_own(small) -> None:
    """All of them and none twice; and what is shorter than the encoder takes is left whole."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(small)
    texts = list(TEXTS.values())
    long = TextTokenizer(tokenizer, 10_000, "windows")(texts)
    assert [row.tolist() for row in long.tokens] == [
        ids for text, ids in zip(texts, tokenizer(texts)["input_ids"], strict=True)
    ]
    cut = TextTokenizer(tokenizer, 7, "cut")(texts)
    assert [row.tolist() for row in cut.tokens] == tokenizer(texts, truncation=True, max_length=7)[
        "input_ids"
    ]
    windows = TextTokenizer(tokenizer, 7, "windows")(texts)
    assert windows.tokens.lengths.max() == 7
    for i, text in enumerate(texts):
        rows = [row[1:-1] for row, of in zip(windows.tokens, windows.of, strict=True) if of == i]
        bare = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert np.concatenate(rows).tolist() == bare


def test_a_text_of_no_token_has_no_window() -> None:
    """And travels to a task as it is."""
    backend = Tokenizer(models.WordLevel({"a": 0, "love": 1}, unk_token="a"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    read = TextTokenizer(PreTrainedTokenizerFast(tokenizer_object=backend), 2, "windows")
    for each in (read, pickle.loads(pickle.dumps(read))):
        found = each(["love love love", " ", "love"])
        assert [row.tolist() for row in found.tokens] == [[1, 1], [1], [1]]
        assert found.of.tolist() == [0, 0, 2]
    assert len(read([]).tokens) == 0


def test_a_tokenizer_that_windows_cannot_be_made_of_says_so() -> None:
    read = TextTokenizer(without_ends(), 2, "windows")
    with pytest.raises(EncoderError, match=r"set embed\.lyrics\.long=cut"):
        read(["ooo"])


def test_that_windows_cannot_be_made_is_found_before_there_is_a_long_text(
    small, tmp_path, monkeypatch
) -> None:
    """By whoever asks for the tokenizer, and by a look at the encoder."""
    folder = Path(shutil.copytree(small, tmp_path / "encoder"))
    for long in ("cut", "windows"):
        text_tokenizer_of(str(folder), long)
        check_encoder(str(folder), long=long)
    monkeypatch.setattr(recipes, "load_tokenizer", lambda *_: without_ends())
    text_tokenizer_of(str(folder), "cut")
    check_encoder(str(folder), long="cut")
    for refused in (text_tokenizer_of, lambda name, long: check_encoder(name, long=long)):
        with pytest.raises(EncoderError, match=r"set embed\.lyrics\.long=cut"):
            refused(str(folder), "windows")


def test_means_are_weighted_by_tokens() -> None:
    rows, lengths = np.array([4, 1, 4, 0]), np.array([3, 2, 1, 5])
    found = np.array([[1, 8], [2, 2], [5, 0], [7, 7]], np.float32)
    songs, means = averaged(rows, lengths, found)
    assert songs.tolist() == [0, 1, 4]
    np.testing.assert_allclose(means, [[7, 7], [2, 2], [2, 6]])
    same, vectors = averaged(rows[:2], lengths[:2], found[:2])
    assert same.tolist() == [4, 1]
    np.testing.assert_array_equal(vectors, found[:2])
