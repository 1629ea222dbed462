"""An encoder actor on the device that dies is replaced, and the device with it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.gpu

ray = pytest.importorskip("ray", reason="Ray is not installed")


def encoder_that_dies_once(
    folder: str, place: str, device: str
) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A worker that is killed in the middle of the third shard, the first time."""
    from fusionrec.features.lyrics.encoder import load_encoder

    encoder = load_encoder(folder, device=device)

    def encode(shard: dict[str, Any]) -> dict[str, Any]:
        vectors = encoder.encode([f"w{shard['number']}:1", "w1:2"])
        killed = Path(place) / "killed"
        if shard["number"] == 2 and not killed.exists():
            killed.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
        return {"number": shard["number"], "sum": float(vectors.sum()), "process": os.getpid()}

    return encode


def test_an_actor_that_dies_is_replaced(folder, device, ray_session, tmp_path) -> None:
    from pipelines.runtime import resources, sharding

    if device == "cuda" and not resources.gpus():
        pytest.fail("PyTorch sees a GPU, and Ray does not")
    reports = sharding.map_shards(
        None,
        encoder_that_dies_once,
        [{"number": i} for i in range(6)],
        description="encoding",
        actor_arguments=(str(folder), str(tmp_path), device),
        num_gpus=1.0 if device == "cuda" else 0.0,
    )
    assert [report["number"] for report in reports] == list(range(6))
    killed = int((tmp_path / "killed").read_text())
    assert killed not in {report["process"] for report in reports if report["number"] >= 2}
