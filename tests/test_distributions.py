"""The wheel and the source distribution: what is in them, and that an installed one works."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest

from fusionrec import __version__
from tests.pipelines.conftest import SETTINGS

ROOT = Path(__file__).parents[1]
NAME = f"fusionrec-{__version__}"
LEFT_OUT = (".*", "__pycache__", "build", "dist", "demo", "site", "workspace", "*.egg-info")

pytestmark = pytest.mark.slow


def built(hook: str, source: Path, out: Path) -> Path:
    """What setuptools, which pyproject.toml names, makes of a source tree; no network is needed."""
    out.mkdir(exist_ok=True)
    script = f"import sys; from setuptools import build_meta; build_meta.{hook}(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", script, out], cwd=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (found,) = out.iterdir()
    return found


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy of the source tree, without what git and CI alone read, and what is made in it."""
    place = tmp_path_factory.mktemp("source") / "tree"
    shutil.copytree(ROOT, place, ignore=shutil.ignore_patterns(*LEFT_OUT))
    for name in (".dockerignore", ".pre-commit-config.yaml"):
        shutil.copy(ROOT / name, place / name)
    return place


@pytest.fixture(scope="module")
def sdist(source, tmp_path_factory) -> Path:
    return built("build_sdist", source, tmp_path_factory.mktemp("sdist") / "out")


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory) -> Path:
    return built("build_wheel", source, tmp_path_factory.mktemp("wheel") / "out")


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        return message_from_bytes(archive.read(f"{NAME}.dist-info/METADATA"))


def content(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_a_wheel_has_the_two_packages_and_their_data(source, wheel) -> None:
    expected = {
        path.relative_to(source).as_posix()
        for package in ("fusionrec", "pipelines")
        for path in (source / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {"pipelines/configs/sample.yaml", "fusionrec/py.typed", "pipelines/py.typed"} < expected
    about = f"{NAME}.dist-info/"
    assert {name for name in content(wheel) if not name.startswith(about)} == expected
    assert f"{about}licenses/LICENSE" in content(wheel)


def test_what_it_says_of_itself(wheel) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert wheel.name == f"{NAME}-py3-none-any.whl"
    found = metadata(wheel)
    assert found["Version"] == project["version"] == __version__
    assert found["Summary"] == project["description"]
    assert found["License-Expression"] == "Apache-2.0"
    assert found["License-File"] == "LICENSE"
    assert found["Description-Content-Type"] == "text/markdown"
    assert found.get_payload(decode=True) == (ROOT / "README.md").read_bytes()
    assert set(found.get_all("Provides-Extra", [])) == set(project["optional-dependencies"])
    assert sum("extra ==" not in need for need in found.get_all("Requires-Dist", [])) == len(
        project["dependencies"]
    )
    points = content(wheel)[f"{NAME}.dist-info/entry_points.txt"].decode()
    assert points.split() == ["[console_scripts]", "fusionrec", "=", "pipelines.cli.main:main"]


def test_a_source_distribution_has_all_and_makes_the_same_wheel(
    source, sdist, wheel, tmp_path
) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    there = {path.relative_to(tmp_path / NAME) for path in (tmp_path / NAME).rglob("*")}
    tree = {path.relative_to(source) for path in source.rglob("*") if path.is_file()}
    # What building leaves in the tree.
    generated = {path for path in tree if "egg-info" in str(path) or path.parts[0] == "build"}
    assert tree - generated - there == set()
    again = built("build_wheel", tmp_path / NAME, tmp_path / "out")
    assert content(again) == content(wheel)


def test_installed_it_runs_elsewhere(wheel, tmp_path) -> None:
    """In an environment that has it from the wheel alone, and the tests' other packages."""
    environment, elsewhere = tmp_path / "env", tmp_path / "elsewhere"
    elsewhere.mkdir()
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / "bin" / "python"
    (own,) = environment.glob("lib/*/site-packages")
    # A path that such a file names is not looked through for further ones, so that an installation
    # of the tree for editing is none here.
    others = [path for path in sys.path if path.endswith("site-packages")]
    (own / "others.pth").write_text("\n".join(others) + "\n")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-index", "--ignore-installed", wheel], check=True)
    given = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(*command: object) -> str:
        done = subprocess.run(
            [*map(str, command)],
            cwd=elsewhere,
            env=given,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = run(python, "-c", "import fusionrec, pipelines; print(fusionrec.__file__, pipelines)")
    assert where.count(str(own)) == 2
    fusionrec = environment / "bin" / "fusionrec"
    assert run(fusionrec, "version") == f"{__version__}\n"
    run(fusionrec, "sample", "--songs", 60, "--users", 40, "--out", "corpus")
    settings = {name: value for name, value in SETTINGS.items() if "lyrics" not in name}
    settings |= {"source.root": "corpus", "workspace": "w", "embed.modalities": "[metadata]"}
    settings |= {"train.epochs": 3, "label.k": 3}
    run(
        *(fusionrec, "run", "--json"),
        *(part for item in settings.items() for part in ("--set", "{}={}".format(*item))),
    )
    told = json.loads(run(fusionrec, "status", "evaluate", "--json", "--workspace", "w"))
    assert told["counts"]["users"] > 20
    assert 0 < told["counts"]["map"] <= 1
