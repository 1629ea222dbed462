"""Masked-word pretraining: learning planted topics, determinism, independence of the workers."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.distributed as dist

from fusionrec.errors import DataError
from fusionrec.features.lyrics.products import bfloat16_pays
from fusionrec.features.pretraining.loop import pretrain
from fusionrec.features.pretraining.settings import MlmSettings
from fusionrec.models.collective import Collective
from tests import processes
from tests.features.pretraining.test_masked_words import SMALL, TOKENIZER, VOCABULARY, topic_texts


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_planted_topics_are_learnt() -> None:
    settings = MlmSettings(
        hidden_size=64,
        positions=True,
        batch_size=32,
        intermediate_size=128,
        layers=1,
        epochs=25,
        learning_rate=5e-3,
        max_tokens=24,
        heldout_share=0.1,
    )
    steps: list[tuple[int, int]] = []
    result = pretrain(
        topic_texts(600, seed=0),
        TOKENIZER,
        settings,
        seed=1,
        progress=lambda step, total: steps.append((step, total)),
    )
    total = 25 * math.ceil(540 / 32)
    assert steps == [(i, total) for i in range(1, total + 1)]
    assert len(result.losses) == total
    assert np.mean(result.losses[-20:]) < 0.7 * np.mean(result.losses[:20])
    # 72 equally frequent words, of which a model that knows the topic guesses among 12.
    assert result.unigram_perplexity == pytest.approx(72, rel=0.05)
    assert result.heldout_perplexity < 20
    assert not result.model.training


def test_unigram_perplexity_is_that_of_the_training_words() -> None:
    # Every text holds the same words, so the held-out one's tokens are known in advance.
    texts = ["w0:1 w0:2 w0:1 w0:1 w0:3"] * 40
    result = pretrain(texts, TOKENIZER, SMALL, seed=0)
    seen = Counter(w0=38 * 5)
    expected = (seen.total() + len(VOCABULARY)) / (seen["w0"] + 1)
    assert result.unigram_perplexity == pytest.approx(expected, rel=1e-9)


def test_same_seed_same_weights_and_another_seed_others() -> None:
    texts = topic_texts(60, seed=0)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = pretrain(texts, TOKENIZER, SMALL, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(77)
    again, other = (pretrain(texts, TOKENIZER, SMALL, seed=s) for s in (3, 4))
    assert first.losses == again.losses
    assert first.heldout_perplexity == again.heldout_perplexity
    weights = first.model.state_dict()
    assert all(torch.equal(weights[k], v) for k, v in again.model.state_dict().items())
    assert first.losses != other.losses


@pytest.mark.parametrize("texts", [[], ["w1:1"], ["w1:1", "", "  "]])
def test_too_few_texts(texts: list[str]) -> None:
    with pytest.raises(DataError, match="two songs"):
        pretrain(texts, TOKENIZER, SMALL, seed=0)


@pytest.mark.processor
def test_bfloat16_learns_the_same_within_its_precision() -> None:
    """Losses to 2 % and weights in single precision; "auto" is one of the two."""
    texts = topic_texts(300, seed=0)
    settings = replace(SMALL, epochs=3)
    full, half = (
        pretrain(texts, TOKENIZER, replace(settings, dtype=dtype), seed=0)
        for dtype in ("float32", "bfloat16")
    )
    np.testing.assert_allclose(half.losses, full.losses, rtol=0.02)
    assert half.losses != full.losses
    assert {p.dtype for p in half.model.parameters()} == {torch.float32}
    auto = pretrain(texts, TOKENIZER, settings, seed=0)
    assert auto.losses == (half if bfloat16_pays("cpu").works else full).losses


def _trained(collective: Collective) -> tuple[list[float], list[float], dict[str, np.ndarray]]:
    """In double precision, in which rounding stays far below any real difference."""
    torch.set_default_dtype(torch.float64)
    try:
        # 41 training texts in batches of 8: the last batch has one row for all workers.
        settings = replace(
            SMALL, epochs=3, batch_size=8, heldout_share=0.05, max_tokens=24, dtype="float32"
        )
        result = pretrain(
            topic_texts(43, seed=0), TOKENIZER, settings, seed=2, collective=collective
        )
    finally:
        torch.set_default_dtype(torch.float32)
    weights = {name: value.numpy() for name, value in result.model.state_dict().items()}
    return result.losses, [result.heldout_perplexity, result.unigram_perplexity], weights


def _worker(rank: int, world: int, store: str, out) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    results = _trained(Collective(rank, world))
    if rank == world - 1:
        out.put(results)
    dist.destroy_process_group()


@pytest.mark.parametrize("world", [2, 3])
def test_result_does_not_depend_on_the_number_of_workers(tmp_path, world) -> None:
    """Losses to 1e-9, weights to 1e-8 and perplexities to 1e-6 of themselves, in doubles."""
    losses, perplexities, weights = _trained(Collective())
    assert len(losses) == 3 * 6
    context = processes.context()
    out = context.Queue()
    workers = [
        context.Process(target=_worker, args=(r, world, str(tmp_path / "store"), out))
        for r in range(world)
    ]
    for worker in workers:
        worker.start()
    shared = out.get(timeout=120)
    for worker in workers:
        worker.join()
    np.testing.assert_allclose(shared[0], losses, rtol=1e-9)
    np.testing.assert_allclose(shared[1], perplexities, rtol=1e-6)
    assert shared[2].keys() == weights.keys()
    for name, value in weights.items():
        np.testing.assert_allclose(shared[2][name], value, atol=1e-8, err_msg=name)
