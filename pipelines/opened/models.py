"""The trained model of a workspace, loaded again."""

from __future__ import annotations

from typing import Any

from safetensors.torch import load as load_safetensors
from torch import Tensor

from fusionrec.models.network import FusionNetwork
from fusionrec.models.ranking import RankingModel
from fusionrec.models.to_factors import FactorTower
from pipelines.runtime.workspace import Workspace

WEIGHTS = ("model", "weights.safetensors")
DESCRIPTION = ("model", "config.json")


def _read(workspace: Workspace) -> tuple[dict[str, Any], dict[str, Tensor]]:
    description: dict[str, Any] = workspace.read_json("train", *DESCRIPTION)
    return description, load_safetensors(workspace.read_bytes("train", *WEIGHTS))


def load_network(workspace: Workspace) -> FusionNetwork:
    """What learned classes, in evaluation mode."""
    description, tensors = _read(workspace)
    network = FusionNetwork.from_description(description["network"])
    network.load_state_dict(tensors)
    return network.eval()


def load_factor_tower(workspace: Workspace) -> FactorTower:
    """What learned factors."""
    description, tensors = _read(workspace)
    return FactorTower.load(description["model"], tensors)


def load_ranking_model(workspace: Workspace) -> RankingModel:
    """What learned to rank."""
    description, tensors = _read(workspace)
    return RankingModel.load(description["model"], tensors)
