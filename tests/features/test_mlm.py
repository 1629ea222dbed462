"""Masked-word pretraining: the masking rule, learning on planted topics, files, determinism."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, RobertaForMaskedLM, RobertaModel

from fusionrec.errors import ConfigError, DataError
from fusionrec.features import mlm
from fusionrec.features.encoder import load_encoder
from fusionrec.features.word_tokenizer import build_tokenizer

TOPICS, TOPIC_WORDS = 6, 12
VOCABULARY = [f"w{i}" for i in range(TOPICS * TOPIC_WORDS)]
TOKENIZER = build_tokenizer(VOCABULARY, max_count=3, model_max_length=24)
SMALL = mlm.MlmSettings(hidden_size=16, layers=1, heads=2, intermediate_size=32, epochs=1)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def topic_texts(n: int, seed: int) -> list[str]:
    """Texts of ten words of one topic each, in random order, with counts of no meaning."""
    rng = np.random.default_rng(seed)
    texts = []
    for i in range(n):
        words = rng.choice(TOPIC_WORDS, 10, replace=False) + TOPIC_WORDS * (i % TOPICS)
        texts.append(" ".join(f"w{w}:{c}" for w, c in zip(words, rng.integers(1, 4, 10))))  # noqa: B905
    return texts


def test_masking_follows_80_10_10_and_spares_special_tokens() -> None:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, len(TOKENIZER), (400, 100), generator=generator)
    ids[:, 0], ids[:, -2], ids[:, -1], ids[:, 50] = 0, 2, 1, 3
    inputs, labels = mlm.mask_tokens(ids, TOKENIZER, 0.15, generator)
    chosen = labels != mlm.IGNORED
    assert not chosen[:, [0, 50, -2, -1]].any()
    assert torch.equal(labels[chosen], ids[chosen])
    assert torch.equal(inputs[~chosen], ids[~chosen])
    assert chosen.sum().item() / (400 * 96) == pytest.approx(0.15, abs=0.008)
    masked = (inputs == TOKENIZER.mask_token_id)[chosen].double().mean().item()
    kept = (inputs == ids)[chosen].double().mean().item()
    assert masked == pytest.approx(0.8, abs=0.02)
    # A random token is the original one by chance once in the 75 ordinary tokens.
    assert kept == pytest.approx(0.1 + 0.1 / 75, abs=0.015)
    replaced = inputs[chosen & (inputs != ids) & (inputs != TOKENIZER.mask_token_id)]
    assert replaced.min() >= 5


def test_planted_topics_are_learnt() -> None:
    settings = mlm.MlmSettings(
        hidden_size=64,
        intermediate_size=128,
        layers=1,
        epochs=25,
        learning_rate=5e-3,
        max_tokens=24,
        heldout_share=0.1,
    )
    steps: list[tuple[int, int, float]] = []
    result = mlm.pretrain(
        topic_texts(600, seed=0),
        TOKENIZER,
        settings,
        seed=1,
        progress=lambda step, total, loss: steps.append((step, total, loss)),
    )
    total = 25 * math.ceil(540 / 32)
    assert [s[:2] for s in steps] == [(i, total) for i in range(1, total + 1)]
    assert [s[2] for s in steps] == result.losses
    assert np.mean(result.losses[-20:]) < 0.7 * np.mean(result.losses[:20])
    # 72 equally frequent words, of which a model that knows the topic guesses among 12.
    assert result.unigram_perplexity == pytest.approx(72, rel=0.05)
    assert result.heldout_perplexity < 20
    assert not result.model.training


def test_unigram_perplexity_is_that_of_the_training_words() -> None:
    # Every text holds the same words, so the held-out one's tokens are known in advance.
    texts = ["w0:1 w0:2 w0:1 w0:1 w0:3"] * 40
    result = mlm.pretrain(texts, TOKENIZER, SMALL, seed=0)
    seen = Counter(w0=38 * 5)
    expected = (seen.total() + len(VOCABULARY)) / (seen["w0"] + 1)
    assert result.unigram_perplexity == pytest.approx(expected, rel=1e-9)


def test_same_seed_same_weights_and_another_seed_others() -> None:
    texts = topic_texts(60, seed=0)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = mlm.pretrain(texts, TOKENIZER, SMALL, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(77)
    again, other = (mlm.pretrain(texts, TOKENIZER, SMALL, seed=s) for s in (3, 4))
    assert first.losses == again.losses
    assert first.heldout_perplexity == again.heldout_perplexity
    weights = first.model.state_dict()
    assert all(torch.equal(weights[k], v) for k, v in again.model.state_dict().items())
    assert first.losses != other.losses


def test_saved_directory_loads_everywhere_with_the_same_weights(tmp_path: Path) -> None:
    result = mlm.pretrain(topic_texts(20, seed=0), TOKENIZER, SMALL, seed=0)
    mlm.save(result, TOKENIZER, tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= names
    text = "w3:2 w4:1"
    ids = torch.tensor([TOKENIZER(text)["input_ids"]])
    with torch.no_grad():
        expected = result.model.roberta(ids).last_hidden_state
        for family in (AutoModel, RobertaModel):
            model = family.from_pretrained(tmp_path).eval()
            torch.testing.assert_close(model(ids).last_hidden_state, expected)
        head = RobertaForMaskedLM.from_pretrained(tmp_path).eval()
        torch.testing.assert_close(head(ids).logits, result.model(ids).logits)
    vector = load_encoder(str(tmp_path)).encode([text])
    np.testing.assert_allclose(vector, expected[:, 0].numpy(), atol=1e-5)


def test_every_position_up_to_max_tokens_is_there() -> None:
    settings = mlm.MlmSettings(hidden_size=16, layers=1, heads=2, epochs=1, max_tokens=9)
    model = mlm.pretrain(topic_texts(4, seed=0), TOKENIZER, settings, seed=0).model
    assert model.config.max_position_embeddings == 9 + 2
    model(torch.full((1, 9), 7))
    with pytest.raises((IndexError, RuntimeError)):
        model(torch.full((1, 10), 7))


@pytest.mark.parametrize("texts", [[], ["w1:1"], ["w1:1", "", "  "]])
def test_too_few_texts(texts: list[str]) -> None:
    with pytest.raises(DataError, match="two songs"):
        mlm.pretrain(texts, TOKENIZER, SMALL, seed=0)


@pytest.mark.parametrize(
    ("change", "named"), [({"heads": 3}, "heads = 3"), ({"heldout_share": 0.0}, "heldout_share")]
)
def test_impossible_settings(change: dict[str, float], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        mlm.MlmSettings(**change)  # type: ignore[arg-type]
