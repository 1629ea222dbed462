"""The forward pass of RoBERTa and BERT over texts laid end to end, without padding.

The same arithmetic as transformers' own modules, whose weights it takes, but for three
savings: no padding is computed, the linear layers' weights are laid out once for the
machine's matrix kernels (with the activation in the same kernel), and where only one token's
vector is wanted the last layer computes no other.

Shapes: T tokens of all texts of a batch together, B texts, H hidden size, D = H / heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import layer_norm, scaled_dot_product_attention

from fusionrec.features.lyrics.architecture import Pooling
from fusionrec.features.lyrics.products import Layer, linear_layer
from fusionrec.features.lyrics.tokens import Tokens, bounds_of, ragged
from fusionrec.features.lyrics.transfer import Transfer

try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # an older torch
    varlen_attn = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_BERTS = ("BertModel", "RobertaModel", "XLMRobertaModel", "CamembertModel")
_OFFSET_POSITIONS = ("RobertaModel", "XLMRobertaModel", "CamembertModel")
"""Those whose positions begin after the padding token's id."""


def supports(model: PreTrainedModel) -> bool:
    """Whether :class:`PackedEncoder` computes what this model does."""
    config: Any = model.config
    return (
        type(model).__name__ in _BERTS
        and config.hidden_act == "gelu"
        and getattr(config, "position_embedding_type", "absolute") in (None, "absolute")
        and not getattr(config, "is_decoder", False)
        and not getattr(config, "add_cross_attention", False)
    )


class PackedEncoder:
    """A model's weights, laid out for packed batches.

    Parameters
    ----------
    model
        One that :func:`supports`; in evaluation mode, on its device and in its precision.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        config: Any = model.config
        self._transfer = Transfer(model.device)
        embeddings: Any = model.get_submodule("embeddings")
        self._words = embeddings.word_embeddings.weight
        # Every token is of the first type.
        self._positions = (
            embeddings.position_embeddings.weight + embeddings.token_type_embeddings.weight[0]
        )
        self._norm = _Norm(embeddings.LayerNorm)
        offset_by_pad = type(model).__name__ in _OFFSET_POSITIONS
        self._first_position = config.pad_token_id + 1 if offset_by_pad else 0
        layers = list(model.get_submodule("encoder").get_submodule("layer").children())
        self._layers = [
            _Block(layer, config.num_attention_heads, last=layer is layers[-1]) for layer in layers
        ]

    @torch.inference_mode()
    def __call__(self, rows: Sequence[Sequence[int]] | Tokens, pooling: Pooling) -> Tensor:
        """Vectors of a batch, float32, shape (B, H); on a GPU, which may still be at work on them.

        Parameters
        ----------
        rows
            Token ids of each text, special ones included; texts of equal length side by side
            are the quickest.
        pooling
            The last layer's first vector, its last, or the mean over all.
        """
        return self.forward(self.pack(rows), pooling)

    def pack(self, rows: Sequence[Sequence[int]] | Tokens) -> PackedTexts:
        """A batch laid end to end on the device: the part that needs no arithmetic."""
        tokens = Tokens.of(rows)
        lengths = tokens.lengths
        positions = ragged(np.full_like(lengths, self._first_position), lengths)
        ids_T, positions_T, bounds, lengths_B = self._transfer.up(
            tokens.ids, positions, tokens.bounds, lengths
        )
        return PackedTexts(ids_T, positions_T, _Texts(lengths, bounds, lengths_B))

    @torch.inference_mode()
    def forward(self, packed: PackedTexts, pooling: Pooling) -> Tensor:
        """The vectors that a call gives, of a batch that :meth:`pack` made."""
        texts = packed.texts
        x_TH = self._norm(self._words[packed.ids_T] + self._positions[packed.positions_T])
        for layer in self._layers[:-1]:
            x_TH = layer(x_TH, texts)
        if pooling != "mean":
            at_B = texts.bounds[:-1] if pooling == "cls" else texts.bounds[1:] - 1
            return self._layers[-1].one_each(x_TH, at_B, texts).float()
        x_TH = self._layers[-1](x_TH, texts).float()
        # Unsafe: the lengths are not added up again, for which the host would wait for a GPU.
        return torch.segment_reduce(x_TH, "mean", lengths=texts.lengths_B.long(), unsafe=True)


@dataclass(frozen=True)
class PackedTexts:
    """A batch on the device: token ids, each token's row of the positions' table, and bounds."""

    ids_T: Tensor
    positions_T: Tensor
    texts: _Texts


class _Texts:
    """Where the texts of a batch lie.

    Attributes
    ----------
    bounds
        Int32 on the device, shape (B + 1,): where each begins, and where the last ends.
    lengths_B
        Int32 on the device: tokens of each.
    longest
        Tokens of the longest.
    groups
        Runs of texts of equal length: first text, texts, first token, tokens of each.
    """

    def __init__(self, lengths: NDArray[np.int64], bounds: Tensor, lengths_B: Tensor) -> None:
        self.bounds = bounds
        self.lengths_B = lengths_B
        self.longest = int(lengths.max(initial=0))
        first = np.flatnonzero(np.diff(lengths, prepend=-1))
        counts = np.diff(first, append=len(lengths))
        starts = bounds_of(lengths)[first]
        columns = (first, counts, starts, lengths[first])
        self.groups: list[tuple[int, int, int, int]] = list(
            zip(*(column.tolist() for column in columns), strict=True)
        )


class _Norm:
    """Layer normalisation."""

    def __init__(self, module: Any) -> None:
        self._weight, self._bias, self._eps = module.weight, module.bias, module.eps

    def __call__(self, x: Tensor) -> Tensor:
        return layer_norm(x, self._weight.shape, self._weight, self._bias, self._eps)


class _Block:
    """One transformer layer."""

    def __init__(self, module: Any, heads: int, *, last: bool) -> None:
        attention = module.attention.self
        self._heads = heads
        query, key, value = attention.query, attention.key, attention.value
        self._qkv = _side_by_side([query, key, value])
        if last:
            self._query, self._key_value = _side_by_side([query]), _side_by_side([key, value])
        self._mixed = _side_by_side([module.attention.output.dense])
        self._mixed_norm = _Norm(module.attention.output.LayerNorm)
        self._wide = _side_by_side([module.intermediate.dense], activated=True)
        self._narrow = _side_by_side([module.output.dense])
        self._norm = _Norm(module.output.LayerNorm)

    def __call__(self, x_TH: Tensor, texts: _Texts) -> Tensor:
        """All tokens' vectors."""
        qkv = self._qkv(x_TH).view(len(x_TH), 3, self._heads, -1)
        if _fused(qkv):
            query, key, value = qkv.unbind(1)
            return self._rest(x_TH, _varlen(query, key, value, texts.bounds, texts).flatten(1))
        mixed = torch.empty_like(x_TH)
        for _, count, start, length in texts.groups:
            stop = start + count * length
            # (3, texts, heads, length, D)
            parts = qkv[start:stop].view(count, length, *qkv.shape[1:]).permute(2, 0, 3, 1, 4)
            mixed[start:stop] = (
                _attention(parts[0], parts[1], parts[2]).transpose(1, 2).reshape(count * length, -1)
            )
        return self._rest(x_TH, mixed)

    def one_each(self, x_TH: Tensor, at_B: Tensor, texts: _Texts) -> Tensor:
        """The vector of one token of each text, those at the rows `at_B`, shape (B, H)."""
        x_BH = x_TH[at_B]
        query = self._query(x_BH).view(len(x_BH), self._heads, -1)
        kv = self._key_value(x_TH).view(len(x_TH), 2, self._heads, -1)
        if _fused(kv):
            one_each = torch.arange(len(query) + 1, dtype=torch.int32, device=x_TH.device)
            key, value = kv.unbind(1)
            return self._rest(x_BH, _varlen(query, key, value, one_each, texts).flatten(1))
        mixed = torch.empty_like(x_BH)
        for text, count, start, length in texts.groups:
            stop = start + count * length
            parts = kv[start:stop].view(count, length, *kv.shape[1:]).permute(2, 0, 3, 1, 4)
            own = slice(text, text + count)
            mixed[own] = _attention(query[own].unsqueeze(2), parts[0], parts[1]).reshape(count, -1)
        return self._rest(x_BH, mixed)

    def _rest(self, x: Tensor, mixed: Tensor) -> Tensor:
        x = self._mixed_norm(self._mixed(mixed) + x)
        return self._norm(self._narrow(self._wide(x)) + x)


def _fused(x: Tensor) -> bool:
    """Whether one kernel attends within all texts of whatever lengths; D is the last dimension."""
    if varlen_attn is None or x.device.type != "cuda":
        return False
    half = x.dtype in (torch.bfloat16, torch.float16)
    return half and x.shape[-1] % 8 == 0 and x.shape[-1] <= 256 and _has_flash(x.device)


@cache
def _has_flash(device: torch.device) -> bool:
    """Whether the GPU has what torch's flash attention is built for: Ampere or newer."""
    return torch.cuda.get_device_capability(device) >= (8, 0)


def _varlen(query: Tensor, key: Tensor, value: Tensor, bounds: Tensor, texts: _Texts) -> Tensor:
    of_query = texts.longest if len(query) == len(key) else 1
    mixed = varlen_attn(query, key, value, bounds, texts.bounds, of_query, texts.longest)
    assert isinstance(mixed, Tensor)  # a pair only where more is asked for
    return mixed


def _attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention of texts of equal length, (texts, heads, tokens, D) each."""
    if query.device.type != "cpu" or query.dtype == torch.float32:
        return scaled_dot_product_attention(query, key, value)
    # Torch's fused kernel multiplies bfloat16 on a CPU at a third of the speed of these two.
    texts, heads, _, depth = key.shape
    flat = [part.reshape(texts * heads, -1, depth) for part in (query * depth**-0.5, key, value)]
    scores = torch.bmm(flat[0], flat[1].transpose(1, 2)).softmax(-1)
    return torch.bmm(scores, flat[2]).view(texts, heads, -1, depth)


def _side_by_side(modules: Sequence[Any], *, activated: bool = False) -> Layer:
    """Linear layers side by side as one, followed by GELU if it is to be `activated`."""
    weight = torch.cat([module.weight.detach() for module in modules]).contiguous()
    bias = torch.cat([module.bias.detach() for module in modules]).contiguous()
    return linear_layer(weight, bias, activated=activated)
