"""Batch normalisation by group, then skip connection, ReLU and dropout, as one node of a network.

By compiled code where all is float32 on a CPU (:mod:`fusionrec.models.normalisation`), and that
works on this processor, else by torch's own calls.

Shapes: B songs of a worker, H columns, n songs of a normalisation group, G groups, C = G * H.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any

import numba
import torch
from torch import Tensor
from torch.autograd import Function

from fusionrec import probes
from fusionrec.models.batch import BatchShare, Draw, Section
from fusionrec.models.normalisation import gradients, normalise, serves

_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
"""By the bytes of a number."""

Sections = tuple[Section, ...]


@dataclass(frozen=True)
class Drawn:
    """Of a dropout: numbers, the least of those that keep an element, and what it is scaled by."""

    draw: Draw
    least: int
    scale: float

    def kept(self) -> Tensor:
        """1 or 0, int16: in place, as no boolean comes out of a comparison of vectors at once."""
        return self.draw.numbers().ge_(self.least)


class ByGroup(Function):
    """One node instead of five, and one call a section instead of one a group.

    At a thousand songs a batch the many small calls took as long as the matrix products.

    It takes x (B, H) with the rows of its sections as :meth:`BatchShare.woven` has them, a shift
    (H,) that is yet to be added to x or None, weight and bias (H,), what skips the normalisation
    (B, H) or None, the sections, epsilon, whether a ReLU follows, and the dropout or None. It gives
    the rows, and the sums over the groups of their means and (unbiased) variances, (2, H).

    Normalisation takes a shift away again: only the means have it, and its gradient is 0.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x_BH: Tensor,
        shift_H: Tensor | None,
        weight_H: Tensor,
        bias_H: Tensor,
        skip_BH: Tensor | None,
        sections: Sections,
        eps: float,
        rectify: bool,
        drawn: Drawn | None,
    ) -> tuple[Tensor, Tensor]:
        compiled = serves(x_BH, weight_H, bias_H, skip_BH) and compiled_code().works
        run = _compiled if compiled else _by_torch
        y_BH, means, scales = run(x_BH, weight_H, bias_H, skip_BH, sections, eps, rectify, drawn)
        variances = [
            # Unbiased, as torch's running variances are.
            (scale_C.square().reciprocal_().sub_(eps).clamp_(min=0)).mul_(n / (n - 1))
            for scale_C, n in zip(scales, (section.rows for section in sections), strict=True)
        ]
        moments_2H = torch.stack([_over_groups(each, x_BH.shape[1]) for each in (means, variances)])
        if shift_H is not None:
            moments_2H[0].add_(shift_H, alpha=sum(len(section.groups) for section in sections))
        ctx.save_for_backward(x_BH, weight_H, *means, *scales, *([y_BH] if rectify else []))
        ctx.sections, ctx.eps, ctx.rectify, ctx.compiled = sections, eps, rectify, compiled
        ctx.factor, ctx.skips = 1.0 if drawn is None else drawn.scale, skip_BH is not None
        ctx.shifts = shift_H is not None
        ctx.mark_non_differentiable(moments_2H)
        return y_BH, moments_2H

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        slope_BH = slopes[0].contiguous()
        run = _compiled_backward if ctx.compiled and serves(slope_BH) else _backward_by_torch
        x_BH, weight, bias, skip_BH = run(ctx, slope_BH)
        weight_H, bias_H = (_over_groups(found, x_BH.shape[1]) for found in (weight, bias))
        shift_H = torch.zeros_like(bias_H) if ctx.shifts else None
        return x_BH, shift_H, weight_H, bias_H, skip_BH, None, None, None, None


@cache
def compiled_code() -> probes.Finding:
    """Whether compiled code gives on this processor what torch gives; tried once a process.

    Groups of two sizes, more columns than a block, skip connection, ReLU and dropout, both ways.
    """

    def trial() -> str:
        if numba.config.DISABLE_JIT:
            return "numba compiles nothing (NUMBA_DISABLE_JIT)"
        rows, width, eps = 27, 301, 1e-5
        share = BatchShare(rows, 0, rows, (13, 14), 2)
        generator = torch.Generator().manual_seed(0)
        x, skip, slope = torch.randn(3, rows, width, generator=generator)
        weight, bias = torch.randn(2, width, generator=generator)
        drawn = Drawn(Draw(share, width, 5), 0, 2.0)
        given = (x, weight, bias, skip, share.sections, eps, True, drawn)
        found, expected = _compiled(*given), _by_torch(*given)
        y, means, scales = expected
        # Both go back from the same: rounding must not decide what a ReLU left out.
        ctx = SimpleNamespace(
            saved_tensors=(x, weight, *means, *scales, y),
            sections=share.sections,
            eps=eps,
            factor=drawn.scale,
            skips=True,
            rectify=True,
        )
        back = _compiled_backward(ctx, slope), _backward_by_torch(ctx, slope)
        for what, one, other in (("values", found, expected), ("gradients", *back)):
            if not all(_close(*pair) for pair in zip(_tensors(one), _tensors(other), strict=True)):
                return f"its {what} are not those of torch"
        return ""

    finding = probes.attempt(trial)
    return probes.report(
        "training", finding, "compiled normalisation", "torch's normalisation, slower"
    )


def _tensors(found: tuple[Any, ...]) -> list[Tensor]:
    return [x for each in found for x in (each if isinstance(each, list) else [each])]


def _close(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one.view(-1), other.view(-1), rtol=1e-3, atol=1e-4)


def _compiled(
    x_BH: Tensor,
    weight_H: Tensor,
    bias_H: Tensor,
    skip_BH: Tensor | None,
    sections: Sections,
    eps: float,
    rectify: bool,
    drawn: Drawn | None,
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    y_BH = torch.empty_like(x_BH)
    firsts = [None] * len(sections) if drawn is None else drawn.draw.firsts()
    seen = (_seen(rows, sections) for rows in (x_BH, y_BH, skip_BH))
    found = [
        normalise(
            x_nC,
            weight_H,
            bias_H,
            eps=eps,
            skip_nC=skip_nC,
            rectify=rectify,
            dropout=None if drawn is None else (drawn.draw.seed, rows, drawn.least, drawn.scale),
            out_nC=y_nC,
        )
        for x_nC, y_nC, skip_nC, rows in zip(*seen, firsts, strict=True)
    ]
    return y_BH, [mean_C for mean_C, _ in found], [scale_C for _, scale_C in found]


def _compiled_backward(
    ctx: Any, slope_BH: Tensor
) -> tuple[Tensor, list[Tensor], list[Tensor], Tensor | None]:
    x_BH, weight_H, *saved = ctx.saved_tensors
    count = len(ctx.sections)
    out_BH = torch.empty_like(x_BH)
    skip_BH = torch.empty_like(x_BH) if ctx.skips else None
    rows = (slope_BH, x_BH, saved[-1] if ctx.rectify else None, out_BH, skip_BH)
    found = [
        gradients(
            slope_nC,
            x_nC,
            y_nC,
            weight_H,
            saved[i],
            saved[count + i],
            factor=ctx.factor,
            out_nC=out_nC,
            skip_nC=skip_nC,
        )
        for i, (slope_nC, x_nC, y_nC, out_nC, skip_nC) in enumerate(
            zip(*(_seen(each, ctx.sections) for each in rows), strict=True)
        )
    ]
    return out_BH, [weight_C for weight_C, _ in found], [bias_C for _, bias_C in found], skip_BH


def _by_torch(
    x_BH: Tensor,
    weight_H: Tensor,
    bias_H: Tensor,
    skip_BH: Tensor | None,
    sections: Sections,
    eps: float,
    rectify: bool,
    drawn: Drawn | None,
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    parts, means, scales = [], [], []
    for x_nC, section in zip(_seen(x_BH, sections), sections, strict=True):
        groups = len(section.groups)
        part_nC, mean_C, scale_C = torch.native_batch_norm(
            x_nC, weight_H.repeat(groups), bias_H.repeat(groups), *(None, None, True, 0.0, eps)
        )
        parts.append(part_nC.view(-1, x_BH.shape[1]))
        means.append(mean_C)
        scales.append(scale_C)
    y_BH = parts[0] if len(parts) == 1 else torch.cat(parts)
    if skip_BH is not None:
        y_BH.add_(skip_BH)
    if rectify:
        y_BH.relu_()
    if drawn is not None:
        bits = drawn.kept().neg_().to(_INTEGERS[y_BH.element_size()])
        y_BH.view(bits.dtype).bitwise_and_(bits)
        y_BH.mul_(drawn.scale)
    return y_BH, means, scales


def _backward_by_torch(
    ctx: Any, slope_BH: Tensor
) -> tuple[Tensor, list[Tensor], list[Tensor], Tensor | None]:
    x_BH, weight_H, *saved = ctx.saved_tensors
    count, width = len(ctx.sections), x_BH.shape[1]
    # Of dropout, too: what it has left out is 0.
    if ctx.rectify:
        slope_BH = torch.ops.aten.threshold_backward(slope_BH, saved[-1], 0)
    if ctx.factor != 1.0:
        slope_BH = slope_BH * ctx.factor
    parts, weights, biases = [], [], []
    seen = zip(_seen(x_BH, ctx.sections), _seen(slope_BH, ctx.sections), strict=True)
    for i, (x_nC, slope_nC) in enumerate(seen):
        part_nC, weight_C, bias_C = torch.ops.aten.native_batch_norm_backward(
            slope_nC,
            x_nC,
            weight_H.repeat(len(ctx.sections[i].groups)),
            *(None, None, saved[i], saved[count + i], True, ctx.eps, [True, True, True]),
        )
        parts.append(part_nC.view(-1, width))
        weights.append(weight_C)
        biases.append(bias_C)
    x_grad_BH = parts[0] if count == 1 else torch.cat(parts)
    return x_grad_BH, weights, biases, slope_BH if ctx.skips else None


def _over_groups(found: list[Tensor], width: int) -> Tensor:
    """The sum over all groups of what was found of each section's columns, (H,)."""
    sums = [each_C.view(-1, width).sum(0) for each_C in found]
    return sums[0] if len(sums) == 1 else torch.stack(sums).sum(0)


def _seen(rows_BH: Tensor | None, sections: Sections) -> list[Any]:
    """Each section's rows as (n, G * H); None for each where there are none."""
    if rows_BH is None:
        return [None] * len(sections)
    if len(sections) == 1:
        return [rows_BH.view(sections[0].rows, -1)]
    parts = torch.split(rows_BH, [section.rows * len(section.groups) for section in sections])
    return [part.view(section.rows, -1) for part, section in zip(parts, sections, strict=True)]
