"""Songs whose content says who plays them, as far as it goes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fusionrec.baselines.factorisation import Factors, factorise
from fusionrec.models.settings import FusionSettings
from fusionrec.models.song_tower import SongInputs
from fusionrec.signals.histories import Histories

TRAIN, VALIDATION, TEST = np.arange(90), np.arange(90, 110), np.arange(110, 150)
SONGS, USERS = 150, 200


@dataclass(frozen=True)
class Planted:
    """Songs of three parts, plays of all of them, and factors of those but the test songs'."""

    songs: SongInputs
    taste: np.ndarray
    plays: Histories
    factors: Factors

    def seen(self) -> Histories:
        """Plays without the test songs'."""
        return self.plays.without(np.arange(SONGS) >= TEST[0])

    def precision(self, F: np.ndarray, V: np.ndarray) -> float:
        """mAP over the test songs of users with a test and a training song."""
        played, known = self.plays.counts.toarray() > 0, self.seen().sizes > 0
        found = []
        for user in np.flatnonzero(played[:, TEST].any(axis=1) & known):
            hits = played[user, TEST][np.argsort(-(F @ V[user]), kind="stable")]
            found.append((np.cumsum(hits) / np.arange(1, len(hits) + 1) * hits).sum() / hits.sum())
        return float(np.mean(found))


def planted(seed: int = 0) -> Planted:
    """A corpus of four tastes."""
    rng = np.random.default_rng(seed)
    taste, of_user = rng.normal(size=(SONGS, 4)), rng.normal(size=(USERS, 4))
    x = np.hstack([taste @ rng.normal(size=(4, 8)), rng.normal(size=(SONGS, 2))])
    chance = np.exp(1.2 * of_user @ taste.T)
    played = rng.random((USERS, SONGS)) < 8 * chance / chance.sum(axis=1, keepdims=True)
    users, songs = np.nonzero(played)
    counts = rng.integers(1, 9, len(users))
    kept = songs < TEST[0]
    factors = factorise(
        users[kept],
        songs[kept],
        counts[kept],
        shape=(USERS, SONGS),
        factors=6,
        alpha=10.0,
        epsilon=1.0,
        regularisation=10.0,
        iterations=10,
        seed=0,
    )
    present = np.ones((SONGS, 2), bool)
    present[::9, 1] = False
    inputs = SongInputs(x.astype(np.float32), present, FusionSettings((8, 2)))
    return Planted(inputs, taste, Histories.of(users, songs, counts, (USERS, SONGS)), factors)
