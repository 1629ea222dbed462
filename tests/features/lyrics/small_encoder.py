"""A RoBERTa of a few thousand weights in the hub's own files, for tests."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import ByteLevelBPETokenizer, Tokenizer, models
from transformers import (
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
    RobertaTokenizerFast,
)

TEXTS = [
    "love:12 you:3",
    "baby:1",
    "night:2 love:1 heart:7 rain:3 you:1 dance:4",
    "été:2 d'amour:3",
    "love:12 you:3 rain:1",
    "you:2 " * 30,
]
POSITIONS = 40
"""Longest text of the encoder; RoBERTa-base has 512."""


def write_encoder(folder: Path, *, hidden_size: int = 32, heads: int = 4) -> Path:
    """Two layers and a byte-level BPE tokenizer, in roberta-base's own file formats."""
    folder.mkdir(parents=True, exist_ok=True)
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(
        TEXTS,
        vocab_size=300,
        min_frequency=1,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
    )
    bpe.save_model(str(folder))
    tokenizer = RobertaTokenizerFast(
        vocab=str(folder / "vocab.json"),
        merges=str(folder / "merges.txt"),
        model_max_length=512,
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        num_hidden_layers=2,
        num_attention_heads=heads,
        intermediate_size=2 * hidden_size,
        max_position_embeddings=POSITIONS + 2,
        type_vocab_size=1,
        # Larger weights than RoBERTa's initial ones, so that context and position matter.
        initializer_range=0.3 * (32 / hidden_size) ** 0.5,
    )
    RobertaModel(config).save_pretrained(folder)
    return folder


def without_ends() -> PreTrainedTokenizerFast:
    """A tokenizer of which no windows can be made: it knows nothing of "a"."""
    backend = Tokenizer(models.BPE({"o": 0}, []))
    return PreTrainedTokenizerFast(tokenizer_object=backend)
