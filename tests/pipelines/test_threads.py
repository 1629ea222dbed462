"""How many cores a worker of a training takes."""

import pytest
import ray
import torch

from fusionrec.errors import ConfigError
from fusionrec.models.training import fit, predict
from pipelines import train
from pipelines.config import TrainConfig
from pipelines.runtime import distributed, resources
from pipelines.train import stage
from pipelines.train.threads import share, threads_of
from tests.models.test_training import DOUBLE, blobs, feed
from tests.pipelines.conftest import BEFORE_TRAIN, copied
from tests.pipelines.inline import load, without_ray


@pytest.mark.parametrize(
    ("cpus", "workers", "most", "spare", "each"),
    [
        ([2], 1, 16, 0, 2),
        ([2], 2, 16, 0, 1),
        ([16], 1, 64, 0, 16),
        ([16], 1, 4, 0, 4),  # a batch has no more work
        ([16], 3, 64, 0, 5),
        ([16, 16], 3, 64, 0, 8),  # two of them on one node
        ([16, 16, 2], 3, 64, 0, 8),
        ([4], 8, 64, 0, 1),  # does not fit: refused by name elsewhere
        ([4], 1, 64, 1, 3),  # beside Ray Data
        ([2], 2, 64, 1, 1),
        ([0], 1, 64, 0, 1),  # a head whose autoscaler has not begun
    ],
)
def test_workers_share_the_cores_of_their_nodes(cpus, workers, most, spare, each) -> None:
    assert share(cpus, workers, most, spare=spare) == each


def test_a_thread_has_some_songs_of_a_batch(monkeypatch) -> None:
    nodes = [{"Alive": True, "Resources": {"CPU": 32.0}}, {"Alive": False, "Resources": {}}]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    found = {
        name: threads_of(
            TrainConfig(**{"threads": None, **options}),
            num_gpus=options.get("num_gpus", 0.0),
            custom={},
        )
        for name, options in {
            "batch of 256": {},
            "as it is": {"threads": 1},
            "large": {"batch_size": 4096},
            "two": {"batch_size": 1024, "workers": 2},
            "small": {"batch_size": 32},
            "told": {"threads": 3, "num_gpus": 1},
            "gpu": {"num_gpus": 1, "batch_size": 4096},
            "plays": {"objective": "ranking", "batch_size": 64},
        }.items()
    }
    assert found == {
        "batch of 256": 4, "as it is": 1, "large": 32, "two": 8, "small": 1,
        "told": 3, "gpu": 1, "plays": 16,
    }  # fmt: skip


def test_threads_are_of_the_nodes_on_which_the_workers_may_run(monkeypatch) -> None:
    nodes = [
        {"Alive": True, "Resources": {"CPU": 32.0, "near": 0.5}},
        {"Alive": True, "Resources": {"CPU": 4.0, "near": 1.0}},
    ]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    wide = TrainConfig(threads=None, batch_size=4096)
    found = [
        threads_of(wide, num_gpus=0, custom=custom)
        for custom in ({}, {"near": 0.1}, {"near": 1.0}, {"far": 1.0})
    ]
    assert found == [32, 32, 4, 1]


REFUSE = resources.refuse


@pytest.mark.parametrize("threads", [3, 4])
def test_streamed_features_need_a_core_beside_the_threads(
    small, undisturbed, tmp_path, monkeypatch, threads
) -> None:
    """On 4 cores; where there is none, before anything is written to be streamed."""
    place = copied(undisturbed, tmp_path / "w", *BEFORE_TRAIN)
    chosen = load(small, place, train__threads=threads, train__in_memory_mb=0, train__eta=0.01)

    class WrittenError(Exception):
        pass

    def write(*_: object) -> None:
        raise WrittenError

    with without_ray(), monkeypatch.context() as patched:
        patched.setattr(resources, "refuse", REFUSE)
        patched.setattr(resources, "_autoscaled", lambda name: 0.0)
        for look in ("_resource", "_largest"):
            patched.setattr(resources, look, lambda name: {"CPU": 4.0}.get(name, 0.0))
        patched.setattr(stage, "write_examples", write)
        message = r"train: asks for 5 CPU \(train.workers and train.threads\), .* has 4"
        with pytest.raises(WrittenError if threads == 3 else ConfigError) as ended:
            train.STAGE.run(chosen)
    assert threads == 3 or ended.match(message)


def test_ray_is_asked_for_a_cpu_a_thread(ray_session) -> None:
    demand = distributed.demand("train", 2, threads=64)
    assert demand.bundles == ({"CPU": 64.0},) * 2
    with pytest.raises(ConfigError, match=r"asks for 128 CPU \(train.workers and train.threads\)"):
        resources.refuse("train", demand)


def test_the_number_of_threads_is_rounding_only() -> None:
    """The same losses to 1e-6 and F(s) to 1e-5 in double precision, as of more workers."""
    found = []
    before = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            network, curve = fit(feed(blobs(), DOUBLE), DOUBLE)
            found.append(([row.loss for row in curve], predict(network, blobs().test.x)[0]))
    finally:
        torch.set_num_threads(before)
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-6)
    assert found[0][1] == pytest.approx(found[1][1], abs=1e-5)
