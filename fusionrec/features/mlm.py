"""Masked-word pretraining of a small RoBERTa on the corpus's own lyrics.

Stands in for roberta-base (paper section 3.1.5) where no pre-trained encoder is
at hand, and needs no network. The objective is RoBERTa's: 15 % of the tokens are
to be predicted, of which 80 % are masked, 10 % replaced by a random token and
10 % left as they are, drawn anew in every epoch.

Shapes: B texts in a batch, T tokens in its longest text, P tokens to predict, W tokens in
the vocabulary.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from fusionrec.errors import ConfigError, DataError
from fusionrec.features.encoder import quiet_transformers
from fusionrec.features.word_tokenizer import is_count

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, RobertaForMaskedLM

log = logging.getLogger(__name__)

IGNORED = -100
"""Label of a token that is not to be predicted."""

_WINDOW = 50
"""Batches whose texts are sorted by length together: little padding, and still shuffled."""


@dataclass(frozen=True)
class MlmSettings:
    """Size of the encoder, and how it is trained.

    Attributes
    ----------
    hidden_size, layers, heads, intermediate_size
        RoBERTa's dimensions; `heads` divides `hidden_size`.
    max_tokens
        Longest text in tokens, special ones included; the rest of a text is cut.
    epochs, batch_size
        Passes over the training texts, and texts in a step.
    learning_rate
        AdamW's peak rate, reached linearly in a tenth of the steps, then linearly down to 0.
    mask_probability
        Share of the tokens to predict.
    heldout_share
        Share of the texts on which the perplexity is measured; never trained on.
    """

    hidden_size: int = 128
    layers: int = 2
    heads: int = 4
    intermediate_size: int = 256
    max_tokens: int = 128
    epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 3e-3
    mask_probability: float = 0.15
    heldout_share: float = 0.05

    def __post_init__(self) -> None:
        if self.hidden_size % self.heads:
            raise ConfigError(
                f"pretrain.heads = {self.heads} does not divide pretrain.hidden_size = "
                f"{self.hidden_size}; choose a divisor"
            )
        if not 0 < self.mask_probability < 1 or not 0 < self.heldout_share < 1:
            raise ConfigError(
                f"mask_probability = {self.mask_probability} and heldout_share = "
                f"{self.heldout_share} must lie between 0 and 1"
            )


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


def pretrain(
    texts: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    settings: MlmSettings,
    *,
    seed: int,
    progress: Callable[[int, int, float], None] | None = None,
) -> PretrainResult:
    """Train a RoBERTa from scratch on `texts`.

    The same inputs, seed and number of torch threads give the same weights. torch's global
    random state is left as it was.

    Parameters
    ----------
    texts
        Such as ``"love:12 you:3"``, in the order in which the tokens get their positions.
    tokenizer
        With padding, mask and start tokens; `word_tokenizer.build_tokenizer` makes one.
    settings
        Size and training.
    seed
        Of the weights, the held-out texts, the order, the masks and dropout.
    progress
        Called after each step with the step (from 1), the number of steps and the loss.

    Raises
    ------
    DataError
        Fewer than two texts have a token.
    """
    bags = _tokenize(texts, tokenizer, settings.max_tokens)
    if len(bags) < 2:
        raise DataError(
            f"pretraining an encoder needs two songs with lyrics or more, not {len(bags)}; name "
            "more musiXmatch files in source.lyrics or leave out --set embed.modalities=[metadata]"
        )
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(bags), generator=generator).tolist()
    heldout_size = min(max(1, round(len(bags) * settings.heldout_share)), len(bags) - 1)
    heldout = [bags[i] for i in order[:heldout_size]]
    training = [bags[i] for i in order[heldout_size:]]

    # Weights and dropout draw from torch's global generator.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _new_model(tokenizer, settings)
        losses = _train(model, training, tokenizer, settings, generator, progress)
    perplexity, unigram = _perplexities(model, heldout, training, tokenizer, settings, generator)
    log.info(
        "pretrained an encoder of %d parameters on %d texts in %d steps: "
        "held-out perplexity %.1f, of word frequencies %.1f, of chance %d",
        sum(parameter.numel() for parameter in model.parameters()),
        len(training),
        len(losses),
        perplexity,
        unigram,
        len(tokenizer),
    )
    return PretrainResult(model, losses, perplexity, unigram)


def save(result: PretrainResult, tokenizer: PreTrainedTokenizerBase, directory: Path | str) -> None:
    """Write config.json, model.safetensors and the tokenizer's files into `directory`.

    `encoder.load_encoder` and transformers' AutoModel and AutoTokenizer read it.
    """
    with quiet_transformers():
        result.model.save_pretrained(directory)
        tokenizer.save_pretrained(directory)


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


def _tokenize(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, max_tokens: int
) -> list[Tensor]:
    """Token ids of every text that has a token besides the special ones."""
    if not texts:
        return []
    ids = tokenizer(list(texts), truncation=True, max_length=max_tokens)["input_ids"]
    empty = tokenizer.num_special_tokens_to_add()
    return [torch.tensor(row) for row in ids if len(row) > empty]


def _new_model(tokenizer: PreTrainedTokenizerBase, settings: MlmSettings) -> RobertaForMaskedLM:
    from transformers import RobertaConfig, RobertaForMaskedLM

    pad = int(tokenizer.pad_token_id)
    config = RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.hidden_size,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        intermediate_size=settings.intermediate_size,
        # Dropout of attention weights would rule out the fused kernel, a third of the time.
        attention_probs_dropout_prob=0.0,
        # RoBERTa's positions start after the padding token's id.
        max_position_embeddings=settings.max_tokens + pad + 1,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        pad_token_id=pad,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return RobertaForMaskedLM(config)


def _train(
    model: RobertaForMaskedLM,
    training: Sequence[Tensor],
    tokenizer: PreTrainedTokenizerBase,
    settings: MlmSettings,
    generator: torch.Generator,
    progress: Callable[[int, int, float], None] | None,
) -> list[float]:
    """Train `model` in place; the loss of every step, in nats."""
    parameters = list(model.parameters())
    optimiser = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=0.01)
    per_epoch = math.ceil(len(training) / settings.batch_size)
    total = settings.epochs * per_epoch
    warmup = max(1, round(0.1 * total))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda step: min((step + 1) / warmup, (total - step) / max(1, total - warmup)),
    )
    pad = int(tokenizer.pad_token_id)
    losses: list[float] = []
    model.train()
    for step in range(total):
        if step % per_epoch == 0:
            batches = _epoch(training, settings.batch_size, generator)
        ids_BT = _padded(batches[step % per_epoch], pad)
        inputs, labels = mask_tokens(ids_BT, tokenizer, settings.mask_probability, generator)
        loss, predicted = _loss(model, inputs, labels, pad)
        # The mean over no token is undefined; such a step (a few short texts) changes nothing.
        if predicted:
            optimiser.zero_grad()
            torch.autograd.backward(loss / predicted)
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            losses.append(loss.item() / predicted)
        schedule.step()
        if progress:
            progress(step + 1, total, losses[-1] if losses else math.nan)
    model.eval()
    return losses


def _epoch(
    training: Sequence[Tensor], batch_size: int, generator: torch.Generator
) -> list[list[Tensor]]:
    """Every text once, in batches of like length, in random order."""
    order = torch.randperm(len(training), generator=generator).tolist()
    window = _WINDOW * batch_size
    for start in range(0, len(order), window):
        order[start : start + window] = sorted(
            order[start : start + window], key=lambda i: len(training[i])
        )
    batches = _cut([training[i] for i in order], batch_size)
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def _cut(bags: Sequence[Tensor], batch_size: int) -> list[list[Tensor]]:
    return [list(bags[i : i + batch_size]) for i in range(0, len(bags), batch_size)]


def _padded(batch: list[Tensor], pad: int) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(batch, batch_first=True, padding_value=pad)


def _loss(
    model: RobertaForMaskedLM, inputs_BT: Tensor, labels_BT: Tensor, pad: int
) -> tuple[Tensor, int]:
    """Summed cross-entropy of the tokens to predict, and how many they are."""
    hidden = model.roberta(
        input_ids=inputs_BT, attention_mask=(inputs_BT != pad).long()
    ).last_hidden_state
    chosen = labels_BT != IGNORED
    # Scores over W tokens are wanted at the P tokens to predict only: a seventh of the work.
    logits_PW = model.lm_head(hidden[chosen])
    return cross_entropy(logits_PW, labels_BT[chosen], reduction="sum"), int(chosen.sum())


@torch.no_grad()
def _perplexities(
    model: RobertaForMaskedLM,
    heldout: Sequence[Tensor],
    training: Sequence[Tensor],
    tokenizer: PreTrainedTokenizerBase,
    settings: MlmSettings,
    generator: torch.Generator,
) -> tuple[float, float]:
    """Held-out perplexity of the model and of the training texts' word frequencies.

    The held-out texts are masked anew until a thousand words have been predicted (20 times at
    most), so that a handful of texts still gives a steady number.
    """
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    is_word = torch.tensor([not is_count(token) for token in tokens])
    is_word[torch.tensor(tokenizer.all_special_ids)] = False
    seen = torch.bincount(torch.cat(list(training)), minlength=len(tokenizer)).double() + 1
    log_share = (seen / seen[is_word].sum()).log()
    pad = int(tokenizer.pad_token_id)
    loss, unigram, predicted = 0.0, 0.0, 0
    for _ in range(20):
        for batch in _cut(heldout, settings.batch_size):
            inputs, labels = mask_tokens(
                _padded(batch, pad), tokenizer, settings.mask_probability, generator
            )
            labels[~is_word[labels.clamp(min=0)]] = IGNORED
            batch_loss, batch_predicted = _loss(model, inputs, labels, pad)
            loss += batch_loss.item()
            unigram -= log_share[labels[labels != IGNORED]].sum().item()
            predicted += batch_predicted
        if predicted >= 1000:
            break
    if not predicted:
        return math.nan, math.nan
    return math.exp(loss / predicted), math.exp(unigram / predicted)
