"""However the tests are run, one process has all that take Ray, and no other test starts one."""

import os
import subprocess
import sys
from pathlib import Path

CONFTEST = """
import os
import pytest
from tests import conftest
from tests.conftest import (
    _ray_where_taken,
    pytest_collection_modifyitems,
    pytest_configure_node,
    pytest_xdist_make_scheduler,
)

def pytest_configure(config):
    conftest.importlib.util.find_spec = lambda name: None  # this Ray has no warnings
    conftest.pytest_configure(config)

@pytest.fixture(scope="session")
def ray_session():
    with open("processes", "a") as file:
        file.write(f"{os.getpid()}\\n")
"""

RAY = """
started = False
def init():
    global started
    started = True
def is_initialized():
    return started
def shutdown():
    global started
    started = False
"""

ACCIDENT = """
def test_one():
    import ray
    ray.init()
"""


def run(folder: Path, *arguments: str) -> str:
    path = os.pathsep.join([str(folder), str(Path(__file__).parents[1])])
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", *arguments]
    environment = {name: of for name, of in os.environ.items() if not name.startswith("PYTEST_")}
    found = subprocess.run(
        command, cwd=folder, env={**environment, "PYTHONPATH": path}, capture_output=True, text=True
    )
    return found.stdout + found.stderr


def test_of_several_processes_one_has_ray(tmp_path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    for number in range(4):
        (tmp_path / f"test_{number}.py").write_text("def test(ray_session): pass\n")
    assert "4 passed" in run(tmp_path, "-n", "2")
    assert len((tmp_path / "processes").read_text().splitlines()) == 1


def test_a_ray_that_is_imported_by_the_test_itself_is_seen(tmp_path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "ray.py").write_text(RAY)
    (tmp_path / "test_accident.py").write_text(ACCIDENT)
    told = run(tmp_path)
    assert "1 error" in told
    assert "this test starts Ray: let it take the fixture ray_session" in told
