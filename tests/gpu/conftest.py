"""The device under test, and a small RoBERTa."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from fusionrec.features.lyrics.hub import quiet_transformers
from fusionrec.features.pretraining.tokenizer import build_tokenizer

WORDS = [f"w{i}" for i in range(400)]


@pytest.fixture(scope="session")
def device() -> str:
    """A GPU where there is one, unless FUSIONREC_TEST_DEVICE says otherwise."""
    found = "cuda" if torch.cuda.is_available() else "cpu"
    return os.environ.get("FUSIONREC_TEST_DEVICE", found)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def folder(device: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A RoBERTa with random weights: as wide as roberta-base on a GPU, narrow on a CPU."""
    import transformers

    place = tmp_path_factory.mktemp("encoder")
    hidden, layers = (768, 4) if device == "cuda" else (128, 2)
    tokenizer = build_tokenizer(WORDS, model_max_length=128)
    config = transformers.RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        intermediate_size=4 * hidden,
        max_position_embeddings=130,
        type_vocab_size=1,
    )
    with quiet_transformers(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tokenizer.save_pretrained(place)
        transformers.RobertaModel(config).save_pretrained(place)
    return place


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """Texts of 1 to 60 words, of which some are of equal length."""
    generator = torch.Generator().manual_seed(0)
    lengths = [1, 60, 60, *torch.randint(1, 60, (45,), generator=generator).tolist()]
    return [
        " ".join(
            f"w{int(i)}:{1 + int(i) % 7}"
            for i in torch.randperm(len(WORDS), generator=generator)[:length]
        )
        for length in lengths
    ]
