"""Lyrics through a pre-trained transformer encoder (paper section 3.1.5).

The encoder is any model of the Hugging Face hub, or a local directory, with a
config, a tokenizer and safetensors weights. Weights are never unpickled and code
that comes with a model is never run.

Shapes: n texts, B texts in a batch, T tokens in its longest text, H hidden size.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from fusionrec.errors import EncoderError
from fusionrec.features.lyrics.hub import first_line, local_copy
from fusionrec.features.lyrics.packed import PackedEncoder, supports
from fusionrec.features.lyrics.pieces import PieceTokenizer
from fusionrec.features.lyrics.products import bfloat16_pays

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

log = logging.getLogger(__name__)

Dtype = Literal["float32", "bfloat16"]
Pooling = Literal["cls", "mean"]
Path = Literal["packed", "padded", "compiled"]

GAINS_FROM = 256
"""Hidden size below which bfloat16 is no quicker than float32 on any device."""


class LyricsEncoder:
    """A transformer encoder that turns texts into vectors; made by :func:`load_encoder`.

    Attributes
    ----------
    name
        Hub name or directory, as given.
    hidden_size
        H, the length of a vector.
    dtype
        Precision of the weights and of the forward pass.
    tokens
        How many it has encoded so far, special tokens included.
    max_tokens
        Longest text the model has positions for, special tokens included.
    path
        "packed": texts are laid end to end (:mod:`fusionrec.features.lyrics.packed`); "padded":
        transformers' own forward pass; "compiled": the same, compiled.
    """

    def __init__(
        self,
        name: str,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        dtype: Dtype,
        *,
        compiled: bool = False,
    ) -> None:
        self.name = name
        self.dtype: Dtype = dtype
        self.hidden_size = int(model.config.hidden_size)
        self.tokens = 0
        # Tokens that the device's memory holds at a time, as far as is known.
        self._fits = sys.maxsize
        self.max_tokens = _position_limit(model.config, tokenizer)
        self._device = model.device
        self._tokenizer = tokenizer
        self._tokenize = PieceTokenizer(tokenizer)
        packs = supports(model) and not compiled
        self._packed = PackedEncoder(model) if packs else None
        # Packed, its layers' weights are in another layout: one copy is enough.
        self._model: Any = None if self._packed else model
        if compiled:
            self._model = torch.compile(model, dynamic=True)
        self.path: Path = "compiled" if compiled else "packed" if self._packed else "padded"

    @torch.inference_mode()
    def encode(
        self,
        texts: Sequence[str],
        *,
        pooling: Pooling = "cls",
        token_budget: int | None = None,
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
            Most tokens in a batch, padding included; a text longer than that is a batch. None
            is 4,096 on a CPU, whose caches are small, and 65,536 elsewhere. Where the device
            has too little memory for a batch, the budget is halved for it and all that follow.
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
        EncoderError
            The device has too little memory for a single text.
        """
        if token_budget is None:
            token_budget = 4_096 if self._device.type == "cpu" else 65_536
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
        ids = self._tokenize(texts, min(max_tokens, self.max_tokens))
        self.tokens += sum(map(len, ids))
        # Longest texts first.
        order = sorted(range(len(ids)), key=lambda i: (-len(ids[i]), i))
        start = 0
        while start < len(order):
            longest = len(ids[order[start]])
            batch = order[start : start + max(1, min(token_budget, self._fits) // longest)]
            found = self._forward_or_none([ids[i] for i in batch], pooling)
            if found is None:
                self._halve(len(batch), longest)
                continue
            vectors[batch] = found
            start += len(batch)
        return vectors

    def _forward_or_none(
        self, rows: list[list[int]], pooling: Pooling
    ) -> NDArray[np.float32] | None:
        """:meth:`_forward`; None where the device has too little memory for this batch."""
        try:
            return self._forward(rows, pooling)
        except torch.OutOfMemoryError:
            # Only once the error is gone do its frames let go of what they hold.
            return None

    def _halve(self, texts: int, longest: int) -> None:
        """Make batches half as large as one that did not fit, from now on."""
        if texts == 1:
            raise EncoderError(
                f"{self.name}: {self._device} has too little memory for a single text of "
                f"{longest} tokens; free some, or set embed.lyrics.num_gpus=0 to use CPUs"
            )
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        self._fits = texts * longest // 2
        log.warning(
            "lyrics encoder %s: %s has too little memory for %d tokens at a time; the token "
            "budget is halved to %d",
            self.name,
            self._device,
            texts * longest,
            self._fits,
        )

    def _forward(self, rows: list[list[int]], pooling: Pooling) -> NDArray[np.float32]:
        """Vectors of one batch, float32, shape (B, H)."""
        vectors: NDArray[np.float32]
        if self._packed:
            vectors = self._packed(rows, pooling).cpu().numpy()
            return vectors
        device = self._device
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
        vectors = pooled.cpu().numpy()
        return vectors


def load_encoder(
    name_or_dir: str,
    *,
    device: str = "cpu",
    dtype: Literal["auto"] | Dtype = "auto",
    compiled: bool = False,
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
        "auto" takes bfloat16 where a trial shows that the device multiplies it rightly and
        quickly (:func:`fusionrec.features.lyrics.products.bfloat16_pays`) and the hidden size is at
        least :data:`GAINS_FROM`; else float32.
    compiled
        Compile transformers' own forward pass by torch.compile, at the cost of a minute or so
        at first use: for models that cannot be packed.

    Raises
    ------
    EncoderError
        The model cannot be had, lacks a file, has pickled weights only, or does not load.
    """
    import transformers

    with quiet_transformers():
        directory = local_copy(name_or_dir)
        # Layers the file lacks are drawn at random: the caller's random state is left alone.
        with _as_encoder_error(name_or_dir), torch.random.fork_rng(devices=[]):
            options: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
            config = transformers.AutoConfig.from_pretrained(directory, **options)
            chosen, reason = dtype_for(dtype, device, int(config.hidden_size))
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
    encoder = LyricsEncoder(
        name_or_dir, model.eval().to(device), tokenizer, chosen, compiled=compiled
    )
    log.info(
        "lyrics encoder %s: %s on %s (%s), %s", name_or_dir, chosen, device, reason, encoder.path
    )
    return encoder


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


def hidden_size_of(name_or_dir: str) -> int:
    """H of an encoder, from its config alone; finds it and raises as :func:`load_encoder` does."""
    import transformers

    with quiet_transformers():
        directory = local_copy(name_or_dir)
        with _as_encoder_error(name_or_dir):
            config = transformers.AutoConfig.from_pretrained(
                directory, trust_remote_code=False, local_files_only=True
            )
    return int(config.hidden_size)


def dtype_for(dtype: Literal["auto"] | Dtype, device: str, hidden_size: int) -> tuple[Dtype, str]:
    """The precision for an encoder on a device, as :func:`load_encoder` chooses it, and why."""
    if dtype != "auto":
        return dtype, "as configured"
    if hidden_size < GAINS_FROM:
        return "float32", f"auto: hidden size {hidden_size} gains nothing from bfloat16"
    trial = bfloat16_pays(device)
    return "bfloat16" if trial.works else "float32", f"auto: {trial.reason}"


@contextlib.contextmanager
def _as_encoder_error(name: str) -> Iterator[None]:
    """Turn whatever transformers raises on a damaged or foreign model into one line."""
    try:
        yield
    except Exception as error:  # tokenizers raises bare Exception
        raise EncoderError(
            f"{name}: transformers cannot load it ({type(error).__name__}: {first_line(error)}); "
            "it must be an encoder that AutoModel loads without code of its own"
        ) from error
