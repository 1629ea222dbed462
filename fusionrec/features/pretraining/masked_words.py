"""Masked-word modelling on bags of words: the encoder, its objective and its files.

Stands in for roberta-base (paper section 3.1.5) where no pre-trained encoder is
at hand, and needs no network. The objective is RoBERTa's: 15 % of the tokens are
to be predicted, of which 80 % are masked, 10 % replaced by a random token and
10 % left as they are, drawn anew in every epoch. `loop` holds the training.

Shapes: B texts in a batch, T tokens in its longest text, P tokens to predict, W tokens in
the vocabulary, H the encoder's width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fusionrec.features.lyrics.hub import quiet_transformers
from fusionrec.features.pretraining.settings import MlmSettings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, RobertaForMaskedLM

IGNORED = -100
"""Label of a token that is not to be predicted."""


@dataclass(frozen=True)
class PretrainResult:
    """A pretrained encoder and how well it predicts.

    Attributes
    ----------
    model
        On the CPU, in evaluation mode, float32.
    losses
        Mean cross-entropy of each step's predicted tokens, in nats.
    heldout_perplexity
        exp of the mean cross-entropy of the held-out texts' hidden words; counts, which are
        easy to guess, are not in it.
    unigram_perplexity
        The same words' perplexity under the words' frequency in the training texts (one added
        to each): what a model without context can reach that knows a word from a count.
    """

    model: RobertaForMaskedLM
    losses: list[float]
    heldout_perplexity: float
    unigram_perplexity: float


@dataclass(frozen=True)
class TokenBags:
    """Token ids of many texts, one after the other in one tensor.

    Attributes
    ----------
    ids
        Int64, shape (tokens of all texts,).
    starts
        Int64, shape (texts + 1,): text i is ``ids[starts[i] : starts[i + 1]]``.
    """

    ids: Tensor
    starts: Tensor

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> Tensor:
        """Tokens of each text, int64, shape (texts,)."""
        return self.starts.diff()

    def padded(self, rows_B: Tensor, pad: int) -> Tensor:
        """The texts `rows_B` as one batch, int64, shape (B, T), padded on the right."""
        starts_B, lengths_B = self.starts[rows_B], self.lengths[rows_B]
        place_T = torch.arange(int(lengths_B.max()))
        there_BT = place_T < lengths_B[:, None]
        ids_BT = torch.full(there_BT.shape, pad)
        ids_BT[there_BT] = self.ids[(starts_B[:, None] + place_T)[there_BT]]
        return ids_BT


def tokenize(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, max_tokens: int
) -> TokenBags:
    """Token ids of every text that has a token besides the special ones, others left out."""
    rows: list[list[int]] = (
        tokenizer(list(texts), truncation=True, max_length=max_tokens)["input_ids"] if texts else []
    )
    empty = tokenizer.num_special_tokens_to_add()
    rows = [row for row in rows if len(row) > empty]
    lengths = torch.tensor([0, *(len(row) for row in rows)])
    ids = torch.tensor([token for row in rows for token in row], dtype=torch.int64)
    return TokenBags(ids, lengths.cumsum(0))


def mask_tokens(
    ids_BT: Tensor,
    tokenizer: PreTrainedTokenizerBase,
    probability: float,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Choose the tokens to predict, and hide them: 80 % masked, 10 % random, 10 % as they are.

    Special tokens (``<unk>`` too, which stands for no one word) are neither chosen nor put in.

    Parameters
    ----------
    ids_BT
        Int64 token ids, shape (B, T).
    probability
        Of each token to be chosen.

    Returns
    -------
    inputs
        Int64, shape (B, T): what the model sees.
    labels
        Int64, shape (B, T): the token to predict, or :data:`IGNORED`.
    """
    special = torch.tensor(tokenizer.all_special_ids)
    ordinary = torch.arange(len(tokenizer))
    ordinary = ordinary[~torch.isin(ordinary, special)]
    chosen = torch.rand(ids_BT.shape, generator=generator) < probability
    chosen &= ~torch.isin(ids_BT, special)
    fate = torch.rand(ids_BT.shape, generator=generator)
    replacement = ordinary[torch.randint(len(ordinary), ids_BT.shape, generator=generator)]
    inputs = torch.where(chosen & (fate < 0.9), replacement, ids_BT)
    inputs = inputs.masked_fill(chosen & (fate < 0.8), int(tokenizer.mask_token_id))
    return inputs, ids_BT.masked_fill(~chosen, IGNORED)


def new_model(tokenizer: PreTrainedTokenizerBase, settings: MlmSettings) -> RobertaForMaskedLM:
    """A RoBERTa with random weights, drawn from torch's global generator."""
    from transformers import RobertaConfig, RobertaForMaskedLM

    pad = int(tokenizer.pad_token_id)
    config = RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.hidden_size,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        intermediate_size=settings.intermediate_size,
        # Without dropout, which so small a model does not need, a run does not depend on the
        # number of workers, and attention takes the fused kernel.
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        # RoBERTa's positions start after the padding token's id.
        max_position_embeddings=settings.max_tokens + pad + 1,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        pad_token_id=pad,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = RobertaForMaskedLM(config)
    if not settings.positions:
        table: nn.Embedding = model.roberta.embeddings.position_embeddings
        table.weight.requires_grad_(False).zero_()
    return model


class MaskedWordLoss(nn.Module):
    """A masked-word model with its summed loss as output."""

    def __init__(self, model: RobertaForMaskedLM, pad: int) -> None:
        super().__init__()
        self.model = model
        self.pad = pad

    def forward(self, inputs_BT: Tensor, labels_BT: Tensor) -> Tensor:
        """Summed cross-entropy of the tokens to predict, in nats, a scalar."""
        hidden_BTH = self.model.roberta(
            input_ids=inputs_BT, attention_mask=self._padding_mask(inputs_BT)
        ).last_hidden_state
        chosen_BT = labels_BT != IGNORED
        # Scores over W tokens are wanted at the P tokens to predict only: a seventh of the work.
        logits_PW = self.model.lm_head(hidden_BTH[chosen_BT])
        if logits_PW.dtype == torch.bfloat16:
            logits_PW = logits_PW.float()
        return cross_entropy(logits_PW, labels_BT[chosen_BT], reduction="sum")

    def _padding_mask(self, inputs_BT: Tensor) -> Tensor:
        """What is added to the attention scores, shape (B, 1, 1, T).

        In the precision of the scores: from a mask of ones and zeros transformers makes one in
        single precision and of shape (B, 1, T, T), which costs a fifth of the time.
        """
        kind = inputs_BT.device.type
        halves = torch.is_autocast_enabled(kind)
        dtype = torch.get_autocast_dtype(kind) if halves else self.model.dtype
        mask_BT = torch.zeros(inputs_BT.shape, dtype=dtype, device=inputs_BT.device)
        mask_BT.masked_fill_(inputs_BT == self.pad, torch.finfo(dtype).min)
        return mask_BT[:, None, None]


def save(result: PretrainResult, tokenizer: PreTrainedTokenizerBase, directory: Path | str) -> None:
    """Write config.json, model.safetensors and the tokenizer's files into `directory`.

    `encoder.load_encoder` and transformers' AutoModel and AutoTokenizer read it.
    """
    with quiet_transformers():
        result.model.save_pretrained(directory)
        tokenizer.save_pretrained(directory)
