"""A global batch that several workers share: rows, groups, and what is drawn for them."""

import logging
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fusionrec import probes
from fusionrec.models import batch, by_group, numbers
from fusionrec.models.batch import BatchContext, BatchShare
from fusionrec.models.collective import Collective
from fusionrec.models.layers import SharedBatchNorm, SharedDropout
from fusionrec.models.settings import Settings

ALONE = Collective()


@pytest.fixture
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


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
        context.draw(10)
        drawn.append(context.share.unwoven(context.draw(20).numbers()))
    assert torch.equal(drawn[0], torch.cat(drawn[1:]))
    words = drawn[0].view(torch.int64)
    assert words.unique().numel() == 230 * 5, "no two songs have the same numbers"


def test_other_seeds_and_further_draws_give_other_numbers() -> None:
    context = BatchContext(share=BatchShare.of(64, 16, ALONE))
    words = []
    for seed in (1, 2):
        context.reseed(seed)
        words += [context.draw(16).numbers().view(torch.int64) for _ in range(2)]
    assert torch.cat(words).unique().numel() == 4 * 64 * 4
    context.reseed(1)
    assert torch.equal(context.draw(16).numbers().view(torch.int64), words[0])


@pytest.mark.processor
@pytest.mark.parametrize("fill", [numbers.fill, numbers._filled_plainly])
def test_numbers_are_those_of_splitmix64(fill) -> None:
    out = np.empty((2, 2), np.int64)
    fill(np.uint64(0), np.array([0, 1]), out)
    # The first four of seed 0, as its author's program prints them.
    assert [hex(each) for each in out.ravel().astype(np.uint64).tolist()] == [
        "0xe220a8397b1dcdaf",
        "0x6e789e6aa1b965f4",
        "0x06c45d188009454f".replace("0x0", "0x"),
        "0xf88bb8a8724c81ec",
    ]


@pytest.mark.processor
def test_compiled_code_works_here(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="fusionrec"):
        assert by_group.compiled_code.__wrapped__().works
        assert numbers.compiled_numbers.__wrapped__().works
    assert "training: compiled normalisation (right on known numbers; " in caplog.text
    assert "training: compiled random numbers (right on known numbers; " in caplog.text
    assert len(probes.lines("training")) >= 2


def step() -> list[torch.Tensor]:
    """Of a normalisation with dropout: the rows, the moments and the gradients."""
    torch.manual_seed(1)
    context = BatchContext(share=BatchShare.of(50, 16, ALONE))
    norm, dropout = SharedBatchNorm(301, ALONE, context).train(), SharedDropout(0.3, context)
    x, slope = torch.randn(50, 301, requires_grad=True), torch.randn(50, 301)
    context.reseed(3)
    y = norm.rectified(x, dropout=dropout.train())
    return [y, norm.running_var, *torch.autograd.grad(y, [x, norm.weight, norm.bias], slope)]


@pytest.mark.parametrize("wrong", ["normalise", "gradients", "raises"])
def test_what_is_wrong_on_known_numbers_is_left_to_torch(
    wrong, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = step()
    name = "gradients" if wrong == "gradients" else "normalise"
    sound = getattr(by_group, name)

    def otherwise(*arguments: Any, **named: Any) -> Any:
        if wrong == "raises":
            raise RuntimeError("no such instruction")
        found = sound(*arguments, **named)
        named["out_nC"][-1, -1] += 1
        return found

    monkeypatch.setattr(by_group, name, otherwise)
    finding = by_group.compiled_code.__wrapped__()
    assert not finding.works
    line = f"training: torch's normalisation, slower (compiled normalisation: {finding.reason}; "
    assert line in caplog.text
    monkeypatch.setattr(by_group, "compiled_code", lambda: finding)
    for one, other in zip(step(), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_wrong_words_are_left_to_numpy(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = step()
    monkeypatch.setattr(numbers, "_filled", lambda seed, rows, out: out.fill(7))
    finding = numbers.compiled_numbers.__wrapped__()
    assert not finding.works
    assert "training: NumPy's random numbers, slower (compiled random numbers: its" in caplog.text
    monkeypatch.setattr(numbers, "compiled_numbers", lambda: finding)
    monkeypatch.setattr(by_group, "compiled_code", lambda: finding)  # which draws its own
    for one, other in zip(step(), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.processor
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("p", [0.0, 0.3])
@pytest.mark.parametrize(
    ("width", "threads"), [(8, 1), (301, 1), (301, 2), (512, 3)], indirect=["threads"]
)
def test_one_step_is_norm_skip_relu_and_dropout_one_by_one(dtype, p, width, threads) -> None:
    """50 songs in groups of 16, 17 and 17, against torch's own layers in float64."""
    torch.manual_seed(0)
    context = BatchContext(share=BatchShare.of(50, 16, ALONE))
    share, kind = context.share, torch.float64 if dtype == torch.float64 else torch.float32
    norm = SharedBatchNorm(width, ALONE, context).to(kind).train()
    dropout = SharedDropout(p, context).train()
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2.0)
        norm.bias.normal_()
    x, skip, slope = (torch.randn(50, width).to(dtype) for _ in range(3))
    shift = torch.randn(width, dtype=kind)
    leaves = [x, skip, shift, norm.weight, norm.bias]
    context.reseed(3)
    y = norm.rectified(
        x.requires_grad_(),
        shift_H=shift.requires_grad_(),
        skip_BH=skip.requires_grad_(),
        dropout=dropout,
    )
    found = [y, *torch.autograd.grad(y, leaves, slope), norm.running_mean, norm.running_var]

    context.reseed(3)
    kept = (dropout(torch.ones(50, width)) > 0).double() / (1 - p)
    exact = [leaf.detach().double().requires_grad_() for leaf in leaves]
    x, skip, shift, weight, bias = exact
    each = [nn.BatchNorm1d(width).double().train() for _ in share.sizes]
    parts = [
        plain(part)
        for plain, part in zip(each, share.unwoven(x + shift).split(share.sizes), strict=True)
    ]
    y = kept * torch.relu(share.woven(torch.cat(parts)) * weight + bias + skip)
    wanted = [y, *torch.autograd.grad(y, exact, slope.double())]
    moments = ("running_mean", "running_var")
    wanted += [torch.stack([getattr(plain, of) for plain in each]).mean(0) for of in moments]

    tolerance = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 0.2}[dtype]
    for one, other in zip(found, wanted, strict=True):
        close = torch.isclose(one.double(), other, rtol=tolerance, atol=tolerance)
        # Rounded to 8 bits, a few fall on the other side of a ReLU.
        assert close.double().mean() >= (0.98 if dtype == torch.bfloat16 else 1.0)


@pytest.mark.processor
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
