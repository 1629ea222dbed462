"""Dropout and batch normalisation of a global batch that several workers share.

Shapes: B songs of a worker, M modalities, H columns, n songs of a normalisation group, G groups.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from fusionrec.models.batch import BatchContext, Section
from fusionrec.models.by_group import ByGroup, Drawn
from fusionrec.models.collective import Collective


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
        drawn = self.drawn(x_BH)
        if drawn is None:
            return x_BH
        return x_BH * (drawn.kept() * self.scale).to(x_BH.dtype)

    def drawn(self, x_BH: Tensor) -> Drawn | None:
        """Numbers for the elements, the least of those that keep one, and what it is scaled by.

        None: all are kept as they are.
        """
        if not self.training or self.p == 0.0:
            return None
        return Drawn(self.context.draw(x_BH.shape[1]), round(self.p * 2**16) - 2**15, self.scale)

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
        shift_H: Tensor | None = None,
        skip_BH: Tensor | None = None,
        dropout: SharedDropout | None = None,
    ) -> Tensor:
        """ReLU of the normalised rows and what skips them, then dropout.

        `shift_H` is yet to be added to the rows: the bias of a layer before, which normalisation
        takes away again.
        """
        sections = self._sections(x_BH) if self.training else ()
        if sections:
            return self._by_group(
                x_BH, sections, shift_H=shift_H, skip_BH=skip_BH, rectify=True, dropout=dropout
            )
        y_BH = self(x_BH if shift_H is None else x_BH + shift_H)
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
        shift_H: Tensor | None = None,
        skip_BH: Tensor | None = None,
        rectify: bool = False,
        dropout: SharedDropout | None = None,
    ) -> Tensor:
        drawn = None if dropout is None else dropout.drawn(x_BH)
        y_BH, moments_2H = ByGroup.apply(  # type: ignore[no-untyped-call]
            *(x_BH, shift_H, self.weight, self.bias, skip_BH, sections, self.eps, rectify, drawn)
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
