"""Towers on taste, trained on the device: the CPU's results."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from fusionrec.models.settings import FusionSettings, RankingSettings, Settings
from fusionrec.models.song_tower import SongInputs, TowerTraining

pytestmark = pytest.mark.gpu

SONGS, USERS, F = 120, 80, 5
TRAIN, VALIDATION = np.arange(90), np.arange(90, 120)
RANKING = RankingSettings(dimensions=6, pairs=200, negatives=30, history=5)

# A machine that has no more than PyTorch and transformers may lack it.
sparse = pytest.importorskip("scipy.sparse")


def settings(dtype: str) -> Settings:
    # Without dropout: its masks come from the device's own generator.
    return Settings(epochs=4, batch_size=40, eta=0.003, p=0.0, norm_group=16, dtype=dtype)


def songs() -> SongInputs:
    rng = np.random.default_rng(0)
    present = np.ones((SONGS, 2), bool)
    present[::7, 1] = False
    fusion = FusionSettings((8, 4), "gated", width=6, absent="learned")
    return SongInputs(rng.standard_normal((SONGS, 12)).astype(np.float32), present, fusion)


def plays() -> sparse.csr_array:
    rng = np.random.default_rng(1)
    played = rng.random((USERS, SONGS)) < 0.08
    return sparse.csr_array((played * rng.integers(1, 9, played.shape)).astype(np.float32))


def factors(rows: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, F)).astype(np.float32)


def to_factors(device: str, dtype: str) -> TowerTraining:
    from fusionrec.baselines.factor_loss import Feedback
    from fusionrec.models.to_factors import FactorTraining

    by_song = plays().T.tocsr()
    feedback = Feedback(
        factors(USERS, 2), by_song.indptr.astype(np.int64), by_song.indices, 1 + by_song.data
    )
    return FactorTraining(
        songs(),
        factors(SONGS, 3),
        train=TRAIN,
        validation=VALIDATION,
        loss="wpe",
        settings=settings(dtype),
        feedback=feedback,
        device=device,
    )


def ranking(device: str, dtype: str) -> TowerTraining:
    from fusionrec.models.ranking import RankingTraining
    from fusionrec.signals.histories import Histories

    return RankingTraining(
        songs(),
        Histories(plays()),
        factors(SONGS, 3),
        train=TRAIN,
        validation=VALIDATION,
        settings=settings(dtype),
        ranking=RANKING,
        device=device,
    )


Make = Callable[[str, str], TowerTraining]


def run(make: Make, device: str, dtype: str) -> tuple[TowerTraining, dict[str, np.ndarray]]:
    """A training to its end, and what it learned."""
    training = make(device, dtype)
    model = training.run()
    return training, {name: x.cpu().numpy() for name, x in model.tensors().items()}


@pytest.mark.parametrize("make", [to_factors, ranking])
def test_device_and_cpu_agree_in_float64(device, make) -> None:
    (one, mine), (other, theirs) = (run(make, place, "float64") for place in (device, "cpu"))
    for a, b in zip(one.curve, other.curve, strict=True):
        assert (a.loss, a.validation_loss) == pytest.approx((b.loss, b.validation_loss), rel=1e-6)
    for name, expected in theirs.items():
        np.testing.assert_allclose(mine[name], expected, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("make", [to_factors, ranking])
def test_mixed_precision_learns_what_float32_does(device, make) -> None:
    (half, _), (whole, weights) = (run(make, device, dtype) for dtype in ("bfloat16", "float32"))
    assert {x.dtype for x in weights.values()} <= {np.dtype("float32"), np.dtype("int64")}
    assert half.curve[0].loss == pytest.approx(whole.curve[0].loss, rel=0.05)
    assert half.curve[0].loss != whole.curve[0].loss
    assert half.curve[-1].loss < half.curve[0].loss
