"""Dropout and batch normalisation of a global batch that several workers share.

Shapes: B songs of a worker, M modalities, H columns, n songs of a normalisation group, G groups.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from fusionrec.models.batch import BatchContext, Section
from fusionrec.models.collective import Collective

_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
"""By the bytes of a number."""


class SharedDropout(nn.Module):
    """Dropout whose mask depends on a song's row in the global batch, not on the worker.

    The mask takes 16 random bits an element (so p is exact to 2^-17), which costs less
    than `nn.Dropout`'s Bernoulli numbers on a CPU.
    """

    def __init__(self, p: float, context: BatchContext) -> None:
        super().__init__()
        self.p = p
        self.context = context

    @property
    def scale(self) -> float:
        """What is kept is multiplied by."""
        return 1.0 / (1.0 - self.p)

    def forward(self, x_BH: Tensor) -> Tensor:
        if not self.training or self.p == 0.0:
            return x_BH
        return x_BH * (self._kept(x_BH) * self.scale).to(x_BH.dtype)

    def bits(self, x_BH: Tensor) -> Tensor | None:
        """Of each element all bits where it is kept, none where it is not; None: all are kept."""
        if not self.training or self.p == 0.0:
            return None
        return self._kept(x_BH).neg_().to(_INTEGERS[x_BH.element_size()])

    def _kept(self, x_BH: Tensor) -> Tensor:
        """1 or 0, int16: in place, as no boolean comes out of a comparison of vectors at once."""
        words = self.context.words(-(-x_BH.shape[1] // 4)).view(torch.int16)
        return words[:, : x_BH.shape[1]].ge_(round(self.p * 2**16) - 2**15)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class ModalityDropout(nn.Module):
    """Modalities of songs that are absent in training though the songs have them.

    A song keeps one where the number drawn for it is at least `rate`, and that of the largest
    number, so that it never loses all. Drawn for the global batch; nothing where `rate` is 0.
    """

    def __init__(self, rate: float, context: BatchContext) -> None:
        super().__init__()
        self.rate = rate
        self.context = context

    def forward(self, present_BM: Tensor) -> Tensor:
        if not self.training or self.rate == 0.0:
            return present_BM
        context, share = self.context, self.context.share
        shape = (share.rows, present_BM.shape[1])
        u = torch.rand(shape, generator=context.generator, device=present_BM.device)
        own_BM = u[share.start : share.stop].masked_fill(~present_BM, -1.0)
        largest_BM = own_BM == own_BM.amax(dim=1, keepdim=True)
        return present_BM & ((own_BM >= self.rate) | largest_BM)


class _ByGroup(Function):
    """Normalisation by group, then what follows it in the network, in place.

    One node instead of five, and one call a section instead of one a group: at a thousand songs a
    batch the many small calls took as long as the matrix products.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x_BH: Tensor,
        weight_H: Tensor,
        bias_H: Tensor,
        skip_BH: Tensor | None,
        sections: tuple[Section, ...],
        eps: float,
        rectify: bool,
        dropout: tuple[Tensor, float] | None,
    ) -> tuple[Tensor, Tensor]:
        width, means, scales, parts = x_BH.shape[1], [], [], []
        moments_2H = torch.zeros(2, width, dtype=weight_H.dtype, device=x_BH.device)
        for part_nC, section in _seen(x_BH, sections):
            groups, n = len(section.groups), section.rows
            out_nC, mean_C, scale_C = torch.native_batch_norm(
                part_nC,
                weight_H.repeat(groups),
                bias_H.repeat(groups),
                *(None, None, True, 0.0, eps),
            )
            parts.append(out_nC.view(-1, width))
            means.append(mean_C)
            scales.append(scale_C)
            moments_2H[0] += mean_C.view(groups, width).sum(0)
            variance_C = (scale_C.square().reciprocal_() - eps).clamp_(min=0)
            moments_2H[1] += variance_C.view(groups, width).sum(0) * (n / (n - 1))
        y_BH = parts[0] if len(parts) == 1 else torch.cat(parts)
        if skip_BH is not None:
            y_BH.add_(skip_BH)
        if rectify:
            y_BH.relu_()
        if dropout is not None:
            y_BH.view(dropout[0].dtype).bitwise_and_(dropout[0])
            y_BH.mul_(dropout[1])
        ctx.save_for_backward(x_BH, weight_H, *means, *scales, *([y_BH] if rectify else []))
        ctx.sections, ctx.eps, ctx.rectify = sections, eps, rectify
        ctx.scale, ctx.skips = dropout and dropout[1], skip_BH is not None
        ctx.mark_non_differentiable(moments_2H)
        return y_BH, moments_2H

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x_BH, weight_H, *saved = ctx.saved_tensors
        count, width = len(ctx.sections), x_BH.shape[1]
        # Of dropout, too: what it has left out is 0.
        out_BH = gradients[0].contiguous()
        if ctx.rectify:
            out_BH = torch.ops.aten.threshold_backward(out_BH, saved[-1], 0)
        if ctx.scale is not None:
            out_BH.mul_(ctx.scale)
        parts, weights_H, biases_H = [], torch.zeros_like(weight_H), torch.zeros_like(weight_H)
        seen = zip(_seen(x_BH, ctx.sections), _seen(out_BH, ctx.sections), strict=True)
        for i, ((part_nC, section), (slope_nC, _)) in enumerate(seen):
            groups = len(section.groups)
            part, weight_C, bias_C = torch.ops.aten.native_batch_norm_backward(
                slope_nC,
                part_nC,
                weight_H.repeat(groups),
                *(None, None, saved[i], saved[count + i], True, ctx.eps, [True, True, True]),
            )
            parts.append(part.view(-1, width))
            weights_H += weight_C.view(groups, width).sum(0)
            biases_H += bias_C.view(groups, width).sum(0)
        x_grad_BH = parts[0] if count == 1 else torch.cat(parts)
        skip_BH = out_BH if ctx.skips else None
        return x_grad_BH, weights_H, biases_H, skip_BH, None, None, None, None


def _seen(x_BH: Tensor, sections: tuple[Section, ...]) -> list[tuple[Tensor, Section]]:
    """Each section's rows as (n, G * H)."""
    parts = torch.split(x_BH, [section.rows * len(section.groups) for section in sections])
    return [
        (part.view(section.rows, -1), section)
        for part, section in zip(parts, sections, strict=True)
    ]


class _Normalise(Function):
    """Batch normalisation with the global batch's moments, and the gradient through them."""

    @staticmethod
    def forward(
        ctx: Any,
        x_BH: Tensor,
        weight_H: Tensor,
        bias_H: Tensor,
        moments: tuple[Tensor, Tensor, Tensor],
        collective: Collective,
    ) -> Tensor:
        mean_H, scale_H, rows = moments
        normal_BH = (x_BH - mean_H) * scale_H
        ctx.save_for_backward(normal_BH, weight_H, scale_H, rows)
        ctx.collective = collective
        return normal_BH * weight_H + bias_H

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        normal_BH, weight_H, scale_H, rows = ctx.saved_tensors
        (out_BH,) = gradients
        bias_H, product_H = out_BH.sum(0), (out_BH * normal_BH).sum(0)
        means_2H = ctx.collective.sum(torch.stack([bias_H, product_H])) / rows
        x_BH = (out_BH - means_2H[0] - normal_BH * means_2H[1]) * (weight_H * scale_H)
        # Those of this worker's rows alone: data-parallel training adds the workers' up.
        return x_BH, product_H, bias_H, None, None


class SharedBatchNorm(nn.BatchNorm1d):
    """Batch normalisation that does not depend on the number of workers.

    Where the batch is one group, its moments are those of the global batch: torch's
    SyncBatchNorm needs a GPU; this one works on any process group, with one exchange each way,
    and equals `BatchNorm1d` where there is one worker. Where it is several, each group has its
    own moments and no worker waits for another (ghost batch normalisation, Hoffer et al. 2017);
    the running moments take the mean over the groups.

    Rows come as :meth:`fusionrec.models.batch.BatchShare.woven` has them.
    """

    def __init__(self, width: int, collective: Collective, context: BatchContext) -> None:
        super().__init__(width)
        self.collective = collective
        self.context = context

    def forward(self, x_BH: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x_BH)
        sections = self._sections(x_BH)
        if sections:
            return self._by_group(x_BH, sections)
        if self.context.share.sizes is not None:
            # A worker without a group takes part in the others' gradients with its zeros.
            moments_2H = torch.zeros(2, x_BH.shape[1], dtype=self.weight.dtype, device=x_BH.device)
            self._track(moments_2H[0], moments_2H[1])
            return x_BH * self.weight + self.bias
        return self._together(x_BH)

    def rectified(
        self,
        x_BH: Tensor,
        *,
        skip_BH: Tensor | None = None,
        dropout: SharedDropout | None = None,
    ) -> Tensor:
        """ReLU of the normalised rows and what skips them, then dropout."""
        sections = self._sections(x_BH) if self.training else ()
        if sections:
            return self._by_group(x_BH, sections, skip_BH=skip_BH, rectify=True, dropout=dropout)
        y_BH = self(x_BH)
        y_BH = torch.relu(y_BH if skip_BH is None else skip_BH + y_BH)
        return y_BH if dropout is None else dropout(y_BH)

    def _sections(self, x_BH: Tensor) -> tuple[Section, ...]:
        """The groups that are this worker's alone; none where it shares the only one."""
        if self.context.share.sizes is not None:
            return self.context.share.sections
        return (Section(len(x_BH), (0,)),) if self.collective.world == 1 else ()

    def _by_group(
        self,
        x_BH: Tensor,
        sections: tuple[Section, ...],
        *,
        skip_BH: Tensor | None = None,
        rectify: bool = False,
        dropout: SharedDropout | None = None,
    ) -> Tensor:
        bits = None if dropout is None else dropout.bits(x_BH)
        dropped = None if dropout is None or bits is None else (bits, dropout.scale)
        y_BH, moments_2H = _ByGroup.apply(  # type: ignore[no-untyped-call]
            *(x_BH, self.weight, self.bias, skip_BH, sections, self.eps, rectify, dropped)
        )
        # Each worker tracks its share of the mean; `average_running_moments` adds them up.
        moments_2H *= self.collective.world / self.context.share.groups
        self._track(moments_2H[0], moments_2H[1])
        out_BH: Tensor = y_BH
        return out_BH

    def _together(self, x_BH: Tensor) -> Tensor:
        x_BH = x_BH.to(self.weight.dtype)
        mean_H, squares_H, rows = self._moments(x_BH.detach())
        variance_H = squares_H / rows
        self._track(mean_H, squares_H / (rows - 1))
        moments = (mean_H, torch.rsqrt(variance_H + self.eps), rows)
        out: Tensor = _Normalise.apply(  # type: ignore[no-untyped-call]
            x_BH, self.weight, self.bias, moments, self.collective
        )
        return out

    @torch.no_grad()
    def _track(self, mean_H: Tensor, variance_H: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        momentum = self.momentum or 0.0
        self.running_mean.lerp_(mean_H, momentum)
        self.running_var.lerp_(variance_H, momentum)
        self.num_batches_tracked.add_(1)

    @torch.no_grad()
    def _moments(self, x_BH: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean, sum of squared deviations and number of rows, of the global batch.

        Each worker's moments are about its own mean, and are combined about the common one
        (Chan et al.): a mean square less a squared mean would lose digits.
        """
        rows, width = x_BH.shape
        mine = x_BH.new_zeros(2 * width + 1)
        if rows:
            # Quicker than torch.var_mean down the columns.
            mean_H = x_BH.mean(dim=0)
            mine[:width], mine[-1] = mean_H, rows
            mine[width:-1] = (x_BH - mean_H).square_().sum(dim=0)
        each = self.collective.gather(mine)
        means, squares, counts = each[:, :width], each[:, width:-1], each[:, -1:]
        total = counts.sum()
        mean_H = (means * counts).sum(0) / total
        squares_H = (squares + counts * (means - mean_H).square()).sum(0)
        return mean_H, squares_H, total


@torch.no_grad()
def average_running_moments(module: nn.Module, collective: Collective) -> None:
    """Make the running moments those of all workers' rows; before any evaluation."""
    norms = [m for m in module.modules() if isinstance(m, SharedBatchNorm)]
    if collective.world == 1 or not norms:
        return
    tracked = [x for norm in norms for x in (norm.running_mean, norm.running_var)]
    moments = [x for x in tracked if x is not None]
    means = collective.sum(torch.cat(moments)) / collective.world
    for moment, mean in zip(moments, torch.split(means, [len(x) for x in moments]), strict=True):
        moment.copy_(mean)
