"""A real pre-trained BERT: its published figures, transformers' own pass, the hub's layout."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from huggingface_hub import constants

from fusionrec.features.lyrics import tfidf
from fusionrec.features.lyrics.architecture import Pooling
from fusionrec.features.lyrics.check import check_encoder
from fusionrec.features.lyrics.encoder import Dtype, LyricsEncoder, load_encoder
from fusionrec.features.lyrics.hub import encoder_fingerprint
from fusionrec.features.lyrics.pieces import WordTokenizer, recipe
from fusionrec.formats import musixmatch
from tests.features.lyrics.pretrained import (
    STEMS,
    WEIGHTS_SHA256,
    cosines,
    lyrics,
    transformers_vectors,
)

POOLINGS: tuple[Pooling, ...] = ("cls", "mean")
WORST_COSINE: dict[Dtype, float] = {"float32": 0.9999, "bfloat16": 0.9995}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def encoders(minilm: Path) -> dict[Dtype, LyricsEncoder]:
    return {dtype: load_encoder(str(minilm), dtype=dtype) for dtype in WORST_COSINE}


@pytest.fixture(scope="module")
def expected(minilm: Path) -> dict[Pooling, np.ndarray]:
    torch.set_num_threads(1)
    return transformers_vectors(minilm, lyrics(), POOLINGS)


def test_the_weights_are_those_of_the_hub(minilm: Path) -> None:
    content = (minilm / "model.safetensors").read_bytes()
    assert hashlib.sha256(content).hexdigest() == WEIGHTS_SHA256


def test_similarities_are_the_published_ones(encoders: dict[Dtype, LyricsEncoder]) -> None:
    """Those of the example with which sentence-transformers' documentation begins."""
    texts = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
    vectors = encoders["float32"].encode(texts, pooling="mean")
    found = [cosines(vectors[[i]], vectors[[j]])[0] for i, j in ((0, 1), (0, 2), (1, 2))]
    assert found == pytest.approx([0.6660, 0.1046, 0.1411], abs=1e-4)


def test_a_bert_is_packed_and_has_all_its_positions(
    minilm: Path, encoders: dict[Dtype, LyricsEncoder]
) -> None:
    for encoder in encoders.values():
        assert (encoder.path, encoder.max_tokens, encoder.hidden_size) == ("packed", 512, 384)
        assert encoder.first_sees_all
    checked = check_encoder(str(minilm), dtype="float32")
    assert (checked.hidden_size, checked.max_tokens, checked.path) == (384, 512, "packed")


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize(
    "dtype", [pytest.param("float32", marks=pytest.mark.processor), "bfloat16"]
)
def test_vectors_are_transformers_own(
    encoders: dict[Dtype, LyricsEncoder],
    expected: dict[Pooling, np.ndarray],
    dtype: Dtype,
    pooling: Pooling,
) -> None:
    texts = lyrics()
    found = encoders[dtype].encode(texts, pooling=pooling, token_budget=1_024)
    assert cosines(found, expected[pooling]).min() >= WORST_COSINE[dtype]
    if dtype == "float32":
        np.testing.assert_allclose(found, expected[pooling], atol=2e-5)
    # The vectors of other texts are further away, so that a wrong order or mask would show.
    assert cosines(found, np.roll(expected[pooling], 1, axis=0)).max() < 0.99


def test_a_text_longer_than_its_positions_is_cut_there(
    minilm: Path, encoders: dict[Dtype, LyricsEncoder]
) -> None:
    """There, and not at the 128 tokens at which its tokenizer file says to cut."""
    long = " ".join(lyrics()[-3:])
    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm)
    assert len(tokenizer(long, truncation=False)["input_ids"]) > 1_000
    for limit in (200, 512):
        found = encoders["float32"].encode([long], pooling="mean", max_tokens=limit)
        whole = transformers_vectors(minilm, [long], ["mean"], max_length=limit)["mean"]
        np.testing.assert_allclose(found, whole, atol=2e-5)


def test_its_words_are_tokenised_piece_by_piece(minilm: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm)
    texts = lyrics() + lyrics(1)
    bags = [[piece.rsplit(":", 1) for piece in text.split()] for text in texts]
    chosen = tfidf.ChosenWords(
        np.array([STEMS.index(word) for bag in bags for word, _ in bag], np.int32),
        np.array([int(count) for bag in bags for _, count in bag]),
        np.cumsum([0, *map(len, bags)]),
    )
    assert chosen.texts(STEMS) == texts
    for limit in (512, 128, 7):
        how = recipe(tokenizer, STEMS, limit)
        assert how.by_piece
        ids = [row.tolist() for row in WordTokenizer(how)(chosen)]
        assert ids == tokenizer(texts, truncation=True, max_length=limit)["input_ids"]
        # Beyond the cut in its tokenizer file, where that is asked for.
        assert limit < 512 or max(map(len, ids)) > 128


def test_the_hubs_cache_is_the_same_as_a_folder(
    minilm: Path,
    encoders: dict[Dtype, LyricsEncoder],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A snapshot of links to blobs, with files that only sentence-transformers reads."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    commit, model = "c" * 40, tmp_path / "models--sentence-transformers--all-MiniLM-L6-v2"
    for path in minilm.rglob("*"):
        if path.is_file():
            link = model / "snapshots" / commit / path.relative_to(minilm)
            link.parent.mkdir(parents=True, exist_ok=True)
            blob = model / "blobs" / f"{len(list(model.rglob('*')))}"
            blob.parent.mkdir(exist_ok=True)
            blob.symlink_to(path)  # instead of a copy of 90 MB
            link.symlink_to(os.path.relpath(blob, link.parent))
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(commit)
    name = "sentence-transformers/all-MiniLM-L6-v2"
    assert encoder_fingerprint(name) == f"hub:{name}@{commit}"
    found = load_encoder(name, dtype="float32")
    texts = lyrics()[:5]
    np.testing.assert_array_equal(found.encode(texts), encoders["float32"].encode(texts))


def test_a_folders_fingerprint_is_of_what_is_read(minilm: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(minilm, tmp_path / "copy")
    same = encoder_fingerprint(str(minilm))
    for unread in ("README.md", ".gitattributes"):
        (copy / unread).unlink()
    assert encoder_fingerprint(str(copy)) == same
    vocabulary = (copy / "tokenizer.json").read_text()
    (copy / "tokenizer.json").write_text(vocabulary.replace('"love"', '"lova"'))
    assert encoder_fingerprint(str(copy)) != same


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.skipif(
    "FUSIONREC_REAL_CORPUS" not in os.environ, reason="FUSIONREC_REAL_CORPUS is not set"
)
def test_real_lyrics(minilm: Path, encoders: dict[Dtype, LyricsEncoder]) -> None:
    source = str(Path(os.environ["FUSIONREC_REAL_CORPUS"]) / "musixmatch" / "mxm_dataset_train.txt")
    words = musixmatch.read_vocabulary(source)
    bags = musixmatch.read_lyrics(source, 0, Path(source).stat().st_size).table
    weights = tfidf.word_weights(tfidf.count(bags, len(words)), "sklearn")
    texts = tfidf.significant_texts(bags[:32], weights, "sklearn", words, 128)
    whole = transformers_vectors(minilm, texts, POOLINGS)
    for dtype, encoder in encoders.items():
        for pooling in POOLINGS:
            found = encoder.encode(texts, pooling=pooling)
            assert cosines(found, whole[pooling]).min() >= WORST_COSINE[dtype], (dtype, pooling)
