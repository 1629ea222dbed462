"""The fusion network F: S -> R^k (paper section 3.2, figures 1 to 3).

Shapes: B songs in a batch, D fused features, M modalities, H a hidden width, K classes.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from fusionrec.models.batch import BatchContext
from fusionrec.models.collective import Collective
from fusionrec.models.fusion import Fusion
from fusionrec.models.layers import ModalityDropout, SharedBatchNorm, SharedDropout
from fusionrec.models.settings import FusionSettings

HIDDEN = (256, 128, 128, 256, 512)
"""Widths of the fully connected layers (paper section 3.2)."""


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
        # In training a normalisation and all that follows it up to a product are one step, which
        # has the bias before it, too.
        first, norm, _, dropout, second, last = self.body
        assert isinstance(norm, SharedBatchNorm)
        assert isinstance(dropout, SharedDropout)
        assert isinstance(last, SharedBatchNorm)
        assert isinstance(first, nn.Linear)
        assert isinstance(second, nn.Linear)
        if not self.training:
            return last.rectified(second(norm.rectified(first(x_BH))), skip_BH=x_BH)
        hidden_BH = norm.rectified(
            nn.functional.linear(x_BH, first.weight), shift_H=first.bias, dropout=dropout
        )
        return last.rectified(
            nn.functional.linear(hidden_BH, second.weight), shift_H=second.bias, skip_BH=x_BH
        )


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
        logits: Tensor = self.output(self._hidden(x_BD, present_BM))
        return self.context.share.unwoven(logits) if self.training else logits

    def embedding(self, x_BD: Tensor, present_BM: Tensor | None = None) -> Tensor:
        """The last hidden layer, shape (B, 512)."""
        hidden_BH = self._hidden(x_BD, present_BM)
        return self.context.share.unwoven(hidden_BH) if self.training else hidden_BH

    def _hidden(self, x_BD: Tensor, present_BM: Tensor | None) -> Tensor:
        """The same; in training, with the rows as the layers have them."""
        if present_BM is None:
            modalities = len(self.fusion.settings.blocks)
            present_BM = x_BD.new_ones(len(x_BD), modalities, dtype=torch.bool)
        present_BM = self.modality_dropout(present_BM)
        if self.training:
            share = self.context.share
            x_BD, present_BM = share.woven(x_BD), share.woven(present_BM)
        hidden_BH: Tensor = self.hidden(self.fusion(x_BD, present_BM))
        return hidden_BH

    @torch.inference_mode()
    def song_vectors(self, x_BD: Tensor, present_BM: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """F(s), shape (B, k), and the last hidden layer, shape (B, 512)."""
        self.eval()
        hidden_BH = self.embedding(x_BD, present_BM)
        return torch.softmax(self.output(hidden_BH), dim=1), hidden_BH
