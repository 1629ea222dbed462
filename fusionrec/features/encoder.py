"""Lyrics through a pre-trained transformer encoder (paper section 3.1.5).

The encoder is any model of the Hugging Face hub, or a local directory, with a
config, a tokenizer and safetensors weights. Weights are never unpickled and code
that comes with a model is never run.

Shapes: n texts, B texts in a batch, T tokens in its longest text, H hidden size.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from fusionrec.errors import EncoderError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

log = logging.getLogger(__name__)

Dtype = Literal["float32", "bfloat16"]
Pooling = Literal["cls", "mean"]

_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
_PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")
_TOKENIZERS = (
    {"tokenizer.json"},
    {"vocab.json", "merges.txt"},
    {"vocab.txt"},
    {"sentencepiece.bpe.model"},
    {"spiece.model"},
)
_HUB_TIMEOUT = 5.0
"""Seconds to wait for the hub's first answer."""

_WAYS_OUT = (
    "either set embed.lyrics.encoder to a local directory with config.json, the tokenizer and "
    "model.safetensors (or fill the Hugging Face cache that HF_HOME names), or pretrain an "
    "encoder on the corpus's own lyrics: --set embed.lyrics.encoder=pretrain"
)


class LyricsEncoder:
    """A transformer encoder that turns texts into vectors; made by :func:`load_encoder`.

    Attributes
    ----------
    name
        Hub name or directory, as given.
    hidden_size
        H, the length of a vector.
    dtype
        Precision of the weights and of the forward pass, "float32" or "bfloat16".
    max_tokens
        Longest text the model has positions for, special tokens included.
    """

    def __init__(
        self, name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, dtype: Dtype
    ) -> None:
        self.name = name
        self.dtype: Dtype = dtype
        self.hidden_size = int(model.config.hidden_size)
        self.max_tokens = _position_limit(model.config, tokenizer)
        self._model = model
        self._tokenizer = tokenizer

    @torch.inference_mode()
    def encode(
        self,
        texts: Sequence[str],
        *,
        pooling: Pooling = "cls",
        token_budget: int = 4096,
        max_tokens: int = 512,
    ) -> NDArray[np.float32]:
        """One vector a text, in the order of `texts` (paper section 3.1.5).

        A text's vector does not depend on the texts beside it, to about 1e-5 in float32.

        Parameters
        ----------
        texts
            The caller keeps empty texts to itself.
        pooling
            "cls": the last layer's vector of the first token. "mean": the mean of the last
            layer over the text's tokens, special ones included, padding not.
        token_budget
            Most tokens in a batch, padding included; a text longer than that is a batch.
        max_tokens
            Longest text in tokens, special ones included; the rest of a text is cut. Never more
            than the model has positions for (512 for RoBERTa).

        Returns
        -------
        ndarray
            Float32, shape (n, H).

        Raises
        ------
        ValueError
            A text is empty, or `token_budget` or `max_tokens` leaves room for no token.
        """
        special = self._tokenizer.num_special_tokens_to_add()
        if token_budget < 1 or max_tokens <= special:
            raise ValueError(
                f"token_budget must be 1 or more and max_tokens more than {special}, "
                f"not {token_budget} and {max_tokens}"
            )
        for index, text in enumerate(texts):
            if not text.strip():
                raise ValueError(f"text {index} of {len(texts)} is empty; leave it out")
        vectors = np.zeros((len(texts), self.hidden_size), np.float32)
        if not texts:
            return vectors
        ids: list[list[int]] = self._tokenizer(
            list(texts), truncation=True, max_length=min(max_tokens, self.max_tokens)
        )["input_ids"]
        for batch in _batches([len(row) for row in ids], token_budget):
            vectors[batch] = self._forward([ids[i] for i in batch], pooling)
        return vectors

    def _forward(self, rows: list[list[int]], pooling: Pooling) -> NDArray[np.float32]:
        """Vectors of one batch, float32, shape (B, H)."""
        device = self._model.device
        lengths = torch.tensor([len(row) for row in rows])
        mask_BT = (torch.arange(int(lengths.max())) < lengths[:, None]).long()
        # On the right, so that the first token stays the start token.
        ids_BT = torch.full(mask_BT.shape, self._tokenizer.pad_token_id or 0)
        ids_BT[mask_BT.bool()] = torch.tensor([token for row in rows for token in row])
        mask_BT = mask_BT.to(device)
        hidden_BTH = self._model(
            input_ids=ids_BT.to(device), attention_mask=mask_BT
        ).last_hidden_state.float()
        if pooling == "cls":
            pooled = hidden_BTH[:, 0]
        else:
            pooled = (hidden_BTH * mask_BT[..., None]).sum(1) / mask_BT.sum(1, keepdim=True)
        vectors: NDArray[np.float32] = pooled.cpu().numpy()
        return vectors


def load_encoder(
    name_or_dir: str,
    *,
    device: str = "cpu",
    dtype: Literal["auto", "float32", "bfloat16"] = "auto",
) -> LyricsEncoder:
    """Load an encoder from a local directory, the Hugging Face cache or the hub, in that order.

    A model in the cache is used as it is, without a look at the hub. Without a network, and
    with HF_HUB_OFFLINE=1, a model that is not in the cache is an error within seconds.

    Parameters
    ----------
    name_or_dir
        Directory, or hub name such as ``FacebookAI/roberta-base``.
    device
        Torch device.
    dtype
        "auto" takes bfloat16 where the hardware multiplies it (a CUDA device that does, a CPU
        with AVX512-BF16) and the hidden size is 256 or more, below which it gains nothing;
        else float32.

    Raises
    ------
    EncoderError
        The model cannot be had, lacks a file, has pickled weights only, or does not load.
    """
    import transformers

    with quiet_transformers():
        directory = _local_copy(name_or_dir)
        # Layers the file lacks are drawn at random: the caller's random state is left alone.
        with _told(name_or_dir), torch.random.fork_rng(devices=[]):
            options: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
            config = transformers.AutoConfig.from_pretrained(directory, **options)
            chosen, reason = _choose_dtype(dtype, torch.device(device), int(config.hidden_size))
            tokenizer = transformers.AutoTokenizer.from_pretrained(directory, **options)
            model, loading = transformers.AutoModel.from_pretrained(
                directory,
                dtype=getattr(torch, chosen),
                use_safetensors=True,
                output_loading_info=True,
                **options,
            )
    # The pooler is a layer after the last hidden state, which nobody asks for here.
    absent = sorted(key for key in loading["missing_keys"] if "pooler" not in key)
    if absent:
        raise EncoderError(
            f"{name_or_dir}: its weights lack {len(absent)} tensors of the model that config.json "
            f"describes, {absent[0]} first; take config.json and weights from one model"
        )
    if max(tokenizer.get_vocab().values()) >= config.vocab_size:
        raise EncoderError(
            f"{name_or_dir}: the tokenizer has more tokens than config.json's vocab_size "
            f"({config.vocab_size}); take the tokenizer that belongs to the model"
        )
    log.info("lyrics encoder %s: %s on %s (%s)", name_or_dir, chosen, device, reason)
    return LyricsEncoder(name_or_dir, model.eval().to(device), tokenizer, chosen)


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence transformers' and the hub client's warnings and progress bars, for a while."""
    import huggingface_hub.utils
    import transformers.utils.logging

    # Neither library types these functions.
    hub: Any = huggingface_hub.utils
    noise: Any = transformers.utils.logging
    levels = noise.get_verbosity(), hub.logging.get_verbosity()
    bars = noise.is_progress_bar_enabled(), not hub.are_progress_bars_disabled()
    noise.set_verbosity_error()
    hub.logging.set_verbosity_error()
    noise.disable_progress_bar()
    hub.disable_progress_bars()
    try:
        yield
    finally:
        noise.set_verbosity(levels[0])
        hub.logging.set_verbosity(levels[1])
        if bars[0]:
            noise.enable_progress_bar()
        if bars[1]:
            hub.enable_progress_bars()


def _position_limit(config: Any, tokenizer: PreTrainedTokenizerBase) -> int:
    """Tokens the model has positions for; RoBERTa's start after the padding token's id."""
    positions = getattr(config, "max_position_embeddings", None) or tokenizer.model_max_length
    pad = config.pad_token_id if config.pad_token_id is not None else 1
    return min(int(positions) - pad - 1, int(tokenizer.model_max_length))


def _batches(lengths: Sequence[int], token_budget: int) -> Iterator[list[int]]:
    """Positions of the texts of each batch, longest texts first."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    start = 0
    while start < len(order):
        size = max(1, token_budget // lengths[order[start]])
        yield order[start : start + size]
        start += size


def _choose_dtype(
    dtype: Literal["auto", "float32", "bfloat16"], device: torch.device, hidden_size: int
) -> tuple[Dtype, str]:
    """The precision, and why."""
    if dtype != "auto":
        return dtype, "as configured"
    if hidden_size < 256:
        return "float32", f"auto: hidden size {hidden_size} gains nothing from bfloat16"
    if device.type == "cuda":
        able = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        able = device.type == "cpu" and bool(torch.cpu.get_capabilities().get("avx512_bf16"))
    if able:
        return "bfloat16", "auto: the hardware multiplies bfloat16"
    return "float32", "auto: the hardware has no bfloat16 arithmetic"


@contextlib.contextmanager
def _told(name: str) -> Iterator[None]:
    """Turn whatever transformers raises on a damaged or foreign model into one line."""
    try:
        yield
    except Exception as error:  # tokenizers raises bare Exception
        raise EncoderError(
            f"{name}: transformers cannot load it ({type(error).__name__}: {_line(error)}); "
            "it must be an encoder that AutoModel loads without code of its own"
        ) from error


def _line(error: Exception) -> str:
    return (str(error).strip() or "no message").splitlines()[0]


def _local_copy(name: str) -> Path:
    """The directory that holds the model `name`, downloaded to the cache if need be."""
    import huggingface_hub as hub
    from huggingface_hub.errors import HFValidationError

    directory = Path(name).expanduser()
    if name and directory.is_dir():
        fault = _fault({path.name for path in directory.iterdir()})
        if fault:
            raise EncoderError(f"embed.lyrics.encoder = {name}: {fault}")
        return directory
    try:
        cached = hub.try_to_load_from_cache(name, "config.json")
    except HFValidationError:
        raise EncoderError(
            f"embed.lyrics.encoder = {name} is neither a directory nor a hub name; {_WAYS_OUT}"
        ) from None
    if isinstance(cached, str):
        fault = _fault({path.name for path in Path(cached).parent.iterdir()})
        if fault is None:
            return Path(cached).parent
        log.info("the cached copy of %s is not complete: %s", name, fault)
    return _download(name)


def _download(name: str) -> Path:
    """Fetch the files the encoder needs from the hub into the cache."""
    import huggingface_hub as hub

    if hub.is_offline_mode():
        raise EncoderError(
            f"embed.lyrics.encoder = {name} is not a directory nor in the Hugging Face cache, and "
            f"HF_HUB_OFFLINE is set; {_WAYS_OUT}"
        )
    try:
        # Asked first and once: the download itself retries an unreachable hub for minutes.
        api = hub.HfApi()
        siblings = api.model_info(name, timeout=_HUB_TIMEOUT).siblings or []
        files = {sibling.rfilename for sibling in siblings}
        fault = _fault(files)
        if fault:
            raise EncoderError(f"embed.lyrics.encoder = {name} on the hub: {fault}")
        log.info("downloading %s from the Hugging Face hub", name)
        wanted = [f for f in files if f.endswith((".json", ".txt", ".model", ".safetensors"))]
        return Path(api.snapshot_download(name, allow_patterns=[f for f in wanted if "/" not in f]))
    except EncoderError:
        raise
    except Exception as error:  # the hub client's, the HTTP library's and the system's own
        raise EncoderError(
            f"embed.lyrics.encoder = {name} is not a directory nor in the Hugging Face cache, and "
            f"the hub does not give it ({_line(error)}); {_WAYS_OUT}"
        ) from error


def _fault(files: set[str]) -> str | None:
    """What keeps a directory of `files` from being an encoder, and what to do; else None."""
    if "config.json" not in files:
        return "config.json is missing; copy the whole model directory"
    if not any(needed <= files for needed in _TOKENIZERS):
        return "tokenizer.json is missing; copy the whole model directory"
    if files.isdisjoint(_WEIGHTS):
        if files.isdisjoint(_PICKLED):
            return "model.safetensors is missing; copy the whole model directory"
        return (
            "its weights are pickled (pytorch_model.bin), which can run code; convert them to "
            "model.safetensors, or take a model that has it"
        )
    return None
