"""What each song of a history adds to its user's vector, in NumPy alone.

A score is the product of a user's vector and a song's, so that these parts, times the song's
vector, are what each song of the history adds to the score.

Shapes: L songs of a history, f factors, d dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusionrec.baselines.factorisation import confidence

Floats = NDArray[np.floating[Any]]
Plays = Floats | NDArray[np.integer[Any]]


def of_factors(
    gram: Floats, factors: Floats, confidences: Floats, regularisation: float
) -> NDArray[np.float64]:
    """Parts of x_u = A^-1 sum_i c_ui y_i, float64 (L, f), which add up to it.

    With A = Y'Y + sum_i (c_ui - 1) y_i y_i' + lambda I (Hu et al. 2008, section 5): what a song
    adds depends on the others of the history, through A.

    Parameters
    ----------
    gram
        Y'Y of all songs, those of the history among them, shape (f, f).
    factors
        y_i of the songs of the history, shape (L, f).
    confidences
        c_ui of them, shape (L,).
    regularisation
        Lambda.
    """
    Y, c = factors.astype(np.float64), confidences.astype(np.float64)
    A = gram.astype(np.float64) + (Y * (c - 1)[:, None]).T @ Y
    A = A + regularisation * np.eye(Y.shape[1])
    return np.asarray(np.linalg.solve(A, (Y * c[:, None]).T).T, np.float64)


def of_attention(vectors: Floats, plays: Plays, query: Floats, slope: float) -> NDArray[np.float64]:
    """What each song weighs in the mean of :class:`fusionrec.models.user_tower.Attention`, (L,).

    Parameters
    ----------
    vectors
        Of the songs played, without their biases, shape (L, d).
    plays
        Counts above 0, shape (L,).
    query, slope
        Of the attention, shapes (d,) and ().
    """
    by_vector = vectors.astype(np.float64) @ query / np.sqrt(vectors.shape[1])
    scores = by_vector + slope * np.log(np.log1p(plays.astype(np.float64)))
    each = np.exp(scores - scores.max())
    return np.asarray(each / each.sum(), np.float64)


@dataclass(frozen=True)
class HistorySongs:
    """What songs are in a history, of a training on taste.

    Attributes
    ----------
    vectors
        Float32 (L, d); zeros of a song that is in no history.
    cold
        Bool (L,): those that stand there with what their content predicts.
    """

    vectors: Floats
    cold: NDArray[np.bool_]

    @staticmethod
    def of(
        objective: str, played: Floats, predicted: Callable[[NDArray[np.intp]], Floats]
    ) -> HistorySongs:
        """Under `factors`, a song of whose plays no factor was made is what its content predicts.

        Parameters
        ----------
        objective
            Of the training.
        played
            What each is by the training, float32 (L, d); zeros of a song without. Written into.
        predicted
            Gives what the content of some predicts, by their places, float32 (places, d); zeros of
            a song without features. Asked only if there are any.
        """
        cold = np.zeros(len(played), bool)
        missing = np.flatnonzero(~played.any(axis=1))
        if objective == "factors" and len(missing):
            played[missing] = predicted(missing)
            cold[missing] = played[missing].any(axis=1)
        return HistorySongs(played, cold)

    @property
    def known(self) -> NDArray[np.bool_]:
        """Which can be in a history, bool (L,)."""
        return np.asarray(self.vectors.any(axis=1))


@dataclass(frozen=True)
class TasteUsers:
    """What makes users' vectors of the songs played, of a training on taste.

    Attributes
    ----------
    gram
        Under `factors` Y'Y of the songs that have factors, shape (f, f); else None.
    alpha, epsilon, regularisation
        Of the factorisation.
    query, slope
        Under `ranking`, of the attention, shapes (d,) and (); else None.
    """

    gram: Floats | None
    alpha: float
    epsilon: float
    regularisation: float
    query: Floats | None = None
    slope: float = 1.0

    @staticmethod
    def of(about: Mapping[str, Any], arrays: Mapping[str, Floats]) -> TasteUsers:
        """From the training's description, `alpha` and so on, and arrays by these names."""
        slope = arrays.get("slope")
        return TasteUsers(
            arrays.get("gram"),
            about["alpha"],
            about["epsilon"],
            about["regularisation"],
            arrays.get("query"),
            1.0 if slope is None else float(slope[0]),
        )

    def adds(self, songs: Floats, cold: NDArray[np.bool_], plays: Plays) -> NDArray[np.float64]:
        """What each song played adds to the user's vector, float64 (L, d).

        Parameters
        ----------
        songs
            What each is in a history, shape (L, d); under `ranking` with a bias behind.
        cold
            Under `factors`, bool (L,): songs of whose plays no factor was made, so that they are
            what their content predicts. Each is among the songs of the least squares, too.
        plays
            Counts above 0, shape (L,).
        """
        if self.gram is None:
            assert self.query is not None
            v = songs[:, :-1].astype(np.float64)
            weights = of_attention(v, plays, self.query, self.slope)
            return np.asarray(weights[:, None] * v / np.sqrt(v.shape[1]), np.float64)
        predicted = songs[cold].astype(np.float64)
        c = confidence(plays, self.alpha, self.epsilon)
        gram = self.gram.astype(np.float64) + predicted.T @ predicted
        return of_factors(gram, songs, c, self.regularisation)

    def vector(self, songs: Floats, cold: NDArray[np.bool_], plays: Plays) -> NDArray[np.float32]:
        """The user's vector, float32; under `ranking` with 1 behind, for the songs' biases."""
        found = self.adds(songs, cold, plays).sum(axis=0)
        found = found if self.query is None else np.append(found, 1.0)
        return found.astype(np.float32)
