"""Users' vectors by all signals of a blend, some users at a time: no D numbers a user are held."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fusionrec.signals import taste
from fusionrec.signals.explain import Layout
from fusionrec.signals.histories import Histories
from fusionrec.signals.kernels import CHUNK
from fusionrec.signals.signal import Factors, Fold
from fusionrec.signals.strangers import Strangers


@dataclass(frozen=True)
class Users:
    """U users in D dimensions.

    Attributes
    ----------
    layout
        Of the dimensions.
    signals
        By name, in the layout's order; of their F nothing is read.
    played
        Shape (U,): users with a history. Others have in the signals of popularity the mean of
        these, and zeros elsewhere.
    popular
        Those means, float32, shape (D,); zeros elsewhere.
    """

    layout: Layout
    signals: Mapping[str, Factors]
    played: NDArray[np.bool_]
    popular: NDArray[np.float32]

    @classmethod
    def of(cls, layout: Layout, signals: Mapping[str, Factors], histories: Histories) -> Users:
        """Users of these histories."""
        played, popular = histories.sizes > 0, np.zeros(layout.width, np.float32)
        for name, place in layout.slices.items():
            if layout.kinds[name] == "popularity" and played.any():
                of_played = signals[name].vectors()[played]
                popular[place] = of_played.mean(axis=0, dtype=np.float64)
        return cls(layout, signals, played, popular)

    def __len__(self) -> int:
        return len(self.played)

    def rows(self, some: slice) -> NDArray[np.float32]:
        """Vectors of some users, float32 (users, D)."""
        parts = [factors.vectors(some) for factors in self.signals.values()]
        found = np.concatenate(parts, axis=1, dtype=np.float32)
        found[~self.played[some]] = self.popular
        return found

    def times(self, matrix: NDArray[np.float64]) -> NDArray[np.float32]:
        """All users' vectors times a matrix, (D, d): float32 (U, d)."""
        found = np.empty((len(self), matrix.shape[1]), np.float32)
        for start in range(0, len(self), CHUNK):
            some = slice(start, start + CHUNK)
            found[some] = self.rows(some) @ matrix.astype(np.float32)
        return found

    def told(self) -> NDArray[np.float32]:
        """What no history gives: float32 (U, E), in the dimensions `layout.told`."""
        columns = self.layout.told
        found = np.empty((len(self), len(columns)), np.float32)
        for start in range(0, len(self), CHUNK):
            some = slice(start, start + CHUNK)
            found[some] = self.rows(some)[:, columns]
        return found

    def strangers(self, fold: Fold) -> Strangers:
        """What makes :meth:`told` of users that a fold does not have, by their plays.

        Raises
        ------
        ConfigError
            A signal does not say what makes its users.
        """
        maps = {name: factors.told for name, factors in self.signals.items()}
        listeners, factors = fold.histories.listeners, np.zeros((len(fold.songs), 0), np.float32)
        if any(each is not None and each.raw == "factors" for each in maps.values()):
            factors = taste.factorised(fold).songs_before
        return Strangers.of(self.layout, maps, self.popular, listeners, factors, fold.settings)
