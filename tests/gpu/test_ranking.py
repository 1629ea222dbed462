"""Ranking on the device gives the compiled kernel's lists, to the last bit."""

from __future__ import annotations

import numpy as np
import pytest

from fusionrec.ranking.protocols import SongLists
from fusionrec.ranking.topk import rank_users

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("dimensions", [6, 50])
def test_lists_scores_and_ranks_are_the_kernels(device, dimensions) -> None:
    rng = np.random.default_rng(dimensions)
    F = rng.dirichlet(np.full(dimensions, 0.3), 700).astype(np.float32)
    F[100:120] = F[100]  # ties
    V = rng.dirichlet(np.full(dimensions, 0.3), 50).astype(np.float32)
    chosen = np.sort(np.stack([rng.permutation(700)[:12] for _ in range(50)]), axis=1)
    own, out = chosen[:, ::2], chosen[:, 1::2]
    bounds = np.arange(0, 301, 6)
    plays = np.ones(300, np.int32)
    relevant, exclude = (
        SongLists(bounds, songs.astype(np.int32).ravel(), plays) for songs in (own, out)
    )
    found = rank_users(V, F, 40, exclude=exclude, relevant=relevant, device=device)
    expected = rank_users(V, F, 40, exclude=exclude, relevant=relevant)
    if device == "cpu":  # the path of other devices, on this one
        from fusionrec.ranking.on_device import rank_on_device

        rank_on_device(V, F, exclude, relevant, found, "cpu")
    for name in ("indices", "scores", "counts", "candidates", "ranks", "rank_songs"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
