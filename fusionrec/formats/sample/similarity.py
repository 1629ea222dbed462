"""Which artists of the sample corpus are similar: lists by rank that follow the genre mixtures.

As in the real files, a list names artists that the corpus has no song of, too, and famous ones more
often; so lists of one genre overlap, and how often an artist is named tells of its popularity.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fusionrec.formats.sample.model import PlantedModel

LONGEST = 20
"""Artists in a list at most."""

_SIMILARITY = 102  # generator stream; those of the model and the files are smaller
_CANDIDATES = 200  # artists that a list is chosen from
_STRANGERS = 0.5  # artists without a song, for each that has one
_LEAST = 0.25  # cosine of two artists' mixtures, noise included, below which none is named
_NOISE = 0.15  # standard deviation of what is added to a cosine of mixtures
_EMPTY = 0.05  # share of artists without a list


class SimilarArtists:
    """Draws each artist's list from some candidates, the more famous the likelier.

    Parameters
    ----------
    model
        The planted truth; its seed decides everything.
    artists
        Artists with songs; as many again by half, the strangers, follow them in number.
    """

    def __init__(self, model: PlantedModel, artists: int) -> None:
        self._seed = model.seed
        rng = np.random.default_rng([self._seed, _SIMILARITY, 0, 1])
        strangers = 1 + int(_STRANGERS * artists)
        mixtures, fame = [], []
        for number in range(artists):
            artist = model.artist(number)
            mixtures.append(artist.mixture)
            fame.append(artist.popularity)
        mixtures += [model.artist_mixture(artists + number) for number in range(strangers)]
        self._directions = np.stack(mixtures)
        self._directions /= np.linalg.norm(self._directions, axis=1, keepdims=True)
        self._fame = np.cumsum([*fame, *np.minimum(rng.pareto(1.5, strangers) + 1.0, 100.0)])
        self._fame /= self._fame[-1]

    def of(self, artist: int) -> NDArray[np.int64]:
        """Numbers of the artists similar to one, the most similar first; now and then none."""
        rng = np.random.default_rng([self._seed, _SIMILARITY, artist, 2])
        if rng.random() < _EMPTY:
            return np.empty(0, np.int64)
        drawn = np.searchsorted(self._fame, rng.random(_CANDIDATES), side="right")
        others = np.unique(drawn[drawn != artist])
        likeness = self._directions[others] @ self._directions[artist]
        likeness = likeness + rng.normal(0.0, _NOISE, len(others))
        nearest = np.argsort(-likeness, kind="stable")[:LONGEST]
        named: NDArray[np.int64] = others[nearest[likeness[nearest] >= _LEAST]]
        return named
