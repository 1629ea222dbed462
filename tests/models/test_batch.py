"""A global batch that several workers share: rows, groups, and what is drawn for them."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from fusionrec.models import batch
from fusionrec.models.batch import BatchContext, BatchShare
from fusionrec.models.collective import Collective
from fusionrec.models.layers import SharedBatchNorm, SharedDropout
from fusionrec.models.settings import Settings

ALONE = Collective()


@pytest.mark.parametrize("group", [None, 16, 64])
@pytest.mark.parametrize("rows", [30, 64, 200])
def test_rows_are_woven_group_by_group_and_back(rows, group) -> None:
    share = BatchShare.of(rows, group, ALONE)
    x = torch.arange(rows)
    woven = share.woven(x)
    assert torch.equal(share.unwoven(woven), x)
    of_row = torch.repeat_interleave(
        torch.arange(len(share.sizes or (rows,))), torch.tensor(share.sizes or (rows,))
    )
    before = 0
    for section in share.sections:
        after = before + section.rows * len(section.groups)
        groups = of_row[woven[before:after]].view(section.rows, -1)
        assert torch.equal(groups, torch.tensor(section.groups).expand(section.rows, -1))
        before = after
    assert before == (rows if share.sizes else 0)


def test_no_song_is_a_normalisation_group_of_its_own() -> None:
    for rows in range(2, 40):
        sizes = BatchShare.of(rows, 2, ALONE).sizes or (rows,)
        assert sum(sizes) == rows
        assert min(sizes) >= 2, rows
    context = BatchContext(share=BatchShare.of(7, 2, ALONE))
    norm = SharedBatchNorm(4, ALONE, context).train()
    assert norm(torch.randn(7, 4)).isfinite().all()


def test_where_rows_are_woven_to_is_kept_for_steps_that_read_it_there() -> None:
    sizes, device = (16, 17), torch.device("cpu")
    first = batch._orders(sizes, device)
    for rows in range(20, 100):
        batch._orders((16, rows), device)
    assert batch._orders(sizes, device) is first


@pytest.mark.parametrize("group", [None, 16, 50])
@pytest.mark.parametrize("world", [2, 3, 5])
def test_what_is_drawn_for_a_song_does_not_depend_on_the_workers(world, group) -> None:
    drawn = []
    for collective in (ALONE, *(Collective(rank, world) for rank in range(world))):
        context = BatchContext(share=BatchShare.of(230, group, collective))
        context.reseed(7)
        context.words(3)
        drawn.append(context.share.unwoven(context.words(5)))
    assert torch.equal(drawn[0], torch.cat(drawn[1:]))
    assert drawn[0].unique().numel() == 230 * 5, "no two groups have the same numbers"


def test_other_seeds_and_further_draws_give_other_numbers() -> None:
    context = BatchContext(share=BatchShare.of(64, 16, ALONE))
    words = []
    for seed in (1, 2):
        context.reseed(seed)
        words += [context.words(4), context.words(4)]
    assert torch.cat(words).unique().numel() == 4 * 64 * 4
    context.reseed(1)
    assert torch.equal(context.words(4), words[0])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("p", [0.0, 0.3])
def test_one_step_is_norm_skip_relu_and_dropout_one_by_one(dtype, p) -> None:
    """50 songs in groups of 16, 17 and 17; values and all gradients."""
    context = BatchContext(share=BatchShare.of(50, 16, ALONE))
    norm, dropout = SharedBatchNorm(8, ALONE, context).train(), SharedDropout(p, context).train()
    if dtype == torch.float64:
        norm.double()
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2.0)
        norm.bias.normal_()
    rows = [torch.randn(50, 8).to(dtype).requires_grad_() for _ in range(2)]
    slope = torch.randn(50, 8).to(dtype)
    found = []
    for at_once in (True, False):
        context.reseed(3)
        x, skip = rows
        if at_once:
            y = norm.rectified(x, skip_BH=skip, dropout=dropout)
        else:
            y = dropout(torch.relu(norm(x) + skip))
        found.append((y, *torch.autograd.grad(y, [*rows, norm.weight, norm.bias], slope)))
    for one, other in zip(*found, strict=True):
        tolerance = {"rtol": 0.05, "atol": 0.05} if dtype == torch.bfloat16 else {}
        torch.testing.assert_close(one, other, **tolerance)


def test_norm_by_group_has_torchs_gradients() -> None:
    context = BatchContext(share=BatchShare.of(50, 16, ALONE))
    norm, plain = SharedBatchNorm(4, ALONE, context).train(), nn.BatchNorm1d(4).train()
    x, slope = torch.randn(50, 4, requires_grad=True), torch.randn(50, 4)
    share = context.share
    mine = share.unwoven(norm(share.woven(x)))
    theirs = torch.cat([plain(part) for part in x.split(share.sizes)])
    leaves = [(x, norm.weight, norm.bias), (x, plain.weight, plain.bias)]
    for one, other in zip(
        torch.autograd.grad(mine, leaves[0], slope),
        torch.autograd.grad(theirs, leaves[1], slope),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_eta_follows_the_square_root_of_the_batch_after_a_warm_up() -> None:
    settings = Settings(epochs=100, batch_size=1024, eta=0.001, eta_batch=256)
    assert settings.eta_of(6) == settings.eta_of(100) == pytest.approx(0.002)
    rising = [settings.eta_of(epoch) * 1000 for epoch in range(1, 7)]
    assert rising == pytest.approx([1 + i / 6 for i in range(1, 7)])
    # A tenth of a short training; never for a smaller batch, whose rate falls.
    assert replace(settings, epochs=20).eta_of(3) == pytest.approx(0.002)
    assert replace(settings, epochs=9).eta_of(1) == pytest.approx(0.002)
    assert replace(settings, batch_size=64).eta_of(1) == pytest.approx(0.0005)
    assert replace(settings, batch_size=256).eta_of(1) == 0.001
    assert replace(settings, eta_batch=None).eta_of(1) == 0.001
    falling = replace(settings, schedule="cosine").eta_of(51)
    assert falling == pytest.approx(0.002 * (1 + math.cos(math.pi / 2)) / 2)
