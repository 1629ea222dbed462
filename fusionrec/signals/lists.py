"""Lists of an inner fold that weights are learned from: users, their relevant songs, others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusionrec.errors import DataError
from fusionrec.signals.inner import Inner
from fusionrec.signals.kernels import CHUNK
from fusionrec.signals.signal import Factors

CLIP = 12.0


@dataclass(frozen=True)
class Lists:
    """Sampled lists of one inner fold.

    Attributes
    ----------
    users
        Rows of users, ascending, each with a history and a relevant song.
    owner, positives
        A row for each relevant song: its user as a place in `users`, ascending, and its song.
    others
        Songs sampled evenly from all cold songs; the same for all users.
    negative
        Shape (users, others): the song is not relevant to the user.
    correction
        Shape (users,): cold songs that are not relevant, over the sampled ones; what a sampled
        negative stands for.
    """

    users: NDArray[np.int64]
    owner: NDArray[np.int64]
    positives: NDArray[np.int64]
    others: NDArray[np.int64]
    negative: NDArray[np.bool_]
    correction: NDArray[np.float64]

    @classmethod
    def of(cls, inner: Inner, seed: int) -> Lists:
        """Sample an inner fold.

        Raises
        ------
        DataError
            No user has both a history and a relevant song.
        """
        generator = np.random.default_rng([seed, 17])
        settings = inner.fold.settings
        relevant = inner.relevant
        some = np.flatnonzero((relevant.sizes > 0) & (inner.fold.histories.sizes > 0))
        if not len(some):
            raise DataError(
                "blend: no user played a cold and another song of an inner fold: use more plays"
            )
        users = np.sort(generator.permutation(some)[: settings.users])
        others = np.sort(generator.permutation(inner.cold)[: settings.others])
        table = relevant.counts[users]
        table.sort_indices()
        owner = np.repeat(np.arange(len(users)), np.diff(table.indptr))
        positives = table.indices.astype(np.int64)
        negative = table[:, others].toarray() == 0
        outside = len(inner.cold) - np.diff(table.indptr)
        correction = outside / np.maximum(negative.sum(axis=1), 1)
        return cls(users, owner, positives, others, negative, correction)

    def scores(self, factors: Factors) -> tuple[NDArray[np.float32], NDArray[np.float32], float]:
        """A signal's scores of the positives, (positives,), and of the others, (users, others).

        Less the user's mean over the others, which changes no ranking. And the largest
        score that vectors of these lengths could have.
        """
        V = factors.vectors(self.users)
        others = V @ factors.F[self.others].T
        means = others.mean(axis=1, keepdims=True)
        positives = np.einsum("ij,ij->i", V[self.owner], factors.F[self.positives])
        lengths = (_longest(rows) for rows in (V, factors.F))
        size = float(np.prod([*lengths]))
        return positives - means[self.owner, 0], others - means, size


def _longest(rows: NDArray[np.float32]) -> float:
    """The length of the longest row; a copy of all rows would be as large as a signal."""
    parts = (rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK))
    return max((float(np.linalg.norm(part, axis=1).max()) for part in parts), default=0.0)


def average_precision(
    lists: Lists,
    positives: NDArray[np.floating],
    others: NDArray[np.floating[Any]],
) -> float:
    """Mean over users of the average precision in the whole list of cold songs.

    A sampled negative counts for as many as it stands for.
    """
    order = np.lexsort((-positives, lists.owner))
    starts = np.searchsorted(lists.owner, np.arange(len(lists.users)))
    place = np.arange(len(order)) - starts[lists.owner] + 1
    scores = positives[order]
    above = np.where(lists.negative, others, -np.inf)[lists.owner] >= scores[:, None]
    rank = place + above.sum(axis=1) * lists.correction[lists.owner]
    per_user = np.bincount(lists.owner, place / rank) / np.bincount(lists.owner)
    return float(per_user.mean())
