"""Lyrics through a pre-trained transformer encoder (paper section 3.1.5).

The encoder is any model of the Hugging Face hub, or a local directory, with a
config, a tokenizer and safetensors weights. Weights are never unpickled and code
that comes with a model is never run.

Shapes: n texts, B texts in a batch, T tokens in its longest text, H hidden size.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from fusionrec.errors import ConfigError
from fusionrec.features.lyrics.architecture import (
    Pooling,
    config_of,
    load_model,
    position_limit,
    try_out,
)
from fusionrec.features.lyrics.flow import Arrived, through
from fusionrec.features.lyrics.hub import encoder_fault, local_copy, quiet_transformers
from fusionrec.features.lyrics.packed import PackedEncoder, supports
from fusionrec.features.lyrics.products import bfloat16_pays
from fusionrec.features.lyrics.tokens import Batches, Tokens, cut, usual_budget
from fusionrec.features.lyrics.transfer import Transfer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

log = logging.getLogger(__name__)

Dtype = Literal["float32", "bfloat16"]
Path = Literal["packed", "padded", "compiled"]

_AHEAD = 1
"""Batches that a GPU is given while it is at work on another one."""

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
    first_sees_all
        Whether the first token's vector depends on the whole text, as pooling "cls" needs it;
        in a causal model it does not.
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
        trial = try_out(name, model, tokenizer)
        self.hidden_size = trial.hidden_size
        self.first_sees_all = trial.first_sees_all
        starts_with = tokenizer("a")["input_ids"][0]
        self._marks_start = starts_with in tokenizer.all_special_ids
        self.tokens = 0
        # Tokens that the device's memory holds at a time, as far as is known.
        self._fits = sys.maxsize
        self.max_tokens = position_limit(model, tokenizer)
        self._device = model.device
        self._transfer = Transfer(model.device)
        self._tokenizer = tokenizer
        packs = supports(model) and not compiled
        self._packed = PackedEncoder(model) if packs else None
        # Packed, its layers' weights are in another layout: one copy is enough.
        self._model: Any = None if self._packed else model
        if compiled:
            self._model = torch.compile(model, dynamic=True)
        self.path: Path = "compiled" if compiled else "packed" if self._packed else "padded"

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
            layer over the text's tokens, special ones included, padding not. "last": its
            vector of the last token, which in a causal model is the only one that saw them all.
        token_budget
            Most tokens in a batch, padding included; a text longer than that is a batch. None
            is that of :func:`usual_budget`. Where the device has too little memory for a batch,
            the budget is halved for it and all that follow.
        max_tokens
            Longest text in tokens, special ones included; the rest of a text is cut. Never more
            than :attr:`max_tokens` (512 for RoBERTa).

        Returns
        -------
        ndarray
            Float32, shape (n, H).

        Raises
        ------
        ValueError
            A text is empty, or `token_budget` or `max_tokens` leaves room for no token.
        ConfigError
            `pooling` is "cls", and the model is causal.
        EncoderError
            The device has too little memory for a single text, or a vector holds NaN.
        """
        if token_budget is None:
            token_budget = usual_budget(self._device.type)
        special = self._tokenizer.num_special_tokens_to_add()
        if token_budget < 1 or max_tokens <= special:
            raise ValueError(
                f"token_budget must be 1 or more and max_tokens more than {special}, "
                f"not {token_budget} and {max_tokens}"
            )
        for index, text in enumerate(texts):
            if not text.strip():
                raise ValueError(f"text {index} of {len(texts)} is empty; leave it out")
        ids: list[list[int]] = []
        if texts:
            length = min(max_tokens, self.max_tokens)
            ids = self._tokenizer(list(texts), truncation=True, max_length=length)["input_ids"]
        order, batches = cut(Tokens.of(ids), token_budget)
        (found,) = self.encode_batches([batches], pooling=pooling)
        vectors = np.empty_like(found)
        vectors[order] = found
        return vectors

    def encode_batches(
        self, many: Iterable[Batches], *, pooling: Pooling = "cls"
    ) -> Iterator[NDArray[np.float32]]:
        """One vector a text of each of `many`, float32 (n, H), in their order.

        A GPU is given a batch while it is at work on the one before it, of the next of `many`,
        too, and is waited for once a batch.

        Raises
        ------
        ConfigError
            `pooling` is "cls", and the model is causal.
        EncoderError
            The device has too little memory for a single text, or a vector holds NaN.
        """
        self._check(pooling)
        ahead = _AHEAD if self._transfer.overlaps else 0
        return through(many, partial(self._begin, pooling), self.hidden_size, ahead)

    def _check(self, pooling: Pooling) -> None:
        if pooling == "cls" and not self.first_sees_all:
            raise ConfigError(
                f"embed.lyrics.pooling = cls: {self.name} is a causal model, whose first token "
                "sees none of the others: all texts with the same first word would get the same "
                "vector; set embed.lyrics.pooling=last, or mean"
            )
        if pooling == "cls" and not self._marks_start:
            log.warning(
                "lyrics encoder %s has no CLS token: with embed.lyrics.pooling=cls a text's "
                "vector is that of its first word; mean is what such encoders are made for",
                self.name,
            )
            self._marks_start = True  # said once

    def _begin(self, pooling: Pooling, rows: Tokens) -> Iterator[tuple[int, Arrived]]:
        """Begin with a batch, in smaller ones where it does not fit; each one's first text."""
        self.tokens += len(rows.ids)
        start = 0
        while start < len(rows):
            longest = len(rows[start])
            stop = min(len(rows), start + max(1, self._fits // longest))
            found = self._forward_or_none(rows.span(start, stop), pooling)
            if found is None:
                self._halve(stop - start, longest)
                continue
            yield start, partial(self._sound, self._transfer.down(found))
            start = stop

    def _sound(self, arrived: Arrived) -> NDArray[np.float32]:
        """A batch's vectors, once they are there."""
        found = arrived()
        if not np.isfinite(found).all():
            raise encoder_fault(
                self.name,
                f"its vectors hold NaN or infinity in {self.dtype}; set "
                "embed.lyrics.dtype=float32, or take weights that are not damaged",
            )
        return found

    @torch.inference_mode()
    def _forward_or_none(self, rows: Tokens, pooling: Pooling) -> torch.Tensor | None:
        """:meth:`_forward`; None where the device has too little memory for this batch."""
        try:
            return self._forward(rows, pooling)
        except torch.OutOfMemoryError:
            # Only once the error is gone do its frames let go of what they hold.
            return None

    def _halve(self, texts: int, longest: int) -> None:
        """Make batches half as large as one that did not fit, from now on."""
        if texts == 1:
            raise encoder_fault(
                self.name,
                f"{self._device} has too little memory for a single text of {longest} tokens; "
                "free some, or set embed.lyrics.num_gpus=0 to use CPUs",
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

    def _forward(self, rows: Tokens, pooling: Pooling) -> torch.Tensor:
        """Vectors of one batch on the device, float32, shape (B, H)."""
        if self._packed:
            return self._packed(rows, pooling)
        lengths = rows.lengths
        mask = np.arange(lengths.max()) < lengths[:, None]
        # On the right, so that the first token stays the start token.
        ids = np.full(mask.shape, self._tokenizer.pad_token_id or 0, np.int32)
        ids[mask] = rows.ids
        flat_ids, flat_mask, last_B = self._transfer.up(ids.ravel(), mask.ravel(), lengths - 1)
        mask_BT = flat_mask.view(mask.shape).long()
        hidden_BTH: torch.Tensor = self._model(
            input_ids=flat_ids.view(mask.shape).long(), attention_mask=mask_BT
        ).last_hidden_state.float()
        if pooling == "cls":
            return hidden_BTH[:, 0]
        if pooling == "last":
            return hidden_BTH[torch.arange(len(rows), device=last_B.device), last_B]
        return (hidden_BTH * mask_BT[..., None]).sum(1) / mask_BT.sum(1, keepdim=True)


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
    with quiet_transformers():
        directory = local_copy(name_or_dir)
        config = config_of(name_or_dir, directory)
        chosen, reason = dtype_for(dtype, device, _width(config))
        model, tokenizer = load_model(name_or_dir, directory, config, getattr(torch, chosen))
        try:
            encoder = LyricsEncoder(
                name_or_dir, model.to(device), tokenizer, chosen, compiled=compiled
            )
        except torch.OutOfMemoryError:
            raise encoder_fault(
                name_or_dir,
                f"{device} has too little memory for its weights; free some, take a smaller "
                "encoder, or set embed.lyrics.num_gpus=0 to use CPUs",
            ) from None
    log.info(
        "lyrics encoder %s: %s on %s (%s), %s", name_or_dir, chosen, device, reason, encoder.path
    )
    return encoder


def hidden_size_of(name_or_dir: str) -> int:
    """H of an encoder, from its config alone; finds it and raises as :func:`load_encoder` does."""
    with quiet_transformers():
        return _width(config_of(name_or_dir, local_copy(name_or_dir)))


def _width(config: Any) -> int:
    """The hidden size of a config, or 0 where it has none of its own."""
    return int(getattr(config.get_text_config(encoder=True), "hidden_size", 0))


def dtype_for(dtype: Literal["auto"] | Dtype, device: str, hidden_size: int) -> tuple[Dtype, str]:
    """The precision for an encoder on a device, as :func:`load_encoder` chooses it, and why."""
    if dtype != "auto":
        return dtype, "as configured"
    if hidden_size < GAINS_FROM:
        return "float32", f"auto: hidden size {hidden_size} gains nothing from bfloat16"
    trial = bfloat16_pays(device)
    return "bfloat16" if trial.works else "float32", f"auto: {trial.reason}"
