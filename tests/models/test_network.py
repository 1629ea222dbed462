from itertools import product

import pytest
import torch
from torch import nn

from fusionrec.models.batch import BatchContext, BatchShare
from fusionrec.models.collective import Collective
from fusionrec.models.layers import ModalityDropout, SharedBatchNorm
from fusionrec.models.network import HIDDEN, FusionNetwork
from fusionrec.models.settings import Absent, FusionSettings


def expected_parameters(features: int, classes: int) -> int:
    total, before = 0, features
    for width in (256, 128, 128, 256, 512):
        total += before * width + width  # fully connected
        total += 2 * (width * width + width)  # the residual block's two layers
        total += 2 * 2 * width  # their batch normalisations
        before = width
    return total + 512 * classes + classes


def test_parameter_count_is_that_of_the_papers_figures() -> None:
    network = FusionNetwork(features=300, classes=6, p=0.5)
    assert sum(p.numel() for p in network.parameters()) == expected_parameters(300, 6)


def test_layers_are_in_the_papers_order() -> None:
    network = FusionNetwork(features=10, classes=3, p=0.2)
    widths = [layer.out_features for layer in network.hidden if isinstance(layer, nn.Linear)]
    assert tuple(widths) == HIDDEN == (256, 128, 128, 256, 512)
    kinds = [type(layer).__name__ for layer in network.hidden]
    assert kinds == ["Linear", "ReLU", "ResidualBlock"] * 5
    body = [type(layer).__name__ for layer in network.hidden[2].body]
    linear = ["Linear", "SharedBatchNorm"]
    assert body == [*linear, "ReLU", "SharedDropout", *linear]


def test_song_vectors_are_probabilities() -> None:
    network = FusionNetwork(features=10, classes=3, p=0.2)
    probabilities, hidden = network.song_vectors(torch.randn(7, 10))
    assert probabilities.shape == (7, 3)
    assert hidden.shape == (7, 512)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(7))
    none, _ = network.song_vectors(torch.empty(0, 10))
    assert none.shape == (0, 3)


def test_dropout_keeps_the_expectation_and_the_share() -> None:
    network = FusionNetwork(features=10, classes=3, p=0.25).train()
    dropout = network.hidden[2].body[3]
    network.context.share = BatchShare(2000, 0, 2000)
    out = dropout(torch.ones(2000, 50))
    assert abs(float((out == 0).float().mean()) - 0.25) < 0.01
    assert abs(float(out.mean()) - 1.0) < 0.02


def test_batch_norm_of_several_workers_equals_torchs(monkeypatch) -> None:
    """Two workers with all the rows each: the moments are torch's, and so is the gradient."""
    monkeypatch.setattr(Collective, "gather", lambda self, x: torch.stack([x, x]))
    monkeypatch.setattr(Collective, "sum", lambda self, x: 2 * x)
    norm, reference = (
        SharedBatchNorm(4, Collective(rank=0, world=2), BatchContext()),
        nn.BatchNorm1d(4),
    )
    x = torch.randn(32, 4) * 3 + 1
    mine, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    found, expected = norm.train()(mine), reference.train()(theirs)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    slope = torch.randn(32, 4)
    found.backward(slope)
    expected.backward(slope)
    torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm.weight.grad, reference.weight.grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(norm.bias.grad, reference.bias.grad, rtol=1e-4, atol=1e-4)
    # Unbiased over 64 rows instead of 32.
    bessel = torch.tensor(63 / 64 * 32 / 31)
    torch.testing.assert_close(
        (norm.running_var - 0.9) * bessel, reference.running_var - 0.9, rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(norm.running_mean, reference.running_mean, rtol=1e-4, atol=1e-5)


def test_batch_norm_by_group_is_torchs_on_each_group() -> None:
    context = BatchContext(share=BatchShare.of(50, 16, Collective()))
    assert context.share.sizes == (16, 17, 17)
    norm = SharedBatchNorm(4, Collective(), context).train()
    x = torch.randn(50, 4) * 3 + 1
    found = context.share.unwoven(norm(context.share.woven(x)))
    means, variances = [], []
    for part, out in zip(x.split((16, 17, 17)), found.split((16, 17, 17)), strict=True):
        torch.testing.assert_close(out, nn.BatchNorm1d(4).train()(part))
        means.append(part.mean(0))
        variances.append(part.var(0))
    torch.testing.assert_close(norm.running_mean, 0.1 * torch.stack(means).mean(0))
    torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * torch.stack(variances).mean(0))


def test_a_worker_without_a_group_has_no_rows() -> None:
    shares = [BatchShare.of(30, 16, Collective(rank, 3)) for rank in range(3)]
    assert [(p.start, p.stop, p.sizes) for p in shares] == [
        (0, 0, ()),
        (0, 15, (15,)),
        (15, 30, (15,)),
    ]


def dropout(rate: float, songs: int, collective: Collective | None = None) -> ModalityDropout:
    context = BatchContext(share=BatchShare.of(songs, None, collective or Collective()))
    context.generator.manual_seed(7)
    return ModalityDropout(rate, context).train()


@pytest.mark.parametrize("rate", [0.2, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("modalities", [1, 2, 3])
def test_modalities_are_left_out_as_often_as_is_asked_for_but_never_all(rate, modalities) -> None:
    """u >= rate, or u below it and the largest of all: 1 - rate + rate^m / m of m modalities."""
    songs = 40_000
    # Of three columns a song has the last ones.
    present = torch.arange(3).expand(songs, -1) >= 3 - modalities
    kept = dropout(rate, songs)(present)
    assert not (kept & ~present).any()
    assert kept.any(dim=1).all()
    expected = 1 - rate + rate**modalities / modalities
    share = kept[:, 3 - modalities :].double().mean(dim=0)
    torch.testing.assert_close(share, torch.full_like(share, expected), rtol=0, atol=0.01)
    if rate == 1.0:
        assert (kept.sum(dim=1) == 1).all()


def test_a_song_without_any_modality_gains_none() -> None:
    assert not dropout(0.5, 50)(torch.zeros(50, 3, dtype=torch.bool)).any()


def test_what_is_left_out_depends_on_the_row_in_the_global_batch() -> None:
    present = torch.rand(30, 3) > 0.2
    whole, parts = dropout(0.5, 30)(present), []
    for rank in range(3):
        layer = dropout(0.5, 30, Collective(rank, 3))
        share = layer.context.share
        parts.append(layer(present[share.start : share.stop]))
    assert (whole != present).any()
    assert torch.equal(torch.cat(parts), whole)


def test_nothing_is_left_out_nor_drawn_at_rate_0_or_in_evaluation() -> None:
    present = torch.rand(30, 3) > 0.2
    for layer in (dropout(0.0, 30), dropout(0.5, 30).eval()):
        before = layer.context.generator.get_state()
        assert layer(present) is present
        assert torch.equal(layer.context.generator.get_state(), before)


@pytest.mark.parametrize(
    ("operator", "absent"), product(["concatenate", "gated"], ["neutral", "learned"])
)
def test_a_modality_that_is_left_out_is_an_absent_one(operator, absent: Absent) -> None:
    fusion = FusionSettings((4, 3), operator, width=5, absent=absent)
    torch.manual_seed(0)
    network = FusionNetwork(fusion, 3, 0.0, modality_dropout=0.6).train()
    plain = FusionNetwork(fusion, 3, 0.0).train()
    if absent == "learned":
        with torch.no_grad():
            for learned in network.fusion.absent:
                learned.normal_()
    plain.load_state_dict(network.state_dict())
    network.context.share = plain.context.share = BatchShare(20, 0, 20)
    x, present = torch.randn(20, 7), torch.ones(20, 2, dtype=torch.bool)
    network.context.generator.manual_seed(3)
    kept = network.modality_dropout(present)
    network.context.generator.manual_seed(3)
    assert not kept.all()
    assert torch.equal(network(x, present), plain(x, kept))
    assert not torch.equal(network(x, present), plain(x, present))
