"""Towers in training on several workers: what one worker learns, whatever their number."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from fusionrec.models.collective import Collective
from fusionrec.models.settings import LossName, RankingSettings, Settings
from fusionrec.models.to_factors import FactorTraining
from tests import processes
from tests.models import test_dlrm, test_ranking, test_to_factors
from tests.models.planted import USERS, Planted, planted

WORLD = 2
FACTORS: tuple[LossName, ...] = ("mse", "wpe", "cosine")
RANKING = RankingSettings(dimensions=12, pairs=500, negatives=40, history=6, cold=0.5)


@dataclass(frozen=True)
class Learned:
    """Losses by epoch, training's and validation's, and what is said of songs and of users."""

    losses: list[tuple[float, float]]
    songs: np.ndarray
    users: np.ndarray


def settings(norm_group: int | None) -> Settings:
    return Settings(
        epochs=3,
        batch_size=40,
        eta=0.003,
        p=0.2,
        # Groups are cut, and modalities left out, of the global batch.
        modality_dropout=0.0 if norm_group is None else 0.4,
        norm_group=norm_group,
        # Rounding that Adam amplifies stays far below any real difference.
        dtype="float64",
        seed=2,
    )


def factors(data: Planted, loss: LossName, norm_group: int | None, group: Collective) -> Learned:
    training: FactorTraining = test_to_factors.training(
        data, loss, settings(norm_group), collective=group
    )
    songs = training.run().predict(data.songs.x, data.songs.present)
    losses = [(row.loss, row.validation_loss) for row in training.curve]
    return Learned(losses, songs, data.factors.users)


def ranking(data: Planted, norm_group: int | None, group: Collective) -> Learned:
    training = test_ranking.training(data, settings(norm_group), RANKING, collective=group)
    said = test_ranking.said_by(training.run(), data)
    losses = [(row.loss, row.validation_loss) for row in training.curve]
    return Learned(losses, said.warm, said.users)


def dlrm(data: Planted, group: Collective) -> Learned:
    training = test_dlrm.training(data, data.plays, settings(None), collective=group)
    model = training.run()
    losses = [(row.loss, row.validation_loss) for row in training.curve]
    users = model.users(data.seen().counts, np.arange(USERS))
    return Learned(losses, model.warm, users)


def everything(data: Planted, group: Collective) -> dict[str, Learned]:
    """90 songs in batches of 40 leave one of 10; the last batch of plays is of a few."""
    torch.set_num_threads(1)
    found = {}
    for norm_group in (None, 16):
        for loss in FACTORS:
            found[f"{loss}, {norm_group}"] = factors(data, loss, norm_group, group)
        found[f"ranking, {norm_group}"] = ranking(data, norm_group, group)
    found["dlrm"] = dlrm(data, group)
    return found


def _worker(rank: int, store: str, data: Planted, out: mp.Queue) -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=WORLD)
    groups = Collective(rank, WORLD), Collective.joined(rank, WORLD)
    assert groups[1].memory is not None
    found = [everything(data, group) for group in groups]
    if rank == WORLD - 1:
        out.put(found)
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def learned(tmp_path_factory) -> list[Mapping[str, Learned]]:
    """By one worker, by two through a process group, and by two that share memory."""
    data = planted()
    context = processes.context()
    out, store = context.Queue(), str(tmp_path_factory.mktemp("workers") / "store")
    workers = [
        context.Process(target=_worker, args=(rank, store, data, out)) for rank in range(WORLD)
    ]
    for worker in workers:
        worker.start()
    alone = everything(data, Collective())
    together = out.get(timeout=240)
    for worker in workers:
        worker.join()
    return [alone, *together]


@pytest.mark.parametrize(
    "name",
    [*(f"{name}, {group}" for name in (*FACTORS, "ranking") for group in (None, 16)), "dlrm"],
)
def test_two_workers_learn_what_one_does(learned, name) -> None:
    one, *others = (by[name] for by in learned)
    for two in others:
        np.testing.assert_allclose(two.losses, one.losses, atol=1e-6)
        np.testing.assert_allclose(two.songs, one.songs, atol=1e-5)
        np.testing.assert_allclose(two.users, one.users, atol=1e-5)
    # Between two songs the difference is of another order.
    assert np.abs(one.songs - np.roll(one.songs, 1, axis=0)).mean() > 1e-3
