"""The notebooks run, cell by cell, one of them on a finished workspace."""

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


def run(name: str, place: Path, *without: str, **environment: str) -> subprocess.CompletedProcess:
    """Run a notebook in plain Python, which has what a notebook's kernel has of the language.

    At its end, none of the packages `without` is there.
    """
    there = f"[m for m in sys.modules if m.split('.')[0] in {without}]"
    script = place / "notebook.py"
    notebook = ROOT / "examples" / name
    script.write_text("\n\n".join([*code(notebook), f"import sys\nassert not {there}, {there}\n"]))
    done = subprocess.run(
        [sys.executable, script],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(place), **environment},
        cwd=place,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


def test_there_are_some() -> None:
    assert [notebook.name for notebook in NOTEBOOKS] == ["method.ipynb", "recommender.ipynb"]


def test_a_finished_workspace_is_asked_without_ray(undisturbed, tmp_path) -> None:
    done = run("recommender.ipynb", tmp_path, "ray", FUSIONREC_WORKSPACE=str(undisturbed))
    assert "for having heard:" in done.stdout
    assert "mine-2 is number" in done.stdout
    assert "1 song ids are not in" in done.stderr


@pytest.mark.slow
def test_the_method_runs_alone(tmp_path) -> None:
    """What it ends with is better than chance, and nothing of the pipeline is there."""
    done = run("method.ipynb", tmp_path, "ray", "pipelines", OMP_NUM_THREADS="1")
    (found,) = [line.split() for line in done.stdout.splitlines() if line.startswith("mAP@500")]
    assert float(found[1].rstrip(",")) > float(found[3])
    assert "songs a class" in done.stdout
    assert "test accuracy" in done.stdout


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_kept_without_what_it_printed(notebook) -> None:
    for cell in cells(notebook):
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
