"""What is installed where."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]


def test_a_cluster_job_gets_what_the_package_depends_on() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.split(r"[\[<>=]", item)[0] for item in project["dependencies"]}
    environment = yaml.safe_load((ROOT / "cluster" / "runtime-env.yaml").read_text())
    # A cluster has Ray, and NumPy with it.
    assert {item.split("==")[0] for item in environment["pip"]["packages"]} == names - {
        "ray",
        "numpy",
    }


def test_a_cluster_job_gets_the_versions_that_the_tests_saw() -> None:
    tested = (ROOT / "constraints.txt").read_text().splitlines()
    environment = yaml.safe_load((ROOT / "cluster" / "runtime-env.yaml").read_text())
    assert [item for item in environment["pip"]["packages"] if item not in tested] == []


@pytest.mark.parametrize("extra", ["", "serve"])
def test_what_a_run_imports_is_among_its_own_packages(extra) -> None:
    """Not only among those of the tests, which `make demo` does not install.

    What serves has packages of its own, which nothing else imports. Those of the extra `export` are
    imported by functions, when they are needed.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = [*project["dependencies"], *project["optional-dependencies"].get(extra, [])]
    wanted = {Requirement(item).name for item in listed}
    installed, waiting = set(), list(wanted)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in installed:
            continue
        installed.add(name)
        extras = {
            each
            for r in map(Requirement, listed)
            if canonicalize_name(r.name) == name
            for each in r.extras
        }
        for line in requires(name) or []:
            need = Requirement(line)
            if need.marker is None or any(
                need.marker.evaluate({"extra": extra}) for extra in ("", *extras)
            ):
                waiting.append(need.name)
    distributions = packages_distributions()
    exporting = {
        canonicalize_name(Requirement(item).name)
        for item in project["optional-dependencies"]["export"]
    }
    serving = set((ROOT / "pipelines" / "serve").rglob("*.py"))
    assert serving
    imported, later = set(), set()
    for path in {*(ROOT / "fusionrec").rglob("*.py"), *(ROOT / "pipelines").rglob("*.py")}:
        if path in serving and extra != "serve":
            continue
        tree = ast.parse(path.read_text())
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        inside = {id(node) for function in functions for node in ast.walk(function)}
        for node in ast.walk(tree):
            found = later if id(node) in inside else imported
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.split(".")[0])
    ours = sys.stdlib_module_names | {"fusionrec", "pipelines", "_typeshed"}
    assert {"ray", "torch", "aiohttp"} <= imported
    assert {"faiss", "onnx", "onnxscript"} <= later
    absent = {
        name
        for names, there in ((imported, installed), (later, installed | exporting))
        for name in names - ours
        if not there & {canonicalize_name(d) for d in distributions.get(name, [])}
    }
    assert not absent


RUN, TESTS = "--editable .", "--editable .[dev]"


@pytest.mark.parametrize(
    ("goal", "there", "installs"),
    [
        ("demo", (), [RUN]),
        ("compare", (), [RUN]),
        ("unit", (), [RUN, TESTS]),
        ("slow", (), [RUN, TESTS]),
        ("lint", (), [RUN, TESTS]),
        ("types", (), [RUN, TESTS]),
        # What is there is not installed again, whichever was first.
        ("unit", (".installed",), [TESTS]),
        ("demo", (".installed", ".installed-dev"), []),
        ("unit", (".installed", ".installed-dev"), []),
    ],
)
def test_the_tests_packages_are_installed_for_tests_only(tmp_path, goal, there, installs) -> None:
    if shutil.which("make") is None:
        pytest.skip("there is no make")
    later = (ROOT / "pyproject.toml").stat().st_mtime + 1e6
    for number, stamp in enumerate(there):
        (tmp_path / stamp).touch()
        os.utime(tmp_path / stamp, (later + number, later + number))
    done = subprocess.run(
        ["make", "--dry-run", goal, f"VENV={tmp_path}", f"DEMO={tmp_path / 'demo'}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line.replace("'", "") for line in done.stdout.splitlines() if "pip install" in line]
    assert [line[line.index("--editable") :] for line in lines] == installs


PYTHON = """#!/bin/sh
# Stands for Python in an environment: says what it was told, and is of a build for CUDA or not.
echo "$@" >> "$LOG"
case "$*" in
  *"-m venv"*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
  *torch.version.cuda*) exit "${NO_CUDA:-0}" ;;
esac
"""

SEES = {"a GPU": "echo 'GPU 0: NVIDIA'", "no GPU": "echo No devices; exit 6"}


@pytest.fixture
def make_gpu(tmp_path: Path) -> Callable[..., tuple[int, list[str]]]:
    """Runs `make gpu` with a driver that sees something, or without one."""
    if shutil.which("make") is None:
        pytest.skip("there is no make")
    place = tmp_path / "bin"
    place.mkdir()

    def executable(name: str, text: str) -> None:
        (place / name).write_text(text)
        (place / name).chmod(0o755)

    executable("python", PYTHON)

    def run(driver: str | None, *words: str, **environment: str) -> tuple[int, list[str]]:
        if driver:
            executable("nvidia-smi", f"#!/bin/sh\n{SEES[driver]}\n")
        log = tmp_path / "log"
        log.write_text("")
        done = subprocess.run(
            ["make", "gpu", f"VENV={tmp_path / 'env'}", f"PYTHON={place / 'python'}", *words],
            cwd=ROOT,
            env={"PATH": f"{place}:/usr/bin:/bin", "LOG": str(log), **environment},
            capture_output=True,
            check=False,
        )
        return done.returncode, log.read_text().splitlines()

    return run


def test_a_gpu_gets_an_environment_with_cuda(make_gpu, tmp_path) -> None:
    status, told = make_gpu("a GPU")
    assert status == 0
    assert told[-1] == "benchmarks/gpu.py --device cuda --minutes 10"
    assert not (tmp_path / "env").exists()
    constraints = (tmp_path / "env-gpu" / "constraints.txt").read_text().splitlines()
    theirs = (ROOT / "constraints.txt").read_text().splitlines()
    changed = [mine for mine in constraints if mine not in theirs]
    assert len(constraints) == len(theirs)
    assert [re.sub(r"\d.*", "", line) for line in changed] == ["torch==="]
    (install,) = [line for line in told if "pip install" in line]
    assert str(tmp_path / "env-gpu" / "constraints.txt") in install
    # Once it is there, nothing is installed again.
    assert make_gpu("a GPU") == (0, ["benchmarks/gpu.py --device cuda --minutes 10"])


def test_a_build_without_cuda_is_not_measured_on_a_gpu(make_gpu, tmp_path) -> None:
    status, told = make_gpu("a GPU", NO_CUDA="1")
    assert status != 0
    assert not any("benchmarks" in line for line in told)
    assert not (tmp_path / "env-gpu" / ".installed").exists()


@pytest.mark.parametrize(
    ("driver", "device"), [("a GPU", "cpu"), ("no GPU", "auto"), (None, "auto"), (None, "cpu")]
)
def test_elsewhere_the_usual_environment_is_used(make_gpu, tmp_path, driver, device) -> None:
    status, told = make_gpu(driver, f"DEVICE={device}", "MINUTES=3")
    assert status == 0
    assert told[-1] == f"benchmarks/gpu.py --device {device} --minutes 3"
    assert not (tmp_path / "env-gpu").exists()
    assert any("--constraint constraints.txt --editable .[dev]" in line for line in told)
