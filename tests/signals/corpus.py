"""A small corpus with a planted truth: four tastes, which songs' terms and artists tell."""

from __future__ import annotations

from functools import cache

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_array

from fusionrec.signals.histories import Histories
from fusionrec.signals.inner import kept_with
from fusionrec.signals.settings import BlendSettings
from fusionrec.signals.signal import By, Fold
from fusionrec.signals.songs import Songs

ARTISTS, USERS, OWN, OTHERS, TASTES = 24, 300, 96, 24, 4
SETTINGS = BlendSettings(landmarks=200, factors=8, iterations=4, users=200, others=50, tune=False)


def make(seed: int = 0) -> tuple[Songs, Histories]:
    """Songs of artists of one taste each, and users who mostly play songs of their own taste."""
    generator = np.random.default_rng(seed)
    n = OWN + OTHERS
    artist = generator.integers(0, ARTISTS, n)
    taste = artist % TASTES
    similar = [
        [f"A{b}" for b in generator.permutation(ARTISTS) if b % TASTES == a % TASTES and b != a]
        for a in range(ARTISTS)
    ]
    terms = [
        [f"taste {taste[s]}", f"artist's {artist[s] % 7}", f"any {generator.integers(3)}"]
        for s in range(n)
    ]
    table = pa.table(
        {
            "song_id": [f"S{s}" for s in range(n)],
            "artist_id": [f"A{a}" for a in artist],
            "artist_name": [f"The {'Band' if a % 3 else 'Duo'} {a}" for a in artist],
            "title": [f"song number {s}" for s in range(n)],
            "release": [f"release {s % 2}" for s in range(n)],
            "year": pa.array([1960 + int(t) * 10 + s % 5 for s, t in enumerate(taste)], pa.int32()),
            "terms": terms,
            "term_weights": [[1.0, 0.5, 0.25]] * n,
            "mbtags": [t[:1] if s % 2 else [] for s, t in enumerate(terms)],
            "mbtag_counts": [[3] if s % 2 else [] for s in range(n)],
            "similar_artists": [similar[a] for a in artist],
            "artist_hotttnesss": pa.array(generator.random(ARTISTS)[artist], pa.float32()),
            "artist_familiarity": pa.array(generator.random(ARTISTS)[artist], pa.float32()),
            "song_hotttnesss": pa.array(generator.random(n), pa.float32()),
        }
    )
    audio = (generator.normal(size=(n, 6)) + taste[:, None]).astype(np.float32)
    audio[OWN:] = 0
    lyrics = generator.poisson(0.4 + (np.arange(12) % TASTES == taste[:, None]), (n, 12))
    lyrics[::3] = 0
    words = generator.normal(size=(n, 5)).astype(np.float32)
    songs = Songs(
        table, OWN, csr_array(lyrics.astype(np.float32)), {"audio": audio, "lyrics": words}
    )
    likes = generator.integers(0, TASTES, USERS)
    fame = generator.gamma(1.0, size=n)
    chance = fame * np.where(likes[:, None] == taste, 0.25, 0.02)
    plays = generator.poisson(3, (USERS, n)) + 1
    plays[generator.random((USERS, n)) >= chance] = 0
    return songs, Histories(csr_array(plays.astype(np.float32)))


@cache
def corpus(seed: int = 0) -> tuple[Songs, Histories]:
    """The same corpus for every test."""
    return make(seed)


def cold(by: By = "song", seed: int = 0) -> np.ndarray:
    """Hidden songs of an outer fold: some tenth of the songs or artists."""
    songs, _ = corpus(seed)
    test = np.zeros(len(songs), bool)
    if by == "song":
        test[:OWN:8] = True
    else:
        test[:OWN] = songs.artists[:OWN] % 6 == 1
    return kept_with(songs, test, by)


def fold(by: By = "song", seed: int = 0, settings: BlendSettings = SETTINGS) -> Fold:
    """An outer fold."""
    songs, histories = corpus(seed)
    return Fold(songs, histories, cold(by, seed), by, settings, seed)
