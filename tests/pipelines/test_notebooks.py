"""The notebooks run, cell by cell, on a finished workspace."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


def cells(notebook: Path) -> list[dict[str, Any]]:
    content = json.loads(notebook.read_text())
    assert content["nbformat"] == 4
    found: list[dict[str, Any]] = content["cells"]
    return found


def code(notebook: Path) -> list[str]:
    return ["".join(c["source"]) for c in cells(notebook) if c["cell_type"] == "code"]


def test_there_are_some() -> None:
    assert [notebook.name for notebook in NOTEBOOKS] == ["recommender.ipynb"]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_without_ray(undisturbed, tmp_path, notebook) -> None:
    """In plain Python, which has what a notebook's kernel has of the language."""
    checks = "import sys\nassert not [m for m in sys.modules if m.split('.')[0] == 'ray']\n"
    script = tmp_path / "notebook.py"
    script.write_text("\n\n".join([*code(notebook), checks]))
    done = subprocess.run(
        [sys.executable, script],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "FUSIONREC_WORKSPACE": str(undisturbed),
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "for having heard:" in done.stdout
    assert "mine-2 is number" in done.stdout
    assert "1 song ids are not in" in done.stderr


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_kept_without_what_it_printed(notebook) -> None:
    for cell in cells(notebook):
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
