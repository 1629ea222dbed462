"""Batch normalisation by group with all that follows it, in one pass over the rows each way.

What torch does in ten calls (moments, normalisation, skip connection, ReLU, dropout, and their
gradients) is done here block by block of columns, while a block's rows lie in the processor's own
cache: the calls took a third of a training step on a CPU. Each column is summed row after row, so
that the result depends on no processor's vectors.

Shapes: n rows, C columns (of all groups of a section, side by side), H columns of a group.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fusionrec.compiled import compiled
from fusionrec.models.numbers import NUMBERS, word

Dropout = tuple[int, NDArray[np.int64] | None, int, float]
"""The seed; of each group the row of the global batch with which it begins; the least of the
numbers that keep an element; and what it is then multiplied by."""

Floats = NDArray[np.float32]
_BLOCK = 256
"""Columns at a time: 64 rows of them are 64 kB, and there are three or four arrays."""

_NOTHING = np.empty((0, 0), np.float32)
_NO_ROWS = np.empty(0, np.int64)


def serves(*tensors: Tensor | None) -> bool:
    """Whether all are of the kind that is worked on here."""
    return all(
        x is None or (x.dtype == torch.float32 and x.device.type == "cpu" and x.is_contiguous())
        for x in tensors
    )


def normalise(
    x_nC: Tensor,
    weight_H: Tensor,
    bias_H: Tensor,
    *,
    eps: float,
    skip_nC: Tensor | None,
    rectify: bool,
    dropout: Dropout | None,
    out_nC: Tensor,
) -> tuple[Tensor, Tensor]:
    """Normalise columns, add what skips them, then ReLU and dropout, to `out_nC`.

    Returns
    -------
    tuple
        Mean and 1 / sqrt(variance + eps) of each column, both float32 (C,).
    """
    mean_C, scale_C = x_nC.new_empty(2, x_nC.shape[1])
    seed, firsts, least, factor = dropout or (0, None, 0, 1.0)
    _in_parts(
        _forward,
        *(x_nC.shape[1], len(weight_H)),
        *(x_nC.numpy(), weight_H.numpy(), bias_H.numpy(), np.float32(eps)),
        _NOTHING if skip_nC is None else skip_nC.numpy(),
        rectify,
        *(np.uint64(seed), _NO_ROWS if firsts is None else firsts, least, np.float32(factor)),
        *(out_nC.numpy(), mean_C.numpy(), scale_C.numpy()),
    )
    return mean_C, scale_C


def gradients(
    slope_nC: Tensor,
    x_nC: Tensor,
    y_nC: Tensor | None,
    weight_H: Tensor,
    mean_C: Tensor,
    scale_C: Tensor,
    *,
    factor: float,
    out_nC: Tensor,
    skip_nC: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """The inverse way, given the slope of the loss by the result.

    Parameters
    ----------
    y_nC
        The result where there was a ReLU: what it or dropout left out is 0, and has no gradient.
    factor
        What dropout multiplied by.
    out_nC, skip_nC
        Where the gradients by `x_nC` and by what skipped it are written.

    Returns
    -------
    tuple
        The gradients by weight and bias, of each column, both float32 (C,).
    """
    weight_C, bias_C = x_nC.new_empty(2, x_nC.shape[1])
    _in_parts(
        _backward,
        *(x_nC.shape[1], len(weight_H)),
        *(slope_nC.numpy(), x_nC.numpy(), _NOTHING if y_nC is None else y_nC.numpy()),
        *(weight_H.numpy(), mean_C.numpy(), scale_C.numpy(), np.float32(factor)),
        *(out_nC.numpy(), weight_C.numpy(), bias_C.numpy()),
        _NOTHING if skip_nC is None else skip_nC.numpy(),
    )
    return weight_C, bias_C


def _in_parts(function: Callable[..., None], columns: int, width: int, *arguments: Any) -> None:
    """Call it with the blocks from and to which it works, in as many threads as torch has."""
    blocks = columns // width * -(-width // _BLOCK)
    threads = min(torch.get_num_threads(), blocks)
    if threads <= 1:
        function(0, blocks, *arguments)
        return
    ends = [blocks * i // threads for i in range(threads + 1)]
    calls = [_pool(threads).submit(function, a, b, *arguments) for a, b in pairwise(ends)]
    for call in calls:
        call.result()


@lru_cache(maxsize=4)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "normalisation")


@compiled
def _forward(
    begin: int,
    end: int,
    x: Floats,
    weight: Floats,
    bias: Floats,
    eps: np.float32,
    skip: Floats,
    rectify: bool,
    seed: np.uint64,
    groups: NDArray[np.int64],
    least: int,
    factor: np.float32,
    y: Floats,
    mean: Floats,
    scale: Floats,
) -> None:
    rows, width = x.shape[0], len(weight)
    one, zero, count = np.float32(1), np.float32(0), np.float32(rows)
    skips, drops = skip.shape[0] > 0, len(groups) > 0
    a, b = np.empty(_BLOCK, np.float32), np.empty(_BLOCK, np.float32)
    words = np.empty(_BLOCK // NUMBERS, np.uint64)
    numbers = words.view(np.int16)
    blocks, words_a_row = -(-width // _BLOCK), -(-width // NUMBERS)
    for block in range(begin, end):
        group, within = block // blocks, block % blocks * _BLOCK
        size = min(_BLOCK, width - within)
        first = group * width + within
        last = first + size
        a[:] = zero
        for r in range(rows):
            row = x[r, first:last]
            for c in range(size):
                a[c] += row[c]
        for c in range(size):
            a[c] /= count
        b[:] = zero
        for r in range(rows):
            row = x[r, first:last]
            for c in range(size):
                away = row[c] - a[c]
                b[c] += away * away
        for c in range(size):
            mean[first + c] = a[c]
            scale[first + c] = one / np.sqrt(b[c] / count + eps)
            by = weight[within + c] * scale[first + c]
            b[c] = bias[within + c] - a[c] * by
            a[c] = by
        for r in range(rows):
            row, out = x[r, first:last], y[r, first:last]
            for c in range(size):
                out[c] = row[c] * a[c] + b[c]
            if skips:
                beside = skip[r, first:last]
                for c in range(size):
                    out[c] += beside[c]
            if rectify:
                for c in range(size):
                    out[c] = zero if out[c] < zero else out[c]  # and NaN stays
            if drops:
                place = np.uint64((groups[group] + r) * words_a_row + within // NUMBERS)
                for i in range(-(-size // NUMBERS)):
                    words[i] = word(seed, place + np.uint64(i))
                for c in range(size):
                    out[c] = out[c] * factor if numbers[c] >= least else zero


@compiled
def _backward(
    begin: int,
    end: int,
    slope: Floats,
    x: Floats,
    y: Floats,
    weight: Floats,
    mean: Floats,
    scale: Floats,
    factor: np.float32,
    grad: Floats,
    by_weight: Floats,
    by_bias: Floats,
    by_skip: Floats,
) -> None:
    rows, width = x.shape[0], len(weight)
    zero, count = np.float32(0), np.float32(x.shape[0])
    skips, rectify = by_skip.shape[0] > 0, y.shape[0] > 0
    sums, products = np.empty(_BLOCK, np.float32), np.empty(_BLOCK, np.float32)
    factors = np.empty(_BLOCK, np.float32)
    blocks = -(-width // _BLOCK)
    for block in range(begin, end):
        group, within = block // blocks, block % blocks * _BLOCK
        size = min(_BLOCK, width - within)
        first = group * width + within
        last = first + size
        means, scales = mean[first:last], scale[first:last]
        sums[:] = zero
        products[:] = zero
        for r in range(rows):
            given, row, told = slope[r, first:last], x[r, first:last], grad[r, first:last]
            if rectify:
                out = y[r, first:last]
                for c in range(size):
                    told[c] = given[c] * factor if out[c] > zero else zero
            else:
                for c in range(size):
                    told[c] = given[c] * factor
            for c in range(size):
                sums[c] += told[c]
                products[c] += told[c] * ((row[c] - means[c]) * scales[c])
        if skips:
            for r in range(rows):
                told, beside = grad[r, first:last], by_skip[r, first:last]
                for c in range(size):
                    beside[c] = told[c]
        for c in range(size):
            by_bias[first + c] = sums[c]
            by_weight[first + c] = products[c]
            sums[c] /= count
            products[c] = products[c] / count * scales[c]
            factors[c] = weight[within + c] * scales[c]
        for r in range(rows):
            row, told = x[r, first:last], grad[r, first:last]
            for c in range(size):
                away = (row[c] - means[c]) * products[c]
                told[c] = (told[c] - sums[c] - away) * factors[c]
