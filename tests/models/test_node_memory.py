"""Memory that workers share: what comes out of it, and what becomes of one that waits in vain."""

import os
import signal
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from fusionrec.errors import StageError
from fusionrec.models import checkpoint, node_memory
from fusionrec.models.collective import Collective
from fusionrec.models.shared_optimiser import SharedOptimiser
from fusionrec.models.training import Training
from tests import processes
from tests.models.test_training import DOUBLE, blobs, feed


def _exchanged(group: Collective, store: str) -> dict[str, object]:
    memory = group.memory
    assert memory is not None
    files = len(os.listdir("/proc/self/fd"))
    found = {}
    # Numbers whose sum is another in any other order; further exchanges overwrite the first.
    for n in (1, 1000, 100_000, 3):
        x = torch.full((n, 2), (1.0, 1e8, -1e8)[group.rank])
        found[n] = group.gather(x), group.sum(x)
    found["nothing"] = group.gather(torch.zeros(0, 4)).shape
    found["scalar"] = group.sum(torch.tensor(group.rank + 1))
    rows = [0, 2, 5, 5][group.rank : group.rank + 2]  # the last has none
    mine = torch.arange(*rows, dtype=torch.float64)[:, None].requires_grad_()
    whole = group.whole(mine, rows[0], 5)
    (whole[:, 0] * torch.arange(5) * (group.rank + 1)).sum().backward()
    found["whole"], found["gradient"] = whole.detach(), mine.grad
    found["files"] = len(os.listdir("/proc/self/fd")) - files
    maps = Path("/proc/self/maps").read_text().splitlines()
    found["names"] = {line.split(maxsplit=5)[5] for line in maps if ":fusionrec" in line}
    return found


def _resumed(group: Collective, store: str) -> bytes:
    """Two epochs from the state that another number of workers has saved."""
    training = Training(feed(blobs(), DOUBLE, group), DOUBLE, collective=group)
    training.restore(Path(store, "saved").read_bytes())
    for _ in range(2):
        training.run_epoch()
    return training.save()


def _bereft(group: Collective, store: str) -> tuple[str, float]:
    memory = group.memory
    assert memory is not None
    memory.barrier()
    if group.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    begun = time.monotonic()
    with pytest.raises(StageError) as caught:
        memory.barrier()
    return str(caught.value), time.monotonic() - begun


def _stalled(group: Collective, store: str) -> str:
    memory = group.memory
    assert memory is not None
    memory.seconds = 60.0
    memory.barrier()
    if group.rank == 1:
        memory.fail()
        while not Path(store, "noticed").exists():  # it lives on
            time.sleep(0.01)
        return ""
    with pytest.raises(StageError) as caught:
        memory.barrier()
    Path(store, "noticed").touch()
    return str(caught.value)


def _impatient(group: Collective, store: str) -> str:
    memory = group.memory
    assert memory is not None
    memory.seconds = 0.0
    if group.rank == 1:
        Path(store, "waits").touch()
        while not Path(store, "waited").exists():
            time.sleep(0.01)
        return ""
    with pytest.raises(StageError) as caught:
        memory.barrier()
    Path(store, "waited").touch()
    return str(caught.value)


def _elsewhere(group: Collective, store: str) -> tuple[bool, float]:
    return group.memory is None, group.sum(torch.tensor(1.0)).item()


def _without_room(group: Collective, store: str) -> str:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    memory = group.memory
    assert memory is not None
    node_memory._made = full
    with pytest.raises(StageError) as caught:
        memory.region(1 << 20)
    return str(caught.value)


def _of_several_steps(group: Collective, store: str) -> str:
    memory = group.memory
    assert memory is not None
    optimiser = SharedOptimiser(
        torch.nn.Linear(2, 1), torch.optim.Adam, memory, eta=0.1, weight_decay=0
    )
    with pytest.raises(StageError) as caught:
        optimiser.restore({"0.step": torch.tensor(3.0), "1.step": torch.tensor(2.0)})
    return str(caught.value)


def _worker(rank: int, world: int, store: str, work, out) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{store}/store", rank=rank, world_size=world
    )
    if work is _elsewhere and rank == world - 1:
        node_memory._found = lambda *_: None
    out.put((rank, work(Collective.joined(rank, world), store)))
    time.sleep(0.2)  # gloo's threads of others still read


def together(world: int, folder: Path, work, results: int | None = None) -> dict[int, object]:
    """What each worker, or so many, say."""
    context = processes.context()
    out = context.Queue()
    workers = [
        context.Process(target=_worker, args=(rank, world, str(folder), work, out))
        for rank in range(world)
    ]
    for worker in workers:
        worker.start()
    found = dict(out.get(timeout=120) for _ in range(world if results is None else results))
    for worker in workers:
        worker.join()
    return found


def test_every_worker_gets_the_same_in_the_order_of_ranks(tmp_path) -> None:
    found = together(3, tmp_path, _exchanged)
    for each in found.values():
        for n in (1, 1000, 100_000, 3):
            parts = [torch.full((n, 2), x) for x in (1.0, 1e8, -1e8)]
            gathered, summed = each[n]
            assert torch.equal(gathered, torch.stack(parts))
            # 1 + 1e8 is 1e8 in float32.
            assert torch.equal(summed, torch.zeros(n, 2))
        assert each["nothing"] == (3, 0, 4)
        assert each["scalar"] == 6
        assert each["whole"][:, 0].tolist() == [0, 1, 2, 3, 4]
        # The memory of smaller exchanges is gone, and what there is has no name to be left behind.
        assert each["files"] == 1
        assert each["names"] == {"/memfd:fusionrec (deleted)"}
    # Each of three losses weighs row i by i times its rank and 1.
    gradients = [found[rank]["gradient"][:, 0].tolist() for rank in range(3)]
    assert gradients == [[0, 6], [12, 18, 24], []]


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 3), (2, 1)])
def test_a_checkpoint_is_gone_on_with_by_any_number_of_workers(tmp_path, before, after) -> None:
    """The weights and Adam's moments after 4 epochs are those of one worker, to 1e-6."""
    whole = Training(feed(blobs(), DOUBLE), DOUBLE)
    (tmp_path / "saved").write_bytes(whole.save())
    if before == 1:
        halfway = _resumed(Collective(), str(tmp_path))
    else:
        halfway = together(before, tmp_path, _resumed)[0]
        (tmp_path / "store").unlink(missing_ok=True)
    (tmp_path / "saved").write_bytes(halfway)
    if after == 1:
        saved = {0: _resumed(Collective(), str(tmp_path))}
    else:
        saved = together(after, tmp_path, _resumed)
    for _ in range(4):
        whole.run_epoch()
    expected, _ = checkpoint.unpack(whole.save())
    for content in saved.values():
        found, state = checkpoint.unpack(content)
        assert state["epoch"] == 4
        assert found.keys() == expected.keys()
        for name, x in expected.items():
            torch.testing.assert_close(found[name], x, rtol=0, atol=1e-6, msg=name)


def test_a_worker_that_ends_is_noticed_by_those_who_wait(tmp_path) -> None:
    found = together(3, tmp_path, _bereft, results=2)
    assert sorted(found) == [0, 2]
    # The one whose turn it is to be waited for first may have given up itself.
    assert any("worker 1 has ended" in said for said, _ in found.values())
    assert all("has ended" in said for said, _ in found.values())


def test_a_worker_that_fails_is_noticed_while_its_process_lives(tmp_path) -> None:
    said = together(2, tmp_path, _stalled)
    assert said == {0: "train: worker 1 has failed; worker 0 waited for it", 1: ""}


def test_a_worker_waits_for_so_long_and_says_for_whom(tmp_path) -> None:
    said = together(2, tmp_path, _impatient)[0]
    assert "0 has waited 0 s for worker 1" in said


def test_workers_that_do_not_see_the_memory_use_the_process_group(tmp_path) -> None:
    assert together(3, tmp_path, _elsewhere) == dict.fromkeys(range(3), (True, 3.0))


def test_memory_that_worker_0_cannot_make_is_told_as_that(tmp_path) -> None:
    said = together(2, tmp_path, _without_room)
    assert "No space left" in said[0]
    assert said[1] == "train: 1 MB cannot be shared by workers: worker 0 has made none"


def test_weights_of_different_steps_are_refused(tmp_path) -> None:
    for said in together(2, tmp_path, _of_several_steps).values():
        assert said.startswith("train: the checkpoint has weights of 2, 3 steps; ")
