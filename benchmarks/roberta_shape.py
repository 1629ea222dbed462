"""A roberta-base-shaped model without a network, and what its forward pass costs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import transformers
from tokenizers import ByteLevelBPETokenizer, Tokenizer, processors

from fusionrec.features.lyrics.hub import quiet_transformers

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def config(hidden: int = 768, layers: int = 12) -> transformers.RobertaConfig:
    """roberta-base's, of this width and depth."""
    return transformers.RobertaConfig(
        vocab_size=50265,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=max(1, hidden // 64),
        intermediate_size=4 * hidden,
        max_position_embeddings=514,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
    )


def write_model(
    folder: str, texts: Sequence[str], *, vocabulary: int, hidden: int = 768, layers: int = 12
) -> None:
    """A RoBERTa with random weights and a byte-level BPE, as a hub directory has them."""
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(
        texts, vocab_size=vocabulary, special_tokens=SPECIAL, show_progress=False
    )
    backend = Tokenizer.from_str(trained.to_str())
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    torch.manual_seed(0)
    with quiet_transformers():
        transformers.RobertaTokenizerFast(
            tokenizer_object=backend, model_max_length=512
        ).save_pretrained(folder)
        transformers.RobertaModel(config(hidden, layers)).save_pretrained(folder)


def work(lengths: np.ndarray, hidden: int, layers: int) -> float:
    """Multiplications and additions of the packed pass with CLS pooling, for these lengths."""
    tokens, pairs, texts = lengths.sum(), (lengths**2).sum(), len(lengths)
    whole = (layers - 1) * (24 * tokens * hidden**2 + 4 * pairs * hidden)
    # The last layer: keys and values of all tokens, the rest of the first token only.
    last = 4 * tokens * hidden**2 + 20 * texts * hidden**2 + 4 * tokens * hidden
    return float(whole + last)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """The worst cosine of a vector with its counterpart."""
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(((a * b).sum(axis=1) / norms).min())
