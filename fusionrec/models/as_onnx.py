"""The trained networks as ONNX, for systems that have no torch.

What is exported is the network in evaluation mode, of which every layer is torch's own: what
training does by compiled code or with other workers has no part in it. Needs the packages `onnx`
and `onnxscript` (the extra `export`), which are imported when they are first used.

Shapes: n songs, D fused features, M blocks of them, K classes, d dimensions.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fusionrec.models.network import FusionNetwork
from fusionrec.models.ranking import RankingModel
from fusionrec.models.to_factors import FactorTower

OPSET = 20
"""Of the operators that are used: onnxruntime has it from version 1.17 on."""

TOLERANCE = 1e-5
"""By how much an output may differ from torch's, as a share of it where it is larger than 1."""

ROUNDINGS = 8
"""Or by so many times what torch's own float32 makes it differ from float64, where that is more.

Sound files of networks with large weights differ by up to twice as much.
"""

_SHORTEST = 1e-12


class OnnxForm(nn.Module):
    """What of a trained model is exported: arrays of songs to arrays of songs.

    Attributes
    ----------
    network
        In evaluation mode, on the CPU.
    inputs
        `features`, float32 (n, D); and where the features are of several blocks, `present`, bool
        (n, M): which of them each song has.
    outputs
        Of a network that learned classes `probabilities`, float32 (n, K), and `hidden`, (n, 512);
        of one that learned taste `vector`, float32 (n, d), what it makes of a song's content.
    """

    outputs: tuple[str, ...] = ("vector",)

    def __init__(self, network: FusionNetwork) -> None:
        super().__init__()
        self.network = network.eval()
        blocks = network.fusion.settings.blocks
        self.features, self.blocks = sum(blocks), len(blocks)
        self.inputs = ("features", "present")[: 1 if self.blocks == 1 else 2]

    @staticmethod
    def of(model: FusionNetwork | FactorTower | RankingModel) -> OnnxForm:
        """Of any model that is trained."""
        if isinstance(model, FactorTower):
            return _Factors(model)
        if isinstance(model, RankingModel):
            return _Content(model.network)
        return _Classes(model)

    def forward(self, features: Tensor, present: Tensor | None = None) -> Any:
        """The outputs, by what the network says."""
        raise NotImplementedError

    def _present(self, features: Tensor, present: Tensor | None) -> Tensor:
        # Not by the length, which would be fixed in the export.
        return torch.ones_like(features[:, :1], dtype=torch.bool) if present is None else present


class _Classes(OnnxForm):
    outputs = ("probabilities", "hidden")

    def forward(self, features: Tensor, present: Tensor | None = None) -> tuple[Tensor, Tensor]:
        hidden = self.network.embedding(features, self._present(features, present))
        return torch.softmax(self.network.output(hidden), dim=1), hidden


class _Content(OnnxForm):
    def forward(self, features: Tensor, present: Tensor | None = None) -> Tensor:
        vector: Tensor = self.network(features, self._present(features, present))
        return vector


class _Factors(_Content):
    """As :meth:`FactorTower.predict` has them."""

    def __init__(self, tower: FactorTower) -> None:
        super().__init__(tower.network)
        self.scale, self.unit = float(np.float32(tower.scale)), tower.loss == "cosine"

    def forward(self, features: Tensor, present: Tensor | None = None) -> Tensor:
        y = super().forward(features, present)
        if not self.unit:
            return y * self.scale
        return y / y.square().sum(dim=1, keepdim=True).sqrt().clamp(min=_SHORTEST)


def to_onnx(form: OnnxForm) -> bytes:
    """The content of an ONNX file, for any number of songs.

    Raises
    ------
    ImportError
        `onnx` or `onnxscript` is not installed.
    """
    import onnxscript  # noqa: F401  (torch's own message would be a longer one)

    # Two songs: of one, the exporter would take the number to be fixed.
    example = (torch.zeros(2, form.features), torch.ones(2, form.blocks, dtype=torch.bool))
    songs = torch.export.Dim("songs")
    with _quiet():
        program = torch.onnx.export(
            form,
            example[: len(form.inputs)],
            input_names=form.inputs,
            output_names=form.outputs,
            dynamic_shapes=tuple({0: songs} for _ in form.inputs),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    # Where in torch's and this project's files on this machine an operator comes from.
    for entry in (*proto.graph.node, *proto.graph.value_info, *proto.graph.initializer):
        del entry.metadata_props[:]
        entry.doc_string = ""
    for entry in (*proto.graph.input, *proto.graph.output, proto.graph):
        del entry.metadata_props[:]
    return bytes(proto.SerializeToString())


def difference(
    content: bytes, form: OnnxForm, x: NDArray[np.float32], present: NDArray[np.bool_]
) -> float:
    """By how much the file's outputs differ from torch's at most, by ONNX's reference evaluator.

    Differences of values larger than 1 are shares of them.

    Parameters
    ----------
    content
        Of :func:`to_onnx`.
    x, present
        Songs' features, shape (n, D), and their blocks, (n, M).
    """
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(content)
    given = dict(zip(form.inputs, (x, present), strict=False))
    found = evaluator.run(list(form.outputs), given)
    return _largest(found, _by_torch(form, x, present))


def allowed(form: OnnxForm, x: NDArray[np.float32], present: NDArray[np.bool_]) -> float:
    """The largest :func:`difference` of a file that says what the network does, for these songs.

    :data:`TOLERANCE`, or :data:`ROUNDINGS` times what rounding to float32 makes of torch's own
    outputs: with large weights it is more.
    """
    exact = _by_torch(copy.deepcopy(form).double(), x.astype(np.float64), present)
    return max(TOLERANCE, ROUNDINGS * _largest(_by_torch(form, x, present), exact))


def _by_torch(
    form: OnnxForm, x: NDArray[np.floating[Any]], present: NDArray[np.bool_]
) -> list[NDArray[np.floating[Any]]]:
    with torch.inference_mode():
        found = form(*(torch.from_numpy(array) for array in (x, present)[: len(form.inputs)]))
    return [each.numpy() for each in (found if isinstance(found, tuple) else (found,))]


def _largest(
    found: list[NDArray[np.floating[Any]]], expected: list[NDArray[np.floating[Any]]]
) -> float:
    return max(
        float((np.abs(f - e) / np.maximum(1.0, np.abs(e))).max(initial=0.0))
        for f, e in zip(found, expected, strict=True)
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks on its own operators and on torchvision."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
