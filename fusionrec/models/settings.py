"""What the network and its training are told, and the defaults of both.

The configuration's sections take their defaults from here; nothing here imports torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Operator = Literal["concatenate", "add", "multiply", "max", "min", "mean", "gated"]
Align = Literal["project", "pad", "truncate"]
Absent = Literal["neutral", "learned"]


@dataclass(frozen=True)
class Settings:
    """Hyperparameters of a training."""

    epochs: int = 200
    batch_size: int = 256
    eta: float = 0.001
    p: float = 0.5
    class_weights: bool = True
    label_smoothing: float = 0.0
    weight_decay: float = 0.0
    schedule: Literal["constant", "cosine"] = "constant"
    patience: int | None = None
    evaluate_every: int | None = None
    norm_group: int | None = 64
    dtype: Literal["auto", "float32", "bfloat16", "float64"] = "auto"
    seed: int = 0


@dataclass(frozen=True)
class FusionSettings:
    """How the modalities become one vector.

    Attributes
    ----------
    blocks
        Columns D_m of each modality, in the order in which they lie side by side.
    operator
        `concatenate` (the paper's), `add`, `multiply`, `max`, `min`, `mean`, or `gated`: a mean
        whose weights, one a modality and song, are a softmax over learned scores.
    align
        Bringing the modalities to one size W, for every operator but concatenation: `project`
        by a learned linear layer each; `pad` the smaller ones; `truncate` the larger ones
        (principal components, so the last ones matter least).
    width
        W under `project`; the largest or smallest D_m otherwise.
    absent
        A modality that a song does not have is left out of the operator (`neutral`: zeros where
        concatenated, which is the training mean of standardised features), or replaced by a
        `learned` vector.
    """

    blocks: tuple[int, ...]
    operator: Operator = "concatenate"
    align: Align = "project"
    width: int = 128
    absent: Absent = "neutral"
