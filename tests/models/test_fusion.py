"""The operators against their definitions, written out song by song."""

import numpy as np
import pytest
import torch

from fusionrec.models.batch import BatchShare
from fusionrec.models.fusion import Fusion
from fusionrec.models.network import FusionNetwork
from fusionrec.models.settings import FusionSettings

BLOCKS = (3, 5, 2)
OPERATORS = ("concatenate", "add", "multiply", "max", "min", "mean", "gated")
REDUCE = {"add": np.sum, "multiply": np.prod, "max": np.max, "min": np.min, "mean": np.mean}


def songs(count: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, sum(BLOCKS), generator=generator)
    present = torch.rand(count, len(BLOCKS), generator=generator) < 0.6
    present[:, 1] |= ~present.any(dim=1)
    present[0] = True
    return x, present


def by_hand(operator: str, width: int, parts: list[np.ndarray]) -> np.ndarray:
    """The operator over the modalities that have each coordinate; 0 (or 1) where none has."""
    out = np.full(width, 1.0 if operator == "multiply" else 0.0)
    for column in range(width):
        values = [part[column] for part in parts if column < len(part)]
        if values:
            out[column] = REDUCE[operator](values)
    return out


@pytest.mark.parametrize("operator", REDUCE)
@pytest.mark.parametrize(("align", "width"), [("pad", 5), ("truncate", 2), ("project", 4)])
def test_operators_reduce_over_the_modalities_a_song_has(operator, align, width) -> None:
    x, present = songs()
    fusion = Fusion(FusionSettings(BLOCKS, operator, align, width=4))
    assert fusion.out_features == width
    fused = fusion(x, present).detach().numpy()
    for song in range(len(x)):
        parts = []
        for m, part in enumerate(torch.split(x[song], BLOCKS)):
            if present[song, m]:
                aligned = fusion.project[m](part) if fusion.project else part[:width]
                parts.append(aligned.detach().numpy())
        np.testing.assert_allclose(
            fused[song], by_hand(operator, width, parts), rtol=1e-5, atol=1e-6
        )


def test_concatenation_is_the_features_with_zeros_for_what_is_absent() -> None:
    x, present = songs()
    fused = Fusion(FusionSettings(BLOCKS))(x, present)
    mask = present.repeat_interleave(torch.tensor(BLOCKS), dim=1)
    torch.testing.assert_close(fused, x * mask)
    torch.testing.assert_close(fused[0], x[0])


def test_the_gate_is_a_mean_with_a_weight_a_modality_and_song() -> None:
    x, present = songs()
    fusion = Fusion(FusionSettings(BLOCKS, "gated", width=4))
    fused = fusion(x, present)
    for song in range(len(x)):
        parts = torch.split(x[song], BLOCKS)
        here = [m for m in range(len(BLOCKS)) if present[song, m]]
        weights = torch.cat([fusion.gate[m](parts[m]) for m in here]).softmax(0)
        expected = sum(w * fusion.project[m](parts[m]) for w, m in zip(weights, here, strict=True))
        torch.testing.assert_close(fused[song], expected)


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("align", ["pad", "truncate", "project"])
def test_what_stands_in_an_absent_modalitys_columns_is_ignored(operator, align) -> None:
    x, present = songs()
    noise = torch.where(present.repeat_interleave(torch.tensor(BLOCKS), dim=1), x, 1e3)
    fusion = Fusion(FusionSettings(BLOCKS, operator, align))
    torch.testing.assert_close(fusion(noise, present), fusion(x, present))


@pytest.mark.parametrize("operator", OPERATORS)
def test_a_learned_vector_stands_for_an_absent_modality_and_learns(operator) -> None:
    x, present = songs()
    present[:, 2] = torch.arange(len(x)) % 2 == 0
    network = FusionNetwork(FusionSettings(BLOCKS, operator, absent="learned"), classes=3, p=0.0)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(3):
        optimiser.zero_grad()
        network.context.share = BatchShare(len(x), 0, len(x))
        loss = torch.nn.functional.cross_entropy(network(x, present), torch.arange(6) % 3)
        loss.backward()
        optimiser.step()
    learned = network.fusion.absent[2].detach()
    assert float(learned.abs().max()) > 0
    # The song without it is now fused as one that has that very vector.
    filled = x.clone()
    filled[1, -2:] = learned
    everything = present.clone()
    everything[1, 2] = True
    torch.testing.assert_close(network.fusion(x, present)[1], network.fusion(filled, everything)[1])


def test_a_network_is_made_again_from_its_description() -> None:
    network = FusionNetwork(FusionSettings(BLOCKS, "gated", "pad", absent="learned"), 3, 0.2)
    again = FusionNetwork.from_description(network.description())
    again.load_state_dict(network.state_dict())
    x, present = songs()
    torch.testing.assert_close(
        again.song_vectors(x, present)[0], network.song_vectors(x, present)[0], rtol=0, atol=0
    )
