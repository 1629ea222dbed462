"""Exported networks say what torch says, by onnxruntime, for any number of songs."""

import copy

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from fusionrec.models import network as networks
from fusionrec.models.as_onnx import TOLERANCE, OnnxForm, allowed, difference, to_onnx
from fusionrec.models.network import FusionNetwork
from fusionrec.models.ranking import RankingModel
from fusionrec.models.settings import FusionSettings
from fusionrec.models.song_tower import outputs
from fusionrec.models.to_factors import FactorTower
from fusionrec.models.training import predict
from fusionrec.models.user_tower import Attention

BLOCKS = (12, 5, 7)
FUSIONS = [
    FusionSettings(BLOCKS, operator, align, 9, absent)
    for operator, align, absent in [
        ("concatenate", "project", "neutral"),
        ("concatenate", "project", "learned"),
        ("add", "pad", "neutral"),
        ("multiply", "truncate", "neutral"),
        ("multiply", "pad", "neutral"),
        ("max", "project", "neutral"),
        ("min", "pad", "neutral"),
        ("mean", "pad", "learned"),
        ("mean", "truncate", "neutral"),
        ("gated", "project", "neutral"),
    ]
]


@pytest.fixture(autouse=True)
def small_layers(monkeypatch) -> None:
    """Two layers: the operators are the same in five of them, which take longer."""
    monkeypatch.setattr(networks, "HIDDEN", (16, 8))


def trained(fusion: FusionSettings | int, outputs: int = 6) -> FusionNetwork:
    """A network with moments as a training leaves them, and some dropout that must not show."""
    torch.manual_seed(3)
    network = FusionNetwork(fusion, outputs, p=0.5, modality_dropout=0.3)
    for parameter in network.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
    return network.train()  # whose mode is the export's own concern


def songs(rows: int, columns: int, blocks: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(rows)
    present = rng.random((rows, blocks)) < 0.6
    return rng.normal(size=(rows, columns)).astype(np.float32), present


def run(content: bytes, x: np.ndarray, present: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(content)
    names = [each.name for each in session.get_inputs()]
    found: list[np.ndarray] = session.run(None, dict(zip(names, (x, present), strict=False)))
    return found


class Several(OnnxForm):
    """Networks of the same inputs in one export, most of whose time does not depend on its size."""

    def __init__(self, forms: list[OnnxForm]) -> None:
        super().__init__(forms[0].network)
        self.forms = nn.ModuleList(forms)
        self.outputs = tuple(f"{n}_{name}" for n, form in enumerate(forms) for name in form.outputs)

    def forward(self, features: torch.Tensor, present: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(each for form in self.forms for each in form(features, present))


def test_classes_by_any_operator() -> None:
    trainings = [trained(fusion) for fusion in FUSIONS]
    content = to_onnx(Several([OnnxForm.of(network) for network in trainings]))
    onnx.checker.check_model(content, full_check=True)
    for rows in (1, 2, 37):
        x, present = songs(rows, sum(BLOCKS), len(BLOCKS))
        present[0] = False  # none at all
        found = run(content, x, present)
        for number, network in enumerate(trainings):
            mine = found[2 * number : 2 * number + 2]
            for each, expected in zip(mine, predict(network, x, present), strict=True):
                name = str(FUSIONS[number])
                np.testing.assert_allclose(each, expected, rtol=1e-5, atol=1e-5, err_msg=name)
                assert len(each) == rows


def test_classes_of_several_blocks() -> None:
    network = trained(FusionSettings(BLOCKS, "max"))
    form = OnnxForm.of(network)
    content = to_onnx(form)
    graph = onnx.load_from_string(content).graph
    assert [each.name for each in graph.input] == ["features", "present"]
    assert [each.name for each in graph.output] == ["probabilities", "hidden"]
    x, present = songs(1, 24, 3)
    for each, expected in zip(run(content, x, present), predict(network, x, present), strict=True):
        np.testing.assert_allclose(each, expected, rtol=1e-5, atol=1e-5)


def test_one_block_needs_no_flags() -> None:
    network = trained(20)
    form = OnnxForm.of(network)
    content = to_onnx(form)
    assert form.inputs == ("features",)
    assert [each.name for each in onnx.load_from_string(content).graph.input] == ["features"]
    for rows in (1, 23):
        x, _ = songs(rows, 20, 1)
        found = run(content, x, np.ones((rows, 1), bool))
        for each, expected in zip(found, predict(network, x), strict=True):
            np.testing.assert_allclose(each, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("loss", "blocks"), [("mse", (24,)), ("cosine", BLOCKS)])
def test_factors(loss, blocks) -> None:
    tower = FactorTower(trained(FusionSettings(blocks)).eval(), 0.037, loss)
    content = to_onnx(OnnxForm.of(tower))
    for rows in (1, 23):
        x, present = songs(rows, 24, len(blocks))
        present |= len(blocks) == 1
        (vector,) = run(content, x, present)
        np.testing.assert_allclose(vector, tower.predict(x, present), rtol=1e-5, atol=1e-5)


def test_content_of_two_towers() -> None:
    network = trained(FusionSettings(BLOCKS, "gated"))
    model = RankingModel(network, nn.Linear(4, 6, bias=False), Attention(5), 1.0)
    content = to_onnx(OnnxForm.of(model))
    x, present = songs(19, 24, 3)
    (vector,) = run(content, x, present)
    np.testing.assert_allclose(vector, model.content(x, present), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(model.content(x, present), outputs(network, x, present))


def test_the_check_sees_another_network() -> None:
    network, x = trained(20), songs(9, 20, 1)[0]
    form = OnnxForm.of(network)
    content, flags = to_onnx(form), np.ones((9, 1), bool)
    assert difference(content, form, x, flags) < TOLERANCE
    assert b".py" not in content  # nor any path of this machine
    assert b"site-packages" not in content
    with torch.no_grad():
        network.output.weight[0] += 0.01
    assert difference(content, form, x, flags) > 10 * TOLERANCE


def test_rounding_is_no_difference() -> None:
    """With large weights float32 differs by more than the tolerance; another weight by far more."""
    network, x = trained(20), songs(500, 20, 1)[0]
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1:
                parameter *= 4
    form = OnnxForm.of(network)
    content, flags = to_onnx(form), np.ones((500, 1), bool)
    exact = copy.deepcopy(network).double().eval()
    with torch.inference_mode():
        hidden = exact.embedding(torch.from_numpy(x).double(), torch.from_numpy(flags))
        wide = torch.softmax(exact.output(hidden), 1).numpy()
    rounding = np.abs(predict(network, x)[0] - wide).max()
    assert rounding > TOLERANCE
    most = allowed(form, x, flags)
    assert 8 * rounding <= most < 0.01
    assert difference(content, form, x, flags) <= most
    with torch.no_grad():
        network.output.weight[0] *= 1.01
    assert difference(content, form, x, flags) > allowed(form, x, flags)
