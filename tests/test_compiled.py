"""What numba keeps on disk is not used once a source of it has changed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

INNER = """
import llvmlite.ir as ir
from numba import types
from numba.extending import intrinsic

@intrinsic
def constant(typing):
    return types.int64(), lambda context, builder, signature, args: ir.Constant(ir.IntType(64), {})
"""
KERNEL = """
from fusionrec.compiled import compiled
from inner import constant

@compiled
def inner_function():
    return constant()

@compiled
def outer():
    return inner_function()
"""
CALL = """
import kernel
print(kernel.outer(), sum(kernel.outer.stats.cache_hits.values()), kernel.outer.stats.cache_path)
"""


def call(folder: Path, **environment: str) -> tuple[int, bool, str]:
    """What the function returns, whether it came from the cache, and where that is.

    No bytecode is written: Python takes a module of the same size and time for unchanged.
    """
    environment = {"PYTHONDONTWRITEBYTECODE": "1", **environment}
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.append({str(folder)!r})\n{CALL}"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    value, hits, place = done.stdout.split()
    return int(value), int(hits) > 0, place


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "inner.py").write_text(INNER.format(1))
    (tmp_path / "kernel.py").write_text(KERNEL)
    return tmp_path


def test_a_changed_inner_module_is_noticed(folder: Path) -> None:
    assert call(folder)[:2] == (1, False)
    assert call(folder)[:2] == (1, True)
    before = (folder / "inner.py").stat()
    (folder / "inner.py").write_text(INNER.format(2))
    os.utime(folder / "inner.py", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert call(folder)[:2] == (2, False)
    assert call(folder)[:2] == (2, True)


def test_where_nothing_can_be_written_it_is_kept_in_the_temporary_folder(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """No folder can be made where a file stands, not even by root."""
    (folder / "__pycache__").write_text("")
    temporary = tmp_path_factory.mktemp("temporary")
    nowhere = {"HOME": "/dev/null", "XDG_CACHE_HOME": "/dev/null/cache"}
    value, _, place = call(folder, TMPDIR=str(temporary), **nowhere)
    assert value == 1
    assert Path(place).is_relative_to(temporary)
    assert list(Path(place).glob("*.nbc"))
    named = tmp_path_factory.mktemp("named")
    assert Path(call(folder, NUMBA_CACHE_DIR=str(named), **nowhere)[2]).is_relative_to(named)
