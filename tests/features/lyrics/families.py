"""Tiny models of many families with random weights, in the files of the hub, for tests."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel

POSITIONS = 40
"""Longest text of each in tokens, where the family has a limit."""

_PAD = 1


def _t5(vocabulary: int) -> dict[str, Any]:
    return {
        "vocab_size": vocabulary,
        "d_model": 32,
        "d_kv": 8,
        "d_ff": 64,
        "num_layers": 2,
        "num_heads": 4,
        "pad_token_id": _PAD,
        "decoder_start_token_id": _PAD,
        "initializer_factor": 3.0,
    }


def _plain(vocabulary: int, positions: int = POSITIONS) -> dict[str, Any]:
    return {
        "vocab_size": vocabulary,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": positions,
        "pad_token_id": _PAD,
        "bos_token_id": 0,
        "eos_token_id": 2,
        # Larger weights than usual, so that context and position matter.
        "initializer_range": 0.3,
    }


def model(family: str, vocabulary: int) -> PreTrainedModel:
    """A model of a family, with weights that depend on nothing but its name."""
    torch.manual_seed(sum(map(ord, family)))
    t, plain = transformers, _plain(vocabulary)
    if family == "t5":
        return t.T5Model(t.T5Config(**_t5(vocabulary)))
    if family == "t5-encoder":
        return t.T5EncoderModel(t.T5Config(**_t5(vocabulary)))
    if family == "bart":
        sides = ("encoder", "decoder")
        sizes: dict[str, Any] = {f"{side}_layers": 2 for side in sides}
        sizes |= {f"{side}_attention_heads": 4 for side in sides}
        sizes |= {f"{side}_ffn_dim": 64 for side in sides}
        return t.BartModel(
            t.BartConfig(
                vocab_size=vocabulary,
                d_model=32,
                max_position_embeddings=POSITIONS,
                pad_token_id=_PAD,
                init_std=0.3,
                **sizes,
            )
        )
    if family == "bert":
        return t.BertModel(t.BertConfig(**plain))
    if family == "bert-decoder":
        return t.BertModel(t.BertConfig(**plain, is_decoder=True))
    if family == "electra":
        return t.ElectraModel(t.ElectraConfig(**plain, embedding_size=16))
    if family == "roberta":
        behind_pad = _plain(vocabulary, POSITIONS + _PAD + 1)
        return t.RobertaModel(t.RobertaConfig(**behind_pad, type_vocab_size=1))
    if family == "mpnet":
        return t.MPNetModel(t.MPNetConfig(**_plain(vocabulary, POSITIONS + _PAD + 1)))
    if family == "modernbert":
        # Its padding token's id is beyond its positions, as in the published one.
        changed = {"pad_token_id": vocabulary - 1, "cls_token_id": 0, "sep_token_id": 2}
        return t.ModernBertModel(t.ModernBertConfig(**{**plain, **changed}))
    if family == "gpt2":
        return t.GPT2Model(
            t.GPT2Config(
                vocab_size=vocabulary,
                n_embd=32,
                n_layer=2,
                n_head=4,
                n_positions=POSITIONS,
                initializer_range=0.3,
                bos_token_id=0,
                eos_token_id=2,
            )
        )
    if family == "llama":
        return t.LlamaModel(t.LlamaConfig(**plain))
    if family == "xlnet":
        return t.XLNetModel(
            t.XLNetConfig(
                vocab_size=vocabulary,
                d_model=32,
                n_layer=2,
                n_head=4,
                d_inner=64,
                initializer_range=0.3,
            )
        )
    assert family == "fnet"
    del plain["num_attention_heads"]
    return t.FNetModel(t.FNetConfig(**plain))


def write(family: str, tokenizer: Path, folder: Path) -> Path:
    """The model, beside the tokenizer of an encoder that lies in the folder `tokenizer`."""
    folder.mkdir(parents=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tokenizer / name, folder)
    vocabulary = len(transformers.AutoTokenizer.from_pretrained(tokenizer))
    model(family, vocabulary).eval().save_pretrained(folder)
    return folder
