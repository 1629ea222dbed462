"""Pre-training a masked-word model, alone or as one of several data-parallel workers.

Every worker draws the same order of the texts and the same masks for the global batch from
the seed, and takes its share of the batch's rows; the loss is the mean over the global
batch's predicted tokens, and the encoder has no dropout. So the number of workers changes
a run by rounding only.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fusionrec.errors import DataError
from fusionrec.features.lyrics.products import bfloat16_pays
from fusionrec.features.pretraining.masked_words import (
    IGNORED,
    MaskedWordLoss,
    PretrainResult,
    TokenBags,
    mask_tokens,
    new_model,
    tokenize,
)
from fusionrec.features.pretraining.settings import MlmSettings
from fusionrec.features.pretraining.tokenizer import is_count
from fusionrec.models.collective import Collective

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)

_WINDOW = 50
"""Batches whose texts are sorted by length together: little padding, and still shuffled."""

_SECONDS_BETWEEN_LINES = 10.0


def pretrain(
    texts: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    settings: MlmSettings,
    *,
    seed: int,
    collective: Collective | None = None,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> PretrainResult:
    """Train a RoBERTa from scratch on `texts`.

    The same inputs, seed and number of torch threads give the same weights; more or fewer
    workers differ by rounding. torch's global random state is left as it was.

    Parameters
    ----------
    texts
        Such as ``"love:12 you:3"``, in the order in which the tokens get their positions.
        All of them on every worker.
    tokenizer
        With padding, mask and start tokens; `word_tokenizer.build_tokenizer` makes one.
    settings
        Size and training.
    seed
        Of the weights, the held-out texts, the order and the masks.
    collective
        The data-parallel workers that share a batch; alone by default.
    device
        Torch device of this worker.
    progress
        Called after each step with the step (from 1) and the number of steps.

    Raises
    ------
    DataError
        Fewer than two texts have a token.
    """
    group = collective or Collective()
    bags = tokenize(texts, tokenizer, settings.max_tokens)
    if len(bags) < 2:
        raise DataError(
            f"pretraining an encoder needs two songs with lyrics or more, not {len(bags)}; name "
            "more musiXmatch files in source.lyrics or leave out --set embed.modalities=[metadata]"
        )
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(bags), generator=generator)
    heldout_size = min(max(1, round(len(bags) * settings.heldout_share)), len(bags) - 1)
    heldout, training = order[:heldout_size], order[heldout_size:]

    # Weights are drawn from torch's global generator.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        objective = MaskedWordLoss(new_model(tokenizer, settings), int(tokenizer.pad_token_id))
    objective.to(device)
    shares = _Shares(bags, tokenizer, settings.mask_probability, generator, group, device)
    losses = _train(objective, training, shares, settings, progress)
    is_word_W = _words(tokenizer)
    perplexity, unigram = _perplexities(objective, heldout, shares, settings, is_word_W)
    log.info(
        "pretrained an encoder of %d parameters on %d texts in %d steps: "
        "held-out perplexity %.1f, of word frequencies %.1f, of chance %d",
        sum(parameter.numel() for parameter in objective.parameters()),
        len(training),
        len(losses),
        perplexity,
        unigram,
        int(is_word_W.sum()),
    )
    return PretrainResult(objective.model.cpu(), losses, perplexity, unigram)


def autocasts(dtype: str, group: Collective, device: str) -> bool:
    """Whether matrix products run in bfloat16: as configured, or where it pays for all workers."""
    if dtype != "auto":
        return dtype == "bfloat16"
    loses = torch.tensor([float(not bfloat16_pays(device).works)], device=device)
    return not group.sum(loses).item()


class _Shares:
    """Masked global batches, of which each worker gets its rows."""

    def __init__(
        self,
        bags: TokenBags,
        tokenizer: PreTrainedTokenizerBase,
        probability: float,
        generator: torch.Generator,
        group: Collective,
        device: str,
    ) -> None:
        self.bags = bags
        self.tokenizer = tokenizer
        self.probability = probability
        self.generator = generator
        self.group = group
        self.device = device

    def share(self, rows_B: Tensor, only_W: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """This worker's inputs and labels, and the global batch's labels.

        `only_W` says which tokens may be predicted. The global batch is masked on every
        worker alike, from the same generator.
        """
        ids_BT = self.bags.padded(rows_B, int(self.tokenizer.pad_token_id))
        inputs_BT, labels_BT = mask_tokens(ids_BT, self.tokenizer, self.probability, self.generator)
        if only_W is not None:
            labels_BT[~only_W[labels_BT.clamp(min=0)]] = IGNORED
        start, stop = self.group.slice(len(rows_B))
        mine = labels_BT[start:stop]
        if start == stop:
            # More workers than rows: a row without a label, so that this one takes part.
            start, stop = 0, 1
            mine = torch.full_like(labels_BT[:1], IGNORED)
        return inputs_BT[start:stop].to(self.device), mine.to(self.device), labels_BT


def _train(
    objective: MaskedWordLoss,
    training: Tensor,
    shares: _Shares,
    settings: MlmSettings,
    progress: Callable[[int, int], None] | None,
) -> list[float]:
    """Train `objective` in place; the global loss of every step, in nats a token."""
    group, device = shares.group, shares.device
    model: nn.Module = objective
    if group.world > 1:
        model = DistributedDataParallel(objective)
    parameters = [p for p in objective.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(
        parameters, lr=settings.learning_rate, weight_decay=0.01, fused=True
    )
    total = settings.epochs * math.ceil(len(training) / settings.batch_size)
    warmup = max(1, round(0.1 * total))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda step: min((step + 1) / warmup, (total - step) / max(1, total - warmup)),
    )
    halves = autocasts(settings.dtype, group, device)
    autocast = torch.autocast(torch.device(device).type, torch.bfloat16, enabled=halves)
    if halves and device == "cpu":
        # The fused kernel's backward pass in bfloat16 is five times slower on a CPU.
        objective.model.set_attn_implementation("eager")
    sums: list[Tensor] = []
    counts: list[int] = []
    shown = time.monotonic()
    model.train()
    for step, rows in enumerate(_batches(training, shares, settings), start=1):
        inputs, labels, global_labels = shares.share(rows)
        predicted = int((global_labels != IGNORED).sum())
        # The mean over no token is undefined; such a step (a few short texts) changes nothing.
        if predicted:
            with autocast:
                loss = model(inputs, labels)
            optimiser.zero_grad(set_to_none=True)
            # DDP averages gradients; times the world it is the global batch's mean.
            torch.autograd.backward(loss * (group.world / predicted))
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            sums.append(loss.detach())
            counts.append(predicted)
        schedule.step()
        if progress:
            progress(step, total)
        if group.rank == 0 and time.monotonic() - shown >= _SECONDS_BETWEEN_LINES and sums:
            shown = time.monotonic()
            share_loss = sums[-1].item() * group.world / counts[-1]
            log.info("pretrain: step %d of %d, loss %.3f", step, total, share_loss)
    model.eval()
    objective.model.set_attn_implementation("sdpa")
    if not sums:
        return []
    means = group.sum(torch.stack(sums)).double().cpu() / torch.tensor(counts)
    return [float(mean) for mean in means]


def _batches(training: Tensor, shares: _Shares, settings: MlmSettings) -> Iterator[Tensor]:
    """Rows of every batch: in each epoch every text once, in batches of like length."""
    lengths = shares.bags.lengths
    window = torch.arange(len(training)) // (_WINDOW * settings.batch_size)
    for _ in range(settings.epochs):
        order = training[torch.randperm(len(training), generator=shares.generator)]
        # Sorted by window, then by length.
        order = order[torch.argsort(window * (settings.max_tokens + 1) + lengths[order])]
        batches = _cut(order, settings.batch_size)
        for i in torch.randperm(len(batches), generator=shares.generator).tolist():
            yield batches[i]


def _cut(rows: Tensor, size: int) -> list[Tensor]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _words(tokenizer: PreTrainedTokenizerBase) -> Tensor:
    """Which tokens are words, neither counts nor special; bool, shape (W,)."""
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    is_word_W = torch.tensor([not is_count(token) for token in tokens])
    is_word_W[torch.tensor(tokenizer.all_special_ids)] = False
    return is_word_W


@torch.no_grad()
def _perplexities(
    objective: MaskedWordLoss,
    heldout: Tensor,
    shares: _Shares,
    settings: MlmSettings,
    is_word_W: Tensor,
) -> tuple[float, float]:
    """Held-out perplexity of the model and of the training texts' word frequencies.

    The held-out texts are masked anew until a thousand words have been predicted (20 times at
    most), so that a handful of texts still gives a steady number.
    """
    bags, tokens = shares.bags, len(is_word_W)
    heldout = heldout[bags.lengths[heldout].argsort()]
    heldout_ids = bags.padded(heldout, int(shares.tokenizer.pad_token_id)).flatten()
    seen_W = bags.ids.bincount(minlength=tokens) - heldout_ids.bincount(minlength=tokens)
    log_share_W = ((seen_W + 1).double() / (seen_W[is_word_W] + 1).sum()).log()
    loss = torch.zeros((), dtype=torch.float64, device=shares.device)
    unigram, predicted = 0.0, 0
    for _ in range(20):
        for rows in _cut(heldout, settings.batch_size):
            inputs, labels, global_labels = shares.share(rows, is_word_W)
            words = global_labels[global_labels != IGNORED]
            loss += objective(inputs, labels)
            unigram -= log_share_W[words].sum().item()
            predicted += len(words)
        if predicted >= 1000:
            break
    if not predicted:
        return math.nan, math.nan
    mean = shares.group.sum(loss).item() / predicted
    return math.exp(mean), math.exp(unigram / predicted)
