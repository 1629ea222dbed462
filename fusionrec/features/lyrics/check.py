"""Whether an encoder would work, before hours are spent on what comes before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fusionrec.features.lyrics.architecture import Pooling
from fusionrec.features.lyrics.encoder import Dtype, load_encoder
from fusionrec.features.lyrics.hub import encoder_fault, first_line
from fusionrec.features.lyrics.recipes import text_tokenizer_of
from fusionrec.features.lyrics.texts import Long

_TEXTS = ("love:2 you:1", "rain:1")
_LONG = "night:7 " * 600


@dataclass(frozen=True)
class CheckedEncoder:
    """What was found: the length of a vector, of a text in tokens, and how it computes."""

    hidden_size: int
    max_tokens: int
    dtype: Dtype
    path: str


def check_encoder(
    name_or_dir: str,
    *,
    pooling: Pooling = "cls",
    dtype: Literal["auto"] | Dtype = "auto",
    device: str = "cpu",
    long: Long = "cut",
) -> CheckedEncoder:
    """Load an encoder, and encode two tiny texts and one that is cut at its limit.

    `long` is what becomes of longer lyrics where they are read as they are written.

    Takes as long as loading, and a second or so. Run it where the encoder will run: it
    downloads a model that is not in the Hugging Face cache.

    Raises
    ------
    EncoderError
        It cannot be had or loaded, its vectors are not numbers, or there are to be windows, and
        its tokenizer cannot make them.
    ConfigError
        `pooling` does not fit it.
    """
    encoder = load_encoder(name_or_dir, device=device, dtype=dtype)
    try:
        encoder.encode([*_TEXTS, _LONG], pooling=pooling)
    except (IndexError, RuntimeError) as error:  # a position or a token that it has no row for
        raise encoder_fault(
            name_or_dir,
            f"fails on texts of up to {encoder.max_tokens} tokens ({type(error).__name__}: "
            f"{first_line(error)}); set model_max_length in its tokenizer_config.json to what the "
            "model has positions for",
        ) from error
    if long == "windows":
        text_tokenizer_of(name_or_dir, long)
    return CheckedEncoder(encoder.hidden_size, encoder.max_tokens, encoder.dtype, encoder.path)
