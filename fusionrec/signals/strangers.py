"""Users that a blend was not fitted on: what no history gives of them, made of their plays.

What a blend tells of a user beside the songs played (:attr:`fusionrec.signals.explain.Layout.told`)
are linear maps of a few numbers: 1, how much the user plays, how popular that is, and the user's
factors. All are had of any plays as the fit had them of its users' plays. The factors are a
half-step of the factorisation, from the songs' factors of the sweep before its last one, which its
users' were solved with: so whoever played what a user of the fit did gets that user's, and nothing
is fitted again.

Only plays of songs that the fit saw played count. Of others, hidden ones and songs without plays
among them, it has learned nothing of this kind, nor were they counted of its own users.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, csr_matrix

from fusionrec.baselines.factorisation import confidence, gram_of, half_step
from fusionrec.errors import ConfigError
from fusionrec.signals.explain import Layout
from fusionrec.signals.histories import Histories
from fusionrec.signals.settings import BlendSettings
from fusionrec.signals.user_map import Raw, UserMap

_SINGLE: tuple[Raw, ...] = ("one", "activity", "popularity")


class Rows(Protocol):
    """Songs' factors by number: an array, or what reads some rows of a stored one."""

    def __getitem__(self, numbers: NDArray[np.int64], /) -> NDArray[np.float32]: ...


@dataclass(frozen=True)
class Strangers:
    """What a blend tells of any user beside the songs, in E dimensions.

    Attributes
    ----------
    matrix
        Float32, shape (3 + f, E): what is told of a user is the single numbers of :data:`Raw`, in
        their order, and the factors times it.
    nobody
        Float32, shape (E,): what is told of who has played nothing that counts.
    listeners
        Int32, shape (n,): users of the fit who played each of its songs; plays of those above 0
        count.
    factors
        Float32, shape (n, f), or what reads rows of it: of songs, before the factorisation's last
        sweep.
    gram
        Y'Y of these, float32 (f, f).
    alpha, epsilon, regularisation
        Of the factorisation.
    """

    matrix: NDArray[np.float32]
    nobody: NDArray[np.float32]
    listeners: NDArray[np.int32]
    factors: Rows
    gram: NDArray[np.float32]
    alpha: float
    epsilon: float
    regularisation: float

    @staticmethod
    def of(
        layout: Layout,
        maps: Mapping[str, UserMap | None],
        nobody: NDArray[np.float32],
        listeners: NDArray[np.int64],
        factors: NDArray[np.float32],
        settings: BlendSettings,
    ) -> Strangers:
        """Of a blend's fit.

        Parameters
        ----------
        layout
            Of its dimensions, D of them.
        maps
            By signal, into the dimensions that the layout has for it.
        nobody
            A user without plays, shape (D,).
        listeners
            Of its songs, shape (n,).
        factors
            Of its songs before the factorisation's last sweep, shape (n, f); f is 0 where no
            signal tells of them.

        Raises
        ------
        ConfigError
            A signal has told dimensions, and no map into them.
        """
        told = layout.told
        matrix = np.zeros((len(_SINGLE) + factors.shape[1], layout.width), np.float32)
        for name, place in layout.slices.items():
            if np.isin(told, np.arange(place.start, place.stop)).any():
                of = maps[name]
                if of is None:
                    raise ConfigError(f"blend: {name} cannot be had of users it is not fitted on")
                row = len(_SINGLE) if of.raw == "factors" else _SINGLE.index(of.raw)
                matrix[row : row + len(of.matrix), place] = of.matrix
        return Strangers(
            matrix[:, told],
            nobody[told],
            listeners.astype(np.int32),
            factors,
            gram_of(factors[listeners > 0]),  # of the songs that its users were solved with
            settings.alpha,
            settings.epsilon,
            settings.regularisation,
        )

    @property
    def learned(self) -> NDArray[np.bool_]:
        """Songs whose plays count, shape (n,)."""
        return self.listeners > 0

    def told(self, histories: Histories) -> NDArray[np.float32]:
        """What is told of users, float32 (U, E); of each whatever other users there are.

        Parameters
        ----------
        histories
            All that each played, of the fit's songs in its order; others behind them do not count.
        """
        counts = histories.counts
        learned = np.zeros(max(counts.shape[1], len(self.listeners)), bool)
        learned[: len(self.listeners)] = self.learned
        seen = histories.without(~learned[: counts.shape[1]])
        found = np.tile(self.nobody, (counts.shape[0], 1))
        some = np.flatnonzero(seen.sizes > 0)
        if len(some):
            # Row by row, as a product of sparse ones is: that of dense ones rounds by their shape.
            raw = csr_array(self._raw(Histories(seen.counts[some])))
            found[some] = raw @ self.matrix.astype(np.float64)
        return found

    def _raw(self, histories: Histories) -> NDArray[np.float64]:
        """Numbers of users who have played something that counts, (users, 3 + f)."""
        counts, sizes = histories.counts, histories.sizes
        user = np.repeat(np.arange(len(sizes)), sizes)
        listened = np.log1p(self.listeners[counts.indices].astype(np.float64))
        popularity = np.bincount(user, listened, len(sizes)) / sizes
        numbers = [np.ones(len(sizes)), np.log1p(sizes), popularity]
        if len(self.matrix) == len(_SINGLE):
            return np.stack(numbers, axis=1)
        songs, column = np.unique(counts.indices, return_inverse=True)
        c = confidence(counts.data.astype(np.int64), self.alpha, self.epsilon)
        parts = (c, column.astype(np.int32), counts.indptr)
        confidences = csr_matrix(parts, shape=(len(sizes), len(songs)))
        rows = np.ascontiguousarray(self.factors[songs.astype(np.int64)])
        factors = half_step(confidences, rows, self.regularisation, self.gram)
        return np.column_stack([*numbers, factors.astype(np.float64)])
