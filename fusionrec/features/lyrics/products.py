"""Linear layers by the quickest products that this machine multiplies rightly.

What a processor can do is tried once a process, on known numbers (:mod:`fusionrec.probes`): on
CPUs, whether oneDNN lays a bfloat16 weight out beforehand, and on any device, whether bfloat16
is worth it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import gelu, linear

from fusionrec import probes

Layer = Callable[[Tensor], Tensor]

_TYPICAL_TOKENS = 2048
"""Rows for which oneDNN chooses the layout of a weight."""

_WORTH = 1.5
"""How many times quicker bfloat16 must be, to be worth its error. Seen: 11 with AMX; .1 to .7 where
oneDNN was kept from AMX, from bfloat16 instructions or from AVX-512."""


def linear_layer(weight: Tensor, bias: Tensor, *, activated: bool = False) -> Layer:
    """A linear layer, followed by GELU if it is to be `activated`, for inputs of its own dtype."""
    if weight.device.type == "cpu" and weight.dtype == torch.bfloat16 and prepacks().works:
        return _prepacked(weight, bias, activated)
    if activated:
        return lambda x: gelu(linear(x, weight, bias))
    return lambda x: linear(x, weight, bias)


def _prepacked(weight: Tensor, bias: Tensor, activated: bool) -> Layer:
    ops: Any = torch.ops.mkldnn
    packed = ops._reorder_linear_weight(weight, _TYPICAL_TOKENS)
    attribute, algorithm = ("gelu", "none") if activated else ("none", "")

    def prepacked(x: Tensor) -> Tensor:
        y: Tensor = ops._linear_pointwise(x, packed, bias, attribute, [], algorithm)
        return y

    return prepacked


@cache
def prepacks() -> probes.Finding:
    """Whether bfloat16 layers whose weights oneDNN has laid out beforehand are right here.

    The operators exist in every build of torch for CPUs, and raise on processors that lack the
    instructions (x86-64 without AVX-512, for one).
    """
    finding = probes.attempt(lambda: _fault(_prepacked, torch.device("cpu")))
    return probes.report(
        "bfloat16 layers", finding, "prepacked weights", "plain products", usual=True
    )


@cache
def bfloat16_pays(device: str) -> probes.Finding:
    """Whether bfloat16 products are right on this device, and much quicker than float32's."""
    where = torch.device(device)
    if where.type not in ("cpu", "cuda"):
        return probes.Finding(False, f"not tried on {where.type}")
    ratio = 0.0

    def trial() -> str:
        nonlocal ratio
        fault = _fault(lambda w, b, activated: linear_layer(w, b, activated=activated), where)
        if not fault:
            ratio = _speed_ratio(where)
        return fault

    finding = probes.attempt(trial)
    if not finding.works:
        return probes.Finding(False, f"bfloat16 products fail here: {finding.reason}")
    return probes.Finding(
        ratio >= _WORTH, f"bfloat16 products are {ratio:.1f} times as quick as float32's here"
    )


def _fault(layer_of: Callable[[Tensor, Tensor, bool], Layer], device: torch.device) -> str:
    """What is wrong with bfloat16 layers; "" if they round as bfloat16 should."""
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (
        torch.randn(shape, generator=generator).bfloat16()
        for shape in ((40, 320), (96, 320), (96,))
    )
    for activated in (False, True):
        # Without a matrix library, which is what is tried.
        expected = (x.double()[:, None] * weight.double()).sum(2) + bias.double()
        expected = gelu(expected) if activated else expected
        layer = layer_of(weight.to(device), bias.to(device), activated)
        found = layer(x.to(device)).double().cpu()
        # A result is rounded to 8 bits, and may be before the activation, too.
        error = float((found - expected).abs().max() / expected.abs().max())
        if not error < 2**-7:
            return f"an error of {error:.2g}"
    return ""


def _speed_ratio(device: torch.device) -> float:
    """How many times quicker than in float32 a layer of RoBERTa's size is in bfloat16."""
    generator = torch.Generator(device).manual_seed(0)  # not the caller's
    x, weight, bias = (
        torch.randn(shape, device=device, generator=generator)
        for shape in ((256, 768), (3072, 768), (3072,))
    )
    kinds = (torch.float32, torch.bfloat16)
    layers = [linear_layer(weight.to(kind), bias.to(kind)) for kind in kinds]
    inputs = [x.to(kind) for kind in kinds]
    best = [float("inf"), float("inf")]
    for attempt in range(6):  # in turns, the first one unmeasured
        for i, (layer, own) in enumerate(zip(layers, inputs, strict=True)):
            _wait(device)
            start = time.perf_counter()
            layer(own)
            _wait(device)
            if attempt:
                best[i] = min(best[i], time.perf_counter() - start)
    return best[0] / best[1]


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
