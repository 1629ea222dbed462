"""One Ray for all tests that need one."""

import os

import pytest


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
