"""An encoder actor on the device that dies is replaced, and the device with it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

if TYPE_CHECKING:
    from pipelines.runtime.stream import Arrays

pytestmark = pytest.mark.gpu

ray = pytest.importorskip("ray", reason="Ray is not installed")


@dataclass(frozen=True)
class Encoded:
    number: int
    process: int


def numbered(number: int) -> Arrays:
    return {"number": pa.array([number], pa.int64())}


def encoder_that_dies_once(
    folder: str, place: str, device: str
) -> Callable[[Iterator[Arrays]], Iterator[Arrays]]:
    """A worker that is killed in the middle of the third item, the first time."""
    from fusionrec.features.lyrics.encoder import load_encoder

    encoder = load_encoder(folder, device=device)

    def encode(items: Iterator[Arrays]) -> Iterator[Arrays]:
        for item in items:
            number = item["number"][0].as_py()
            encoder.encode([f"w{number}:1", "w1:2"])
            killed = Path(place) / "killed"
            if number == 2 and not killed.exists():
                killed.write_text(str(os.getpid()))
                os.kill(os.getpid(), signal.SIGKILL)
            yield {"number": item["number"], "process": pa.array([os.getpid()], pa.int64())}

    return encode


def told(number: int, arrays: Arrays) -> Encoded:
    return Encoded(arrays["number"][0].as_py(), arrays["process"][0].as_py())


def test_an_actor_that_dies_is_replaced(folder, device, ray_session, tmp_path, monkeypatch) -> None:
    """One actor, as on one GPU, so that no other one can take what it left."""
    from pipelines.runtime import resources, stream

    if device == "cuda" and not resources.gpus():
        pytest.fail("PyTorch sees a GPU, and Ray does not")
    if device == "cpu":
        monkeypatch.setattr(resources, "cpus", lambda: 1)
    reports, _ = stream.stream(
        None,
        [[number] for number in range(6)],
        stream.Source("name", numbered, {"number": pa.int64()}),
        stream.Pool(
            "encode",
            encoder_that_dies_once,
            (str(folder), str(tmp_path), device),
            {"number": pa.int64(), "process": pa.int64()},
            num_gpus=1.0 if device == "cuda" else 0.0,
        ),
        stream.Sink("tell", told),
        description="encoding",
    )
    assert [report.number for report in reports] == list(range(6))
    # Items that came before the third one may be of the actor that died.
    assert reports[2].process != int((tmp_path / "killed").read_text())
