"""The masked-word objective: masking, batches of token ids, the encoder with its files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer, RobertaForMaskedLM, RobertaModel

from fusionrec.errors import ConfigError
from fusionrec.features.lyrics.encoder import load_encoder
from fusionrec.features.pretraining import masked_words
from fusionrec.features.pretraining.loop import pretrain
from fusionrec.features.pretraining.settings import MlmSettings
from fusionrec.features.pretraining.tokenizer import build_tokenizer

TOPICS, TOPIC_WORDS = 6, 12
VOCABULARY = [f"w{i}" for i in range(TOPICS * TOPIC_WORDS)]
TOKENIZER = build_tokenizer(VOCABULARY, max_count=3, model_max_length=24)
SMALL = MlmSettings(
    hidden_size=16,
    layers=1,
    heads=2,
    intermediate_size=32,
    positions=True,
    epochs=1,
    batch_size=32,
    learning_rate=3e-3,
)


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


def test_texts_without_a_token_are_left_out_and_batches_are_padded_on_the_right() -> None:
    bags = masked_words.tokenize(["w1:2", "", "w2:1 w3:1", " "], TOKENIZER, 24)
    assert len(bags) == 2
    assert bags.lengths.tolist() == [4, 6]
    w1, w2, w3, one, two = TOKENIZER.convert_tokens_to_ids(["w1", "w2", "w3", ":1", ":2"])
    assert bags.padded(torch.tensor([1, 0]), 1).tolist() == [
        [0, w2, one, w3, one, 2],
        [0, w1, two, 2, 1, 1],
    ]
    assert bags.padded(torch.tensor([0]), 1).tolist() == [[0, w1, two, 2]]
    assert masked_words.tokenize(["w1:1 w2:1 w3:1"], TOKENIZER, 5).lengths.tolist() == [5]
    assert len(masked_words.tokenize([], TOKENIZER, 24)) == 0


def test_masking_follows_80_10_10_and_spares_special_tokens() -> None:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, len(TOKENIZER), (400, 100), generator=generator)
    ids[:, 0], ids[:, -2], ids[:, -1], ids[:, 50] = 0, 2, 1, 3
    inputs, labels = masked_words.mask_tokens(ids, TOKENIZER, 0.15, generator)
    chosen = labels != masked_words.IGNORED
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


def test_saved_directory_loads_everywhere_with_the_same_weights(tmp_path: Path) -> None:
    result = pretrain(topic_texts(20, seed=0), TOKENIZER, SMALL, seed=0)
    masked_words.save(result, TOKENIZER, tmp_path)
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
    settings = replace(SMALL, max_tokens=9)
    model = pretrain(topic_texts(4, seed=0), TOKENIZER, settings, seed=0).model
    assert model.config.max_position_embeddings == 9 + 2
    model(torch.full((1, 9), 7))
    with pytest.raises((IndexError, RuntimeError)):
        model(torch.full((1, 10), 7))


def test_the_loss_is_that_of_transformers_own_model() -> None:
    """The additive padding mask and the scores at hidden tokens only change nothing."""
    torch.manual_seed(0)
    model = masked_words.new_model(TOKENIZER, SMALL)
    bags = masked_words.tokenize([*topic_texts(6, seed=0), "w1:1 w2:2"], TOKENIZER, 24)
    ids = bags.padded(torch.arange(7), 1)
    inputs, labels = masked_words.mask_tokens(ids, TOKENIZER, 0.3, torch.Generator().manual_seed(1))
    expected = model(inputs, attention_mask=(ids != 1).long(), labels=labels).loss
    loss = masked_words.MaskedWordLoss(model, pad=1)(inputs, labels)
    torch.testing.assert_close(loss / (labels != masked_words.IGNORED).sum(), expected)


def test_without_positions_a_text_is_a_set_also_after_loading(tmp_path: Path) -> None:
    tokenizer = build_tokenizer(VOCABULARY, counts=False, model_max_length=14)
    settings = replace(SMALL, positions=False, max_tokens=14, learning_rate=0.01)
    result = pretrain(topic_texts(60, seed=0), tokenizer, settings, seed=0)
    masked_words.save(result, tokenizer, tmp_path)
    model = RobertaModel.from_pretrained(tmp_path).eval()
    table = model.embeddings.position_embeddings.weight
    assert torch.equal(table, torch.zeros_like(table))
    read = AutoTokenizer.from_pretrained(tmp_path)
    one, other = (
        torch.tensor([read(text)["input_ids"]]) for text in ("w3:2 w4:1 w40:7", "w40:1 w3:1 w4:3")
    )
    assert one.shape == other.shape == (1, 5)
    with torch.no_grad():
        first, second = model(one).last_hidden_state, model(other).last_hidden_state
        assert not torch.allclose(first[:, 0], model(one[:, [0, 1, 2, 4]]).last_hidden_state[:, 0])
    torch.testing.assert_close(first[:, 0], second[:, 0])
    torch.testing.assert_close(first[:, 1], second[:, 2])


@pytest.mark.parametrize(
    ("change", "named"), [({"heads": 3}, "heads = 3"), ({"heldout_share": 0.0}, "heldout_share")]
)
def test_impossible_settings(change: dict[str, float], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        MlmSettings(**change)  # type: ignore[arg-type]
