"""Compiled code ranks alike on every processor, and is found out where it does not."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusionrec.ranking import kernel, on_cpu
from fusionrec.ranking.topk import rank_users
from tests.ranking.problems import large


def test_another_processor_gives_the_same_lists(tmp_path: Path) -> None:
    V, F, exclude, relevant = large(60, 4000, 12, seed=7)
    here = rank_users(V, F, 200, exclude=exclude, relevant=relevant)
    np.savez(
        tmp_path / "problem.npz",
        V=V,
        F=F,
        **{f"e{n}": x for n, x in vars(exclude).items()},
        **{f"r{n}": x for n, x in vars(relevant).items()},
    )
    code = """
import sys, numpy as np
from fusionrec.ranking.protocols import SongLists
from fusionrec.ranking.topk import rank_users
from fusionrec.ranking.vector_code import LANES
p = np.load(sys.argv[1])
exclude, relevant = (SongLists(p[n + "indptr"], p[n + "songs"], p[n + "plays"]) for n in "er")
found = rank_users(p["V"], p["F"], 200, exclude=exclude, relevant=relevant)
np.savez(sys.argv[2], lanes=LANES, **vars(found))
"""
    # A processor of 2013 with fused multiply-adds, or any one at all without.
    generic = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    environment = {**os.environ, **generic, "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", code, str(tmp_path / "problem.npz"), str(tmp_path / "out.npz")]
    subprocess.run(command, env=environment, check=True)
    found = np.load(tmp_path / "out.npz")
    assert found["lanes"] == 8
    for name in ("indices", "scores", "ranks", "rank_songs", "counts", "candidates"):
        assert np.array_equal(found[name], getattr(here, name), equal_nan=name == "scores"), name


@pytest.mark.parametrize("wrong", ["raises", "loses a song", "rounds otherwise"])
def test_compiled_code_that_is_wrong_here_is_found_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, wrong: str
) -> None:
    rank_group = kernel.rank_group

    def otherwise(*arguments: Any) -> tuple[int, int, int]:
        if wrong == "raises":
            raise RuntimeError("LLVM ERROR: Cannot select: intrinsic")
        found = rank_group(*arguments)
        indices, listed = arguments[16], arguments[17]
        if wrong == "loses a song":
            indices[-1, 7:-1] = indices[-1, 8:].copy()
        else:
            listed[0, 3] = np.nextafter(listed[0, 3], np.float32(0))
        return found

    monkeypatch.setattr(kernel, "rank_group", otherwise)
    finding = on_cpu.compiled_code.__wrapped__()
    assert not finding.works
    assert finding.reason in caplog.text
    assert "ranking: NumPy" in caplog.text


@pytest.mark.processor
def test_compiled_code_works_here(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="fusionrec"):
        assert on_cpu.compiled_code.__wrapped__().works
    assert "ranking: compiled code (right on known numbers; " in caplog.text
