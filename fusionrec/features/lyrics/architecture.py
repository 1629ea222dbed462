"""What a transformer is, as far as turning texts into vectors is concerned.

Families differ in which half encodes, in how many tokens they have positions for, and in what a
token may look at. The last two are read off the loaded model, not off a list of families.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from fusionrec.features.lyrics.hub import as_encoder_error, encoder_fault, first_line

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Pooling = Literal["cls", "mean", "last"]
"""Which vectors of the last layer make a text's: the first token's, the mean, the last token's."""

OFFLINE: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
"""Of every call of transformers: what is on disk, and no code that comes with a model."""


def config_of(name: str, directory: Path) -> Any:
    """A model's config.

    Raises
    ------
    EncoderError
        It does not load.
    """
    import transformers

    with as_encoder_error(name):
        return transformers.AutoConfig.from_pretrained(directory, **OFFLINE)


def load_model(
    name: str, directory: Path, config: Any, dtype: torch.dtype
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model that encodes, in evaluation mode on the CPU, and its tokenizer.

    Of a model with an encoder and a decoder, the encoder.

    Raises
    ------
    EncoderError
        Something does not load, or config, weights and tokenizer are not of one model.
    """
    loader, two_halves, alone = _loader(config)
    # Layers the file lacks are drawn at random: the caller's random state is left alone.
    with as_encoder_error(name), torch.random.fork_rng(devices=[]):
        tokenizer = load_tokenizer(name, directory)
        model, loading = loader.from_pretrained(
            directory,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
            **OFFLINE,
        )
        if two_halves and not alone:
            model = model.get_encoder()
    # Nobody asks for the pooler, a layer after the last hidden state, nor for a decoder.
    absent = sorted(
        key
        for key in loading["missing_keys"]
        if "pooler" not in key and not (two_halves and key.startswith("decoder."))
    )
    if absent:
        raise encoder_fault(
            name,
            f"its weights lack {len(absent)} tensors of the model that config.json describes, "
            f"{absent[0]} first; take config.json and weights from one model",
        )
    words: Any = getattr(model.get_input_embeddings(), "weight", None)
    if words is None:
        raise encoder_fault(
            name, f"{type(model).__name__} reads no words; take an encoder of texts"
        )
    known = len(words)
    if max(tokenizer.get_vocab().values()) >= known:
        raise encoder_fault(
            name,
            f"the tokenizer has more tokens than config.json's vocab_size ({known}); take the "
            "tokenizer that belongs to the model",
        )
    return model.eval(), tokenizer


def _loader(config: Any) -> tuple[Any, bool, bool]:
    """The class of transformers that loads a model, and of what it loads.

    Whether the model has an encoder and a decoder, and whether the encoder is loaded alone.
    """
    import transformers

    saved_as = (getattr(config, "architectures", None) or [""])[0]
    two_halves = bool(config.is_encoder_decoder) or saved_as.endswith("EncoderModel")
    # Where transformers has a class for it (T5 and its kin), the encoder alone is loaded.
    alone = two_halves and type(config) in transformers.MODEL_FOR_TEXT_ENCODING_MAPPING
    loader = transformers.AutoModelForTextEncoding if alone else transformers.AutoModel
    return loader, two_halves, alone


def load_tokenizer(name: str, directory: Path) -> PreTrainedTokenizerBase:
    """A model's tokenizer.

    Raises
    ------
    EncoderError
        It does not load.
    """
    import transformers

    with as_encoder_error(name):
        tokenizer: PreTrainedTokenizerBase = transformers.AutoTokenizer.from_pretrained(
            directory, **OFFLINE
        )
    return tokenizer


def skeleton(name: str, config: Any) -> PreTrainedModel:
    """The model that :func:`load_model` loads, without its weights.

    Raises
    ------
    EncoderError
        Transformers cannot make it.
    """
    loader, two_halves, alone = _loader(config)
    with as_encoder_error(name), torch.random.fork_rng(devices=[]), torch.device("meta"):
        model: PreTrainedModel = loader.from_config(config)
        if two_halves and not alone:
            model = model.get_encoder()
    return model


def position_limit(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """Most tokens of a text, special ones included: the model's positions, the tokenizer's limit.

    RoBERTa and those after it keep the padding token's row in the table of positions and begin
    to count behind it; such a table has a `padding_idx`. Models without a table of positions
    may have no limit.
    """
    limit = int(tokenizer.model_max_length)
    config: Any = model.config.get_text_config(encoder=True)
    positions = getattr(config, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions < 1:
        return limit
    tables = [m for key, m in model.named_modules() if key.endswith("position_embeddings")]
    padding = next((getattr(table, "padding_idx", None) for table in tables), None)
    return min(limit, positions if padding is None else positions - int(padding) - 1)


@dataclass(frozen=True)
class Trial:
    """What a model's vectors of a few tokens show.

    Attributes
    ----------
    hidden_size
        H, of the last layer.
    first_sees_all
        Whether the first token's vector depends on the tokens after it. In a causal model it
        does not: all texts with the same first token would get the same vector.
    """

    hidden_size: int
    first_sees_all: bool


def try_out(name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Trial:
    """Run a model on its device, on two texts of three tokens.

    Raises
    ------
    EncoderError
        It gives no vectors for token ids in its precision, or ignores the mask.
    """
    ordinary = sorted(set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids))
    if len(ordinary) < 3:
        raise encoder_fault(
            name, "its tokenizer knows fewer than three words; copy the whole model directory"
        )
    first, one, other = (ordinary[len(ordinary) * i // 4] for i in (1, 2, 3))
    # One at a time and of one shape, so that what is equal is computed equally.
    seen = _first_vector(name, model, [first, one, one])
    again = _first_vector(name, model, [first, other, other])
    tolerance = 1e-5 if model.dtype == torch.float32 else 1e-3
    difference = (seen - again).abs().mean()
    # Vectors that are not numbers are no sign of it.
    first_sees_all = not bool(difference <= tolerance * seen.abs().mean())
    if first_sees_all:
        alone = _first_vector(name, model, [first, one])
        padded = _first_vector(name, model, [first, one, other], padding=1)
        # What a masked token changes is rounding; in earnest it changes as much as any other.
        if (alone - padded).abs().mean() > difference / 4:
            raise encoder_fault(
                name,
                f"{type(model).__name__} has no mask for padding, so that a text's vector would "
                "depend on the texts beside it; take another encoder",
            )
    return Trial(hidden_size=len(seen), first_sees_all=first_sees_all)


@torch.inference_mode()
def _first_vector(name: str, model: PreTrainedModel, ids: list[int], *, padding: int = 0) -> Tensor:
    """The last layer's vector of the first token, float32, shape (H,); `padding` ids are masked."""
    ids_1T = torch.tensor([ids], device=model.device)
    mask_1T = torch.ones_like(ids_1T)
    mask_1T[:, len(ids) - padding :] = 0
    try:
        found = model(input_ids=ids_1T, attention_mask=mask_1T).last_hidden_state
        vector: Tensor = found[0, 0].float()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever a model raises that reads something other than texts
        raise encoder_fault(
            name,
            f"{type(model).__name__} gives no vectors for token ids and a mask "
            f"({type(error).__name__}: {first_line(error)}); take an encoder of texts, or set "
            "embed.lyrics.dtype=float32",
        ) from error
    return vector
