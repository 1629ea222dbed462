"""The same results at every level of the instruction set, and without compiled code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.processors import levels
from tests.processors.results import results, write_inputs

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]

WITHOUT_COMPILER = "no compiled code"
ELSEWHERE = [*levels.LEVELS, WITHOUT_COMPILER]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    write_inputs(folder)
    return folder


@pytest.fixture(scope="module")
def here(inputs: Path) -> dict[str, np.ndarray]:
    return results(inputs)


def environment(level: str) -> dict[str, str]:
    if level == WITHOUT_COMPILER:
        return {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    if level not in levels.available():
        pytest.skip(f"this processor is below {level}, or no x86-64")
    return {**os.environ, **levels.forced(level)}


@pytest.fixture(scope="module", params=ELSEWHERE)
def there(
    request: pytest.FixtureRequest, inputs: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, dict[str, np.ndarray], str]:
    """A level, what is computed there, and the log."""
    out = tmp_path_factory.mktemp("results") / "out.npz"
    done = subprocess.run(
        [sys.executable, "-m", "tests.processors.results", str(inputs), str(out)],
        env=environment(request.param),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with np.load(out) as loaded:
        return request.param, dict(loaded), done.stderr


Results = tuple[str, dict[str, np.ndarray], str]


def test_lists_and_ranks_are_the_same_to_the_last_bit(
    here: dict[str, np.ndarray], there: Results
) -> None:
    names = [name for name in here if name.startswith("ranking")]
    assert len(names) == 7
    for name in names:
        np.testing.assert_array_equal(there[1][name], here[name], err_msg=name)


def test_hdf5_files_are_read_alike(here: dict[str, np.ndarray], there: Results) -> None:
    for name in ("reader songs", "reader segments"):
        assert str(there[1][name]) == str(here[name])
    assert here["read directly"] > 40
    expected = 0 if there[0] == WITHOUT_COMPILER else here["read directly"]
    assert there[1]["read directly"] == expected


def test_vectors_agree(here: dict[str, np.ndarray], there: Results) -> None:
    """Float32 to 1e-5; a bfloat16 vector's cosine to float32 is at least .999, wherever it is."""
    for pooling in ("cls", "mean"):
        exact = here[f"float32 {pooling}"]
        np.testing.assert_allclose(there[1][f"float32 {pooling}"], exact, atol=1e-5)
        for found in (here, there[1]):
            half = found[f"bfloat16 {pooling}"]
            norms = np.linalg.norm(half, axis=1) * np.linalg.norm(exact, axis=1)
            assert ((half * exact).sum(1) / norms).min() > 0.999


def test_what_is_used_is_what_works_and_is_in_the_log(there: Results) -> None:
    level, found, log = there
    works = json.loads(str(found["works"]))
    assert works["ranking"] == (level != WITHOUT_COMPILER)
    if level in ("sse4.2", "avx2"):
        assert not works["prepacked"]  # oneDNN wants AVX-512 for it
        assert not works["bfloat16"]
    if level == "avx512":
        assert works["prepacked"]
    ranked = "compiled code (right" if works["ranking"] else "NumPy, hundreds of times slower (comp"
    assert log.count(f"ranking: {ranked}") == 1
    packed = "prepacked weights (right" if works["prepacked"] else "plain products (prepacked"
    assert log.count(f"bfloat16 layers: {packed}") == 1
    assert log.count("HDF5 files: libdeflate (right") == 1
    read = "compiled code (right" if works["ranking"] else "libhdf5, some twenty times slower (comp"
    assert log.count(f"HDF5 files: {read}") == 1


@pytest.mark.parametrize("level", ["avx2", "avx512"])
def test_the_tests_that_depend_on_the_processor_pass(level: str) -> None:
    folders = ("ranking", "formats/hdf5", "features", "models")
    command = [sys.executable, "-m", "pytest", "-q", "-m", "processor"]
    done = subprocess.run(
        [*command, *(f"tests/{folder}" for folder in folders)],
        env=environment(level),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]
