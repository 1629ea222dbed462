"""The GPU check: its parts are kept apart, and it runs where little is installed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[2]

FIGURE = 'print(\'{"figure": "speed", "value": 2.5, "unit": "x"}\', flush=True)\n'


@pytest.fixture
def outcomes() -> Callable[..., dict[str, Any]]:
    """Runs parts, each given as the text of a program; what came of them, and what was told."""
    from gpu_parts import runner

    def of(minutes: float = 1.0, **programs: str | tuple[str, float]) -> dict[str, Any]:
        parts = []
        for name, given in programs.items():
            program, seconds = (given, 200.0) if isinstance(given, str) else given
            parts.append(runner.Part(name, (sys.executable, "-c", program, "{pace}"), seconds))
        found: dict[str, Any] = {}
        found["told"] = told = []
        runner.run(parts, minutes, say=told.append, outcomes=found)
        return found

    return of


def test_a_part_that_fails_crashes_or_hangs_does_not_end_the_others(outcomes) -> None:
    found = outcomes(
        raises=FIGURE + "raise ValueError('too bad')",
        aborts=FIGURE + "import os; os.abort()",
        hangs=(FIGURE + "import time; time.sleep(60)", 20.0),
        killed="import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
        done=FIGURE,
    )
    assert found["done"].status == "done"
    assert found["done"].why is None
    assert found["raises"].status == "failed"
    assert found["raises"].why == "exit status 1: ValueError: too bad"
    assert found["aborts"].status == "failed"
    assert found["aborts"].why.startswith("ended by SIGABRT")
    assert found["killed"].why == "ended by SIGKILL"
    assert found["hangs"].status == "out of time"
    assert found["hangs"].why == "took longer than 2 s"
    for name in ("raises", "aborts", "hangs", "done"):  # what was found is kept
        assert found[name].figures == {"speed": {"value": 2.5, "unit": "x"}}
        assert f"{name}: speed: 2.5 x" in found["told"]


def test_what_a_part_has_begun_ends_with_it(outcomes, tmp_path) -> None:
    """A grandchild, which holds the output open and does not listen to SIGTERM."""
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    begins = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {deaf!r}])
open({str(tmp_path / "pid")!r}, "w").write(str(child.pid))
"""
    for program, status in (
        (begins + FIGURE, "done"),
        (begins + "import time; time.sleep(60)", "out of time"),
    ):
        found = outcomes(part=(program, 20.0))
        assert found["part"].status == status
        child = int((tmp_path / "pid").read_text())
        for _ in range(100):
            state = Path(f"/proc/{child}/stat")
            if not state.exists() or state.read_text().rsplit(")", 1)[1].split()[0] == "Z":
                break
            time.sleep(0.05)
        else:
            pytest.fail("the grandchild lives on")


def test_the_minutes_are_for_all_parts_together(outcomes) -> None:
    pace = "import json, sys; print(json.dumps({'figure': 'pace', 'value': sys.argv[1]}))"
    found = outcomes(
        minutes=0.04,
        first=(pace, 100.0),
        second=("import time; time.sleep(60)", 10_000.0),
        third=FIGURE,
    )
    # Of 100 s in ten minutes, 0.04 minutes leave a part 0.4 s, or less by rounding up.
    assert float(found["first"].figures["pace"]["value"]) == pytest.approx(0.004, abs=1e-3)
    assert found["second"].status == "out of time"
    assert found["third"].status == "out of time"
    assert found["third"].why == "the 0.04 minutes were over"


def test_what_is_missing_is_skipped_by_name(outcomes) -> None:
    step = f"""
import sys
sys.path[:0] = [{str(ROOT / "benchmarks")!r}]
from gpu_parts.report import Report
report = Report()
print("a library prints")
with report.step("peer"):
    import no_such_library.of_ours
with report.step("figures"):
    %s
sys.exit(report.failed)
"""
    found = outcomes(
        none=step % "pass",
        some=step % "report.figure('speed', 3, 'x')",
        wrong=step % "raise KeyError('speed')",
        ours=step % "import gpu_parts.no_such_part",
    )
    assert found["none"].status == "skipped"
    assert found["none"].why == "no_such_library is not installed"
    assert found["some"].status == "done"
    assert found["some"].skipped == {"peer": "no_such_library is not installed"}
    assert found["some"].figures == {"speed": {"value": 3, "unit": "x"}}
    assert found["wrong"].status == "failed"
    assert found["wrong"].failed == {"figures": "KeyError: 'speed'"}
    assert found["ours"].failed == {"figures": "No module named 'gpu_parts.no_such_part'"}
    assert not any("a library prints" in line for line in found["told"])


def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "benchmarks/gpu.py", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": ".", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def last_line(text: str) -> dict[str, Any]:
    return json.loads(text.splitlines()[-1])


def test_a_signal_ends_it_with_its_json() -> None:
    process = start("--device", "cpu", "--only", "train,rank")
    assert process.stderr is not None
    for line in process.stderr:
        if "train: begins" in line:
            break
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    parts = last_line(out)["parts"]
    assert {name: part["status"] for name, part in parts.items()} == {
        "machine": "done",
        "train": "interrupted",
        "rank": "interrupted",
    }
    assert parts["rank"]["why"] == "SIGTERM ended the run"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_asked_for_and_not_there() -> None:
    process = start("--device", "cuda", "--only", "rank")
    out, told = process.communicate(timeout=60)
    assert process.returncode == 1
    result = last_line(out)
    assert result["device"] is None
    assert "finds no GPU" in result["parts"]["rank"]["why"]
    assert "finds no GPU" in told


def test_an_unknown_part_is_named() -> None:
    process = start("--only", "embed,trian")
    _, told = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "no part 'trian'; there are checks, embed, train, tune, rank, fit" in told


BARE = """
from importlib.machinery import PathFinder

ABSENT = {absent}
found = PathFinder.find_spec

class FindSpec:  # no function: pytest keeps it as an attribute of a class, where one would bind
    def __call__(self, name, path=None, target=None):
        return None if name.split(".")[0] in ABSENT else found(name, path, target)

PathFinder.find_spec = FindSpec()
"""

ABSENT = {
    *("ray", "pydantic", "pydantic_core", "gensim", "h5py", "sklearn", "pandas", "rich"),
    *("typer", "implicit", "kneed", "matplotlib", "optuna", "deflate", "tensorboard", "hypothesis"),
    *("tensorboardX", "faiss", "tables", "ranx", "pytest_timeout", "sentence_transformers"),
}
"""What a machine may lack that has PyTorch, transformers, NumPy, numba, pyarrow and pytest."""


def run_bare(tmp_path: Path, only: str) -> dict[str, Any]:
    """The parts on a machine with little installed."""
    (tmp_path / "sitecustomize.py").write_text(BARE.format(absent=ABSENT))
    process = start("--device", "cpu", "--only", only, PYTHONPATH=f"{tmp_path}:{ROOT}")
    out, told = process.communicate(timeout=300)
    result = last_line(out)
    statuses = {name: part["status"] for name, part in result["parts"].items()}
    assert statuses == dict.fromkeys(["machine", *only.split(",")], "done"), told
    assert process.returncode == 0
    return result["parts"]


@pytest.mark.slow
def test_all_figures_on_a_bare_machine(tmp_path) -> None:
    parts = run_bare(tmp_path, "embed,train,tune,rank,fit")
    assert parts["embed"]["skipped"] == {
        "sentence-transformers": "sentence_transformers is not installed"
    }
    assert parts["tune"]["skipped"] == {"Ray": "ray is not installed"}
    assert not any(parts[name]["skipped"] for name in ("train", "rank", "fit"))
    figures = parts["embed"]["figures"]
    assert 0 < figures["share of the time the device waited"]["value"] < 1
    assert 0 < figures["stage: share of peak"]["value"] < 1.5
    assert figures["worst cosine, float32"]["value"] > 0.9999
    assert parts["tune"]["figures"]["2 at once, processes"]["value"] > 0


@pytest.mark.slow
def test_the_checks_on_a_bare_machine(tmp_path) -> None:
    checks = run_bare(tmp_path, "checks")["checks"]
    assert checks["figures"]["tests passed"]["value"] >= 19
    assert "Ray is not installed" in checks["skipped"]["test_workers.py"]


def test_the_floating_point_operations_are_those_of_the_pass() -> None:
    import roberta_shape
    import transformers
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    from fusionrec.features.lyrics.packed import PackedEncoder

    # One text of 3 tokens, H = 4, one layer before the last. That: four H x H layers and two of
    # H x 4H a token, 2 x 3 x 12 x 16 = 1,152, and 2 products of 3 x 3 x 4 pairs, 144. The last:
    # keys and values, 2 x 3 x 2 x 16 = 192, ten H x H for one token, 320, and one row of pairs, 48.
    assert roberta_shape.work(np.array([3]), 4, 2) == 1152 + 144 + 192 + 320 + 48
    model = transformers.RobertaModel(roberta_shape.config(128, 3)).eval()
    encoder = PackedEncoder(model)
    rows = [[0, *range(5, 5 + length), 2] for length in (60, 31, 31, 4)]
    # Of attention, the counter knows the plain products alone.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        encoder(rows, "cls")
    lengths = np.array([len(row) for row in rows])
    assert counter.get_total_flops() == roberta_shape.work(lengths, 128, 3)


def test_lyrics_are_as_long_as_musixmatchs() -> None:
    from gpu_parts import lyrics

    from fusionrec.features.lyrics import tfidf

    assert lyrics.lengths(100_000).mean() == pytest.approx(230, abs=1)
    bags = lyrics.bags(300)
    sizes = bags["words"].combine_chunks().value_lengths().to_numpy()
    assert sizes.mean() == pytest.approx(81, abs=10)
    statistics = tfidf.count(bags, lyrics.VOCABULARY)
    shares = statistics.document_frequency / 300
    assert shares[0] > 0.7  # the most frequent word; the corpus has it in 0.80 of its songs
    assert shares[1000:].mean() < 0.02
    assert (lyrics.bags(300)["words"].to_pylist()) == bags["words"].to_pylist()


def test_trains_as_the_config_says() -> None:
    from gpu_parts import train

    from pipelines.config import TrainConfig

    assert (TrainConfig().batch_size, TrainConfig().norm_group) == (train.BATCH, train.NORM_GROUP)
