"""Fusion operators: the modalities' features of a song into one vector (paper section 3.2).

The paper chooses concatenation and names addition, multiplication and max, min and mean
pooling, which need vectors of one size; a gate is ours. Shapes: B songs in a batch, M
modalities of D_m columns each, D their sum, W the width they are brought to.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fusionrec.models.settings import FusionSettings


class Fusion(nn.Module):
    """The operator as a layer; see :class:`FusionSettings`.

    A coordinate that no modality of a song has, by absence or padding, is 0 (1 in a product).
    """

    def __init__(self, settings: FusionSettings) -> None:
        super().__init__()
        self.settings = settings
        blocks = settings.blocks
        self.absent = (
            nn.ParameterList(nn.Parameter(torch.zeros(size)) for size in blocks)
            if settings.absent == "learned"
            else None
        )
        self.project: nn.ModuleList | None = None
        self.gate: nn.ModuleList | None = None
        if settings.operator == "concatenate":
            self.out_features = sum(blocks)
            return
        if settings.align == "project":
            self.out_features = settings.width
            self.project = nn.ModuleList(nn.Linear(size, settings.width) for size in blocks)
        else:
            self.out_features = max(blocks) if settings.align == "pad" else min(blocks)
        if settings.operator == "gated":
            self.gate = nn.ModuleList(nn.Linear(size, 1) for size in blocks)
        sizes_M1 = torch.tensor([[self.out_features if self.project else s] for s in blocks])
        exists_MW = torch.arange(self.out_features) < sizes_M1
        self.register_buffer("exists_MW", exists_MW, persistent=False)

    def forward(self, x_BD: Tensor, present_BM: Tensor) -> Tensor:
        """Fused vectors, shape (B, `out_features`).

        Parameters
        ----------
        x_BD
            The modalities side by side; what stands in an absent one's columns is ignored.
        present_BM
            Bool: which modalities each song has.
        """
        parts = list(torch.split(x_BD, list(self.settings.blocks), dim=1))
        if self.absent is not None:
            parts = [
                torch.where(present_BM[:, m, None], part, learned)
                for m, (part, learned) in enumerate(zip(parts, self.absent, strict=True))
            ]
            present_BM = torch.ones_like(present_BM)
        if self.settings.operator == "concatenate":
            return torch.cat([part * present_BM[:, m, None] for m, part in enumerate(parts)], dim=1)
        aligned_BMW = torch.stack([self._aligned(m, part) for m, part in enumerate(parts)], dim=1)
        exists_MW: Tensor = self.exists_MW  # type: ignore[assignment]
        known_BMW = present_BM[:, :, None] & exists_MW
        return self._reduce(aligned_BMW, known_BMW, parts, present_BM)

    def _aligned(self, m: int, part_BD: Tensor) -> Tensor:
        if self.project is not None:
            projected: Tensor = self.project[m](part_BD)
            return projected
        missing = self.out_features - part_BD.shape[1]
        return nn.functional.pad(part_BD, (0, missing))  # cuts where negative

    def _reduce(
        self, x_BMW: Tensor, known_BMW: Tensor, parts: list[Tensor], present_BM: Tensor
    ) -> Tensor:
        operator = self.settings.operator
        if operator == "multiply":
            return torch.where(known_BMW, x_BMW, 1.0).prod(dim=1)
        if operator in ("max", "min"):
            worst = -torch.inf if operator == "max" else torch.inf
            filled_BMW = torch.where(known_BMW, x_BMW, worst)
            best_BW = filled_BMW.amax(1) if operator == "max" else filled_BMW.amin(1)
            return torch.where(known_BMW.any(dim=1), best_BW, 0.0)
        kept_BMW = torch.where(known_BMW, x_BMW, 0.0)
        if operator == "add":
            return kept_BMW.sum(dim=1)
        if operator == "mean":
            return kept_BMW.sum(dim=1) / known_BMW.sum(dim=1).clamp(min=1)
        assert self.gate is not None
        scores_BM = torch.cat([g(part) for g, part in zip(self.gate, parts, strict=True)], dim=1)
        lowest = torch.finfo(scores_BM.dtype).min
        weights_BM = torch.where(present_BM, scores_BM, lowest).softmax(dim=1)
        return (weights_BM[:, :, None] * kept_BMW).sum(dim=1)
