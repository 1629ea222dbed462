"""An encoder actor on the device that dies is replaced, and the device with it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.gpu

ray = pytest.importorskip("ray", reason="Ray is not installed")


@dataclass(frozen=True)
class Encoded:
    number: int
    process: int


def encoder_that_dies_once(folder: str, place: str, device: str) -> Callable[[int], Encoded]:
    """A worker that is killed in the middle of the third shard, the first time."""
    from fusionrec.features.lyrics.encoder import load_encoder

    encoder = load_encoder(folder, device=device)

    def encode(number: int) -> Encoded:
        encoder.encode([f"w{number}:1", "w1:2"])
        killed = Path(place) / "killed"
        if number == 2 and not killed.exists():
            killed.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
        return Encoded(number, os.getpid())

    return encode


def test_an_actor_that_dies_is_replaced(folder, device, ray_session, tmp_path) -> None:
    from pipelines.runtime import resources, sharding

    if device == "cuda" and not resources.gpus():
        pytest.fail("PyTorch sees a GPU, and Ray does not")
    reports = sharding.map_in_actors(
        None,
        encoder_that_dies_once,
        (str(folder), str(tmp_path), device),
        range(6),
        description="encoding",
        num_gpus=1.0 if device == "cuda" else 0.0,
    )
    assert [report.number for report in reports] == list(range(6))
    killed = int((tmp_path / "killed").read_text())
    assert killed not in {report.process for report in reports if report.number >= 2}
