"""The fusion network F: S -> R^k (paper section 3.2, figures 1 to 3).

Shapes: B songs in a batch, D fused features, H a hidden width, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from fusionrec.models.collective import Collective

HIDDEN = (256, 128, 128, 256, 512)
"""Widths of the fully connected layers (paper section 3.2)."""


@dataclass
class BatchContext:
    """Where this worker's rows lie in the global batch, and the dropout's randomness.

    Dropout masks are drawn for the whole global batch from one generator that every
    worker seeds alike, and each worker takes its own rows; so a run does not depend on
    the number of workers.
    """

    generator: torch.Generator = field(default_factory=torch.Generator)
    rows: int = 0
    offset: int = 0


class SharedDropout(nn.Module):
    """Dropout whose mask depends on a song's place in the global batch, not on the worker."""

    def __init__(self, p: float, context: BatchContext) -> None:
        super().__init__()
        self.p = p
        self.context = context

    def forward(self, x_BH: Tensor) -> Tensor:
        if not self.training or self.p == 0.0:
            return x_BH
        context = self.context
        uniform = torch.rand(context.rows, x_BH.shape[1], generator=context.generator)
        mine = uniform[context.offset : context.offset + x_BH.shape[0]].to(x_BH.device)
        return x_BH * (mine >= self.p) / (1.0 - self.p)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class SharedBatchNorm(nn.BatchNorm1d):
    """Batch normalisation over the global batch.

    torch's SyncBatchNorm needs a GPU; this one works on any process group, and equals
    `BatchNorm1d` where there is one worker.
    """

    def __init__(self, width: int, collective: Collective) -> None:
        super().__init__(width)
        self.collective = collective

    def forward(self, x_BH: Tensor) -> Tensor:
        if not self.training or self.collective.world == 1:
            return super().forward(x_BH)
        counted = torch.cat([x_BH.sum(0), x_BH.new_tensor([x_BH.shape[0]])])
        sums = self.collective.sum_with_gradient(counted)
        rows, mean_H = sums[-1], sums[:-1] / sums[-1]
        # A second sum, of squared deviations: the mean square less the squared mean would
        # lose digits, and workers would differ by more than rounding.
        centred_BH = x_BH - mean_H
        variance_H = self.collective.sum_with_gradient(centred_BH.square().sum(0)) / rows
        with torch.no_grad():
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.num_batches_tracked is not None
            momentum = self.momentum or 0.0
            self.running_mean.lerp_(mean_H.detach(), momentum)
            self.running_var.lerp_(variance_H.detach() * rows / (rows - 1), momentum)
            self.num_batches_tracked.add_(1)
        normal_BH = centred_BH * torch.rsqrt(variance_H + self.eps)
        return normal_BH * self.weight + self.bias


class ResidualBlock(nn.Module):
    """Two linear layers, batch normalisation, ReLU and dropout, and a skip connection (figure 2).

    Dropout stays inside the branch: on the main path it would shift the variance that the
    next batch normalisation sees between training and evaluation, block after block.
    """

    def __init__(self, width: int, p: float, context: BatchContext, group: Collective) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(width, width),
            SharedBatchNorm(width, group),
            nn.ReLU(),
            SharedDropout(p, context),
            nn.Linear(width, width),
            SharedBatchNorm(width, group),
        )

    def forward(self, x_BH: Tensor) -> Tensor:
        return torch.relu(x_BH + self.body(x_BH))


class FusionNetwork(nn.Module):
    """Fully connected 256-128-128-256-512, a residual block after each, softmax over k.

    Parameters
    ----------
    features
        D, columns of the fused matrix.
    classes
        k, columns of the output.
    p
        Dropout probability.
    collective
        The data-parallel workers that share a batch; alone by default.
    """

    def __init__(
        self, features: int, classes: int, p: float, collective: Collective | None = None
    ) -> None:
        super().__init__()
        group = collective or Collective()
        self.context = BatchContext()
        layers: list[nn.Module] = []
        for before, width in zip((features, *HIDDEN[:-1]), HIDDEN, strict=True):
            layers += [
                nn.Linear(before, width),
                nn.ReLU(),
                ResidualBlock(width, p, self.context, group),
            ]
        self.hidden = nn.Sequential(*layers)
        self.output = nn.Linear(HIDDEN[-1], classes)

    def forward(self, x_BD: Tensor) -> Tensor:
        """Logits, shape (B, k); their softmax is F(s)."""
        logits: Tensor = self.output(self.hidden(x_BD))
        return logits

    @torch.inference_mode()
    def song_vectors(self, x_BD: Tensor) -> tuple[Tensor, Tensor]:
        """F(s), shape (B, k), and the last hidden layer, shape (B, 512)."""
        self.eval()
        hidden_BH = self.hidden(x_BD)
        return torch.softmax(self.output(hidden_BH), dim=1), hidden_BH
