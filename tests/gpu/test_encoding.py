"""The packed forward pass on the device, against transformers and against itself."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from fusionrec.errors import EncoderError
from fusionrec.features.lyrics import packed
from fusionrec.features.lyrics.encoder import load_encoder
from fusionrec.features.lyrics.hub import quiet_transformers
from fusionrec.features.lyrics.packed import PackedEncoder

pytestmark = pytest.mark.gpu

POOLINGS = ("cls", "mean")


def worst_cosine(a: np.ndarray, b: np.ndarray) -> float:
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(((a * b).sum(axis=1) / norms).min())


@pytest.fixture(scope="module")
def expected(folder: Path, texts: list[str], device: str) -> dict[str, np.ndarray]:
    """The vectors of transformers' own float32 forward pass, a text at a time."""
    with quiet_transformers():
        model = transformers.AutoModel.from_pretrained(folder).eval().to(device)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    found: dict[str, list[Tensor]] = {pooling: [] for pooling in POOLINGS}
    with torch.inference_mode():
        for text in texts:
            ids = tokenizer(text, return_tensors="pt")["input_ids"].to(device)
            hidden = model(ids).last_hidden_state[0]
            found["cls"].append(hidden[0])
            found["mean"].append(hidden.mean(dim=0))
    return {pooling: torch.stack(rows).cpu().numpy() for pooling, rows in found.items()}


@pytest.mark.parametrize("pooling", POOLINGS)
def test_float32_equals_transformers(folder, texts, device, expected, pooling) -> None:
    encoder = load_encoder(str(folder), device=device, dtype="float32")
    assert encoder.path == "packed"
    found = encoder.encode(texts, pooling=pooling, token_budget=500)
    np.testing.assert_allclose(found, expected[pooling], atol=1e-4)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_bfloat16_is_near_transformers_float32(folder, texts, device, expected, pooling) -> None:
    encoder = load_encoder(str(folder), device=device, dtype="bfloat16")
    found = encoder.encode(texts, pooling=pooling, token_budget=500)
    assert worst_cosine(found, expected[pooling]) > 0.9999


def attention_by_text(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    of_query: Tensor,
    of_key: Tensor,
    longest_query: int,
    longest_key: int,
) -> Tensor:
    """What torch's variable-length attention computes, a text at a time."""
    assert int(of_query.diff().max()) == longest_query
    assert int(of_key.diff().max()) == longest_key
    assert of_query.dtype == of_key.dtype == torch.int32
    out = torch.empty_like(query)
    for text in range(len(of_query) - 1):
        own = slice(int(of_query[text]), int(of_query[text + 1]))
        keys = slice(int(of_key[text]), int(of_key[text + 1]))
        parts = (x.transpose(0, 1)[None] for x in (query[own], key[keys], value[keys]))
        out[own] = scaled_dot_product_attention(*parts)[0].transpose(0, 1)
    return out


@pytest.mark.parametrize("pooling", POOLINGS)
def test_variable_length_attention_equals_the_plain_path(
    folder, texts, device, pooling, monkeypatch: pytest.MonkeyPatch
) -> None:
    dtype = "bfloat16" if device == "cuda" else "float32"
    encoder = load_encoder(str(folder), device=device, dtype=dtype)
    calls: list[int] = []
    attend = packed.varlen_attn if device == "cuda" else attention_by_text
    if attend is None:
        pytest.skip("this torch has no variable-length attention")

    def counted(query: Tensor, *arguments: object) -> object:
        calls.append(len(query))
        return attend(query, *arguments)

    monkeypatch.setattr(packed, "varlen_attn", counted)
    if device == "cpu":  # has no such kernel: what it would be given is checked all the same
        monkeypatch.setattr(packed, "_fused", lambda x: True)
    fused = encoder.encode(texts, pooling=pooling, token_budget=500)
    assert calls
    monkeypatch.setattr(packed, "_fused", lambda x: False)
    calls.clear()
    plain = encoder.encode(texts, pooling=pooling, token_budget=500)
    assert not calls
    if device == "cuda":
        assert worst_cosine(fused, plain) > 0.9999
    else:
        np.testing.assert_allclose(fused, plain, atol=1e-5)


def test_one_text_alone_and_texts_of_one_token(folder, device) -> None:
    """The cases in which the last layer's queries are as many as its keys, or just one."""
    encoder = load_encoder(str(folder), device=device)
    alone = encoder.encode(["w1:2 w3:4"])
    assert worst_cosine(alone, encoder.encode(["w1:2 w3:4", "w5:6"])[:1]) > 0.9999
    with quiet_transformers():
        model = transformers.AutoModel.from_pretrained(folder).eval()
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    vectors = PackedEncoder(model.to(device, dtype))([[0], [0], [0]], "cls")
    assert vectors.shape == (3, encoder.hidden_size)
    torch.testing.assert_close(vectors[0], vectors[2])


def test_out_of_memory_halves_the_token_budget_and_says_so(
    folder, texts, device, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = load_encoder(str(folder), device=device, dtype="float32").encode(texts)
    encoder = load_encoder(str(folder), device=device, dtype="float32")
    forward, tried = PackedEncoder.__call__, []

    def short_of_memory(self: PackedEncoder, rows: Sequence[list[int]], pooling: str) -> Tensor:
        tokens = sum(map(len, rows))
        tried.append(tokens)
        if tokens > 300:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(self, rows, pooling)

    monkeypatch.setattr(PackedEncoder, "__call__", short_of_memory)
    with caplog.at_level(logging.WARNING, logger="fusionrec"):
        found = encoder.encode(texts, token_budget=1_100)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert [tokens > 300 for tokens in tried[:3]] == [True, True, False]
    assert not any(tokens > 300 for tokens in tried[3:])
    told = [record.message for record in caplog.records]
    assert len(told) == 2
    assert all("the token budget is halved to" in line for line in told)
    # What fits is remembered: the next shard does not run out of memory again.
    caplog.clear()
    encoder.encode(texts, token_budget=1_100)
    assert not caplog.records


@pytest.mark.parametrize("path", ["packed", "padded"])
def test_no_room_for_a_single_text_is_one_line(
    folder, texts, device, path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if path == "padded":
        monkeypatch.setattr("fusionrec.features.lyrics.encoder.supports", lambda model: False)
    encoder = load_encoder(str(folder), device=device)
    assert encoder.path == path

    def full(*arguments: object, **options: object) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    if path == "padded":
        monkeypatch.setattr(encoder, "_model", full)
    else:
        monkeypatch.setattr(PackedEncoder, "__call__", full)
    with pytest.raises(EncoderError, match=r"too little memory for a single text of 122 tokens"):
        encoder.encode(texts)


def test_a_real_lack_of_memory_is_got_over(folder, texts, device) -> None:
    """The allocator itself refuses, where the device's memory can be bounded."""
    if device != "cuda":
        pytest.skip("a CPU's memory cannot be bounded from within")
    encoder = load_encoder(str(folder), device=device)
    many = texts * 100
    expected = encoder.encode(many, token_budget=20_000)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(device).total_memory
    room = torch.cuda.memory_reserved() + 200 * 2**20
    torch.cuda.set_per_process_memory_fraction(room / total)
    try:
        found = encoder.encode(many, token_budget=1_000_000)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert worst_cosine(found, expected) > 0.9999
    assert encoder._fits < 1_000_000
