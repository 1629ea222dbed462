"""The fusion network F: S -> R^k (paper section 3.2, figures 1 to 3).

Shapes: B songs in a batch, D fused features, M modalities, H a hidden width, K classes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from fusionrec.models.collective import Collective
from fusionrec.models.fusion import Fusion
from fusionrec.models.settings import FusionSettings

HIDDEN = (256, 128, 128, 256, 512)
"""Widths of the fully connected layers (paper section 3.2)."""


@dataclass(frozen=True)
class BatchShare:
    """Where a worker's rows lie in a global batch of `rows` songs.

    Attributes
    ----------
    rows
        Songs in the global batch.
    start, stop
        This worker's rows.
    sizes
        Rows of each of this worker's normalisation groups; None where the whole batch is one
        group, of which the worker has a part.
    groups
        Groups in the global batch.
    """

    rows: int
    start: int = 0
    stop: int = 0
    sizes: tuple[int, ...] | None = None
    groups: int = 1

    @staticmethod
    def of(rows: int, group: int | None, collective: Collective) -> BatchShare:
        """The worker's share of a batch in groups of about `group` rows (None: in one)."""
        groups = 1 if group is None else max(1, round(rows / group))
        if groups == 1:
            return BatchShare(rows, *collective.slice(rows))
        first, last = collective.slice(groups)
        ends = [rows * i // groups for i in range(first, last + 1)]
        sizes = tuple(b - a for a, b in pairwise(ends))
        return BatchShare(rows, ends[0], ends[-1], sizes, groups)


@dataclass
class BatchContext:
    """What layers need to know of the global batch, and the dropout's randomness.

    Dropout masks are drawn for the whole global batch from one generator that every
    worker seeds alike, and each worker takes its own rows; so a run does not depend on
    the number of workers.
    """

    generator: torch.Generator = field(default_factory=torch.Generator)
    share: BatchShare = field(default_factory=lambda: BatchShare(0))


class SharedDropout(nn.Module):
    """Dropout whose mask depends on a song's row in the global batch, not on the worker.

    The mask takes 16 random bits an element (so p is exact to 2^-17), which costs a fifth of
    `nn.Dropout`'s Bernoulli numbers on a CPU.
    """

    def __init__(self, p: float, context: BatchContext) -> None:
        super().__init__()
        self.p = p
        self.context = context

    def forward(self, x_BH: Tensor) -> Tensor:
        if not self.training or self.p == 0.0:
            return x_BH
        context = self.context
        words = torch.empty(
            context.share.rows, -(-x_BH.shape[1] // 4), dtype=torch.int64, device=x_BH.device
        )
        words.random_(-(2**63), None, generator=context.generator)
        mine = words[context.share.start : context.share.stop].view(torch.int16)
        kept = mine[:, : x_BH.shape[1]] >= round(self.p * 2**16) - 2**15
        return x_BH * (kept * (1.0 / (1.0 - self.p)))

    def extra_repr(self) -> str:
        return f"p={self.p}"


class ModalityDropout(nn.Module):
    """Modalities of songs that are absent in training though the songs have them.

    A song keeps one where the number drawn for it is at least `rate`, and that of the largest
    number, so that it never loses all. Drawn as in :class:`SharedDropout`; nothing where `rate`
    is 0.
    """

    def __init__(self, rate: float, context: BatchContext) -> None:
        super().__init__()
        self.rate = rate
        self.context = context

    def forward(self, present_BM: Tensor) -> Tensor:
        if not self.training or self.rate == 0.0:
            return present_BM
        context, share = self.context, self.context.share
        shape = (share.rows, present_BM.shape[1])
        u = torch.rand(shape, generator=context.generator, device=present_BM.device)
        own_BM = u[share.start : share.stop].masked_fill(~present_BM, -1.0)
        largest_BM = own_BM == own_BM.amax(dim=1, keepdim=True)
        return present_BM & ((own_BM >= self.rate) | largest_BM)


class _Normalise(Function):
    """Batch normalisation with the global batch's moments, and the gradient through them."""

    @staticmethod
    def forward(
        ctx: Any,
        x_BH: Tensor,
        weight_H: Tensor,
        bias_H: Tensor,
        moments: tuple[Tensor, Tensor, Tensor],
        collective: Collective,
    ) -> Tensor:
        mean_H, scale_H, rows = moments
        normal_BH = (x_BH - mean_H) * scale_H
        ctx.save_for_backward(normal_BH, weight_H, scale_H, rows)
        ctx.collective = collective
        return normal_BH * weight_H + bias_H

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        normal_BH, weight_H, scale_H, rows = ctx.saved_tensors
        (out_BH,) = gradients
        bias_H, product_H = out_BH.sum(0), (out_BH * normal_BH).sum(0)
        means_2H = ctx.collective.sum(torch.stack([bias_H, product_H])) / rows
        x_BH = (out_BH - means_2H[0] - normal_BH * means_2H[1]) * (weight_H * scale_H)
        # Those of this worker's rows alone: data-parallel training adds the workers' up.
        return x_BH, product_H, bias_H, None, None


class SharedBatchNorm(nn.BatchNorm1d):
    """Batch normalisation that does not depend on the number of workers.

    Where the batch is one group, its moments are those of the global batch: torch's
    SyncBatchNorm needs a GPU; this one works on any process group, with one exchange each way,
    and equals `BatchNorm1d` where there is one worker. Where it is several, each group has its
    own moments and no worker waits for another (ghost batch normalisation, Hoffer et al. 2017);
    the running moments take the mean over the groups.
    """

    def __init__(self, width: int, collective: Collective, context: BatchContext) -> None:
        super().__init__(width)
        self.collective = collective
        self.context = context

    def forward(self, x_BH: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x_BH)
        if self.context.share.sizes is not None:
            return self._by_group(x_BH, self.context.share.sizes)
        if self.collective.world == 1:
            return super().forward(x_BH)
        x_BH = x_BH.to(self.weight.dtype)
        mean_H, squares_H, rows = self._moments(x_BH.detach())
        variance_H = squares_H / rows
        self._track(mean_H, squares_H / (rows - 1))
        moments = (mean_H, torch.rsqrt(variance_H + self.eps), rows)
        out: Tensor = _Normalise.apply(  # type: ignore[no-untyped-call]
            x_BH, self.weight, self.bias, moments, self.collective
        )
        return out

    def _by_group(self, x_BH: Tensor, sizes: tuple[int, ...]) -> Tensor:
        moments_2H = torch.zeros(2, x_BH.shape[1], dtype=self.weight.dtype, device=x_BH.device)
        # A worker without a group takes part in the others' gradients with its zeros.
        out = [x_BH * self.weight + self.bias] if not sizes else []
        for part_BH in torch.split(x_BH, list(sizes)) if sizes else ():
            normal_BH, mean_H, scale_H = torch.native_batch_norm(
                part_BH, self.weight, self.bias, None, None, True, 0.0, self.eps
            )
            out.append(normal_BH)
            with torch.no_grad():
                rows = len(part_BH)
                variance_H = (scale_H.square().reciprocal_() - self.eps).clamp_(min=0)
                moments_2H += torch.stack([mean_H, variance_H * (rows / (rows - 1))])
        # Each worker tracks its share of the mean; `average_running_moments` adds them up.
        moments_2H *= self.collective.world / self.context.share.groups
        self._track(moments_2H[0], moments_2H[1])
        return torch.cat(out)

    @torch.no_grad()
    def _track(self, mean_H: Tensor, variance_H: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        momentum = self.momentum or 0.0
        self.running_mean.lerp_(mean_H, momentum)
        self.running_var.lerp_(variance_H, momentum)
        self.num_batches_tracked.add_(1)

    @torch.no_grad()
    def _moments(self, x_BH: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean, sum of squared deviations and number of rows, of the global batch.

        Each worker's moments are about its own mean, and are combined about the common one
        (Chan et al.): a mean square less a squared mean would lose digits.
        """
        rows, width = x_BH.shape
        mine = x_BH.new_zeros(2 * width + 1)
        if rows:
            # Quicker than torch.var_mean down the columns.
            mean_H = x_BH.mean(dim=0)
            mine[:width], mine[-1] = mean_H, rows
            mine[width:-1] = (x_BH - mean_H).square_().sum(dim=0)
        each = self.collective.gather(mine)
        means, squares, counts = each[:, :width], each[:, width:-1], each[:, -1:]
        total = counts.sum()
        mean_H = (means * counts).sum(0) / total
        squares_H = (squares + counts * (means - mean_H).square()).sum(0)
        return mean_H, squares_H, total


class ResidualBlock(nn.Module):
    """Two linear layers, batch normalisation, ReLU and dropout, and a skip connection (figure 2).

    Dropout stays inside the branch: on the main path it would shift the variance that the
    next batch normalisation sees between training and evaluation, block after block.
    """

    def __init__(self, width: int, p: float, context: BatchContext, group: Collective) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(width, width),
            SharedBatchNorm(width, group, context),
            nn.ReLU(),
            SharedDropout(p, context),
            nn.Linear(width, width),
            SharedBatchNorm(width, group, context),
        )

    def forward(self, x_BH: Tensor) -> Tensor:
        return torch.relu(x_BH + self.body(x_BH))


class FusionNetwork(nn.Module):
    """Fully connected 256-128-128-256-512, a residual block after each, softmax over k.

    Parameters
    ----------
    features
        D, columns of the fused matrix, where they are one block; or how several modalities'
        blocks are fused.
    classes
        k, columns of the output.
    p
        Dropout probability.
    collective
        The data-parallel workers that share a batch; alone by default.
    modality_dropout
        How often a modality of a song is left out in training; see :class:`ModalityDropout`.
    """

    def __init__(
        self,
        features: int | FusionSettings,
        classes: int,
        p: float,
        collective: Collective | None = None,
        modality_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        group = collective or Collective()
        self.context = BatchContext()
        settings = FusionSettings((features,)) if isinstance(features, int) else features
        self.p = p
        self.modality_dropout = ModalityDropout(modality_dropout, self.context)
        self.fusion = Fusion(settings)
        layers: list[nn.Module] = []
        widths = (self.fusion.out_features, *HIDDEN[:-1])
        for before, width in zip(widths, HIDDEN, strict=True):
            layers += [
                nn.Linear(before, width),
                nn.ReLU(),
                ResidualBlock(width, p, self.context, group),
            ]
        self.hidden = nn.Sequential(*layers)
        self.output = nn.Linear(HIDDEN[-1], classes)

    def description(self) -> dict[str, Any]:
        """What makes this network, but for its weights; JSON-able."""
        classes = self.output.out_features
        return {"fusion": asdict(self.fusion.settings), "classes": classes, "p": self.p}

    @classmethod
    def from_description(cls, description: dict[str, Any]) -> FusionNetwork:
        """The inverse of :meth:`description`, with new weights."""
        fusion = description["fusion"]
        settings = FusionSettings(**{**fusion, "blocks": tuple(fusion["blocks"])})
        return cls(settings, description["classes"], description["p"])

    def forward(self, x_BD: Tensor, present_BM: Tensor | None = None) -> Tensor:
        """Logits, shape (B, k); their softmax is F(s).

        `present_BM`, bool, says which modalities each song has: all of them by default.
        """
        logits: Tensor = self.output(self.embedding(x_BD, present_BM))
        return logits

    def embedding(self, x_BD: Tensor, present_BM: Tensor | None = None) -> Tensor:
        """The last hidden layer, shape (B, 512)."""
        if present_BM is None:
            modalities = len(self.fusion.settings.blocks)
            present_BM = x_BD.new_ones(len(x_BD), modalities, dtype=torch.bool)
        hidden_BH: Tensor = self.hidden(self.fusion(x_BD, self.modality_dropout(present_BM)))
        return hidden_BH

    @torch.inference_mode()
    def song_vectors(self, x_BD: Tensor, present_BM: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """F(s), shape (B, k), and the last hidden layer, shape (B, 512)."""
        self.eval()
        hidden_BH = self.embedding(x_BD, present_BM)
        return torch.softmax(self.output(hidden_BH), dim=1), hidden_BH


@torch.no_grad()
def average_running_moments(module: nn.Module, collective: Collective) -> None:
    """Make the running moments those of all workers' rows; before any evaluation."""
    norms = [m for m in module.modules() if isinstance(m, SharedBatchNorm)]
    if collective.world == 1 or not norms:
        return
    tracked = [x for norm in norms for x in (norm.running_mean, norm.running_var)]
    moments = [x for x in tracked if x is not None]
    means = collective.sum(torch.cat(moments)) / collective.world
    for moment, mean in zip(moments, torch.split(means, [len(x) for x in moments]), strict=True):
        moment.copy_(mean)
