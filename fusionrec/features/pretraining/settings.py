"""What the pre-training of an encoder is told, and its defaults; without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fusionrec.errors import ConfigError


@dataclass(frozen=True)
class MlmSettings:
    """Size of the encoder, and how it is trained.

    The configuration's section takes its defaults from here, and works out `intermediate_size`
    and `max_tokens`.

    Attributes
    ----------
    hidden_size, layers, heads, intermediate_size
        RoBERTa's dimensions; `heads` divides `hidden_size`.
    max_tokens
        Longest text in tokens, special ones included; the rest of a text is cut.
    positions
        Whether the encoder knows where in the text a token stands. Without, its position
        table is zero and stays so, also in the saved file, and a text is a set of tokens.
    epochs, batch_size
        Passes over the training texts, and texts in a step, over all workers.
    learning_rate
        AdamW's peak rate, reached linearly in a tenth of the steps, then linearly down to 0.
    mask_probability
        Share of the tokens to predict.
    heldout_share
        Share of the texts on which the perplexity is measured; never trained on.
    dtype
        Precision of the matrix products in training; weights and sums are float32 in any
        case. "auto" is bfloat16 where the hardware multiplies it.
    """

    hidden_size: int = 128
    layers: int = 2
    heads: int = 4
    intermediate_size: int = 256
    max_tokens: int = 130
    positions: bool = False
    epochs: int = 5
    batch_size: int = 64
    learning_rate: float = 1e-3
    mask_probability: float = 0.15
    heldout_share: float = 0.05
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"

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
