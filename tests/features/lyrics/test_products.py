"""What is tried before linear layers are multiplied in bfloat16."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from torch.nn.functional import gelu, linear

from fusionrec.features.lyrics import products
from fusionrec.probes import Finding

pytestmark = pytest.mark.processor


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=str)
def kind(request: pytest.FixtureRequest) -> torch.dtype:
    dtype: torch.dtype = request.param
    return dtype


@pytest.mark.parametrize("prepacked", [True, False])
@pytest.mark.parametrize("activated", [True, False])
def test_a_layer_is_the_product_it_says(
    kind: torch.dtype, activated: bool, prepacked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if prepacked and not products.prepacks().works:
        pytest.skip(products.prepacks().reason)
    monkeypatch.setattr(products, "prepacks", lambda: Finding(prepacked, "as the test says"))
    torch.manual_seed(0)
    x, weight, bias = (torch.randn(s).to(kind) for s in ((7, 50), (30, 50), (30,)))
    found = products.linear_layer(weight, bias, activated=activated)(x)
    expected = linear(x.double(), weight.double(), bias.double())
    expected = gelu(expected) if activated else expected
    assert found.dtype == kind
    tolerance = 1e-5 if kind == torch.float32 else 2**-7 * float(expected.abs().max())
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("wrong", ["raises", "saturates"])
def test_prepacked_layers_that_fail_here_are_not_used(
    wrong: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def prepacked(weight: torch.Tensor, bias: torch.Tensor, activated: bool) -> Any:
        if wrong == "raises":
            raise RuntimeError("bf16 path needs the cpu support avx_ne_convert or avx512bw")
        return lambda x: linear(x, weight, bias).clamp(-20, 20)

    monkeypatch.setattr(products, "_prepacked", prepacked)
    with caplog.at_level(logging.INFO, logger="fusionrec"):
        finding = products.prepacks.__wrapped__()
    assert not finding.works
    (line,) = caplog.messages
    assert line.startswith("bfloat16 layers: plain products (prepacked weights: ")
    assert finding.reason in line


@pytest.mark.parametrize(("ratio", "pays"), [(2.2, True), (1.2, False), (0.3, False)])
def test_bfloat16_pays_where_it_is_much_quicker(
    ratio: float, pays: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "_speed_ratio", lambda device: ratio)
    finding = products.bfloat16_pays.__wrapped__("cpu")
    assert finding.works == pays
    assert f"{ratio} times as quick" in finding.reason


def test_bfloat16_that_is_wrong_never_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_fault", lambda layer_of, device: "an error of 0.3")
    finding = products.bfloat16_pays.__wrapped__("cpu")
    assert finding == Finding(False, "bfloat16 products fail here: an error of 0.3")
    assert not products.bfloat16_pays("meta").works


def test_the_trial_of_speed_measures() -> None:
    ratio = products._speed_ratio(torch.device("cpu"))
    assert 0.001 < ratio < 1000
