"""Why a song was recommended: the parts of its score, and the songs of the history behind them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusionrec.signals.histories import Weighting, weights
from fusionrec.signals.signal import Kind

SONGS = 3


@dataclass(frozen=True)
class Explanation:
    """Parts of one score, in the score's own unit: how far above a mean cold song's it is.

    Attributes
    ----------
    score
        V_u . F(s), in float64.
    signals
        Parts by signal, of those with a weight. They add up to the score; one may be below 0.
    songs
        Places in the history of the songs that add most to the score, with what they add, the
        most first; fewer than three where fewer add anything.
    history
        What all songs of the history add: the score less the parts of popularity, and of
        signals whose user vectors are no sums over the history.
    """

    score: float
    signals: dict[str, float]
    songs: list[tuple[int, float]]
    history: float

    def by(self, groups: Mapping[str, str]) -> dict[str, float]:
        """Parts by the groups of signals, such as kinds or modalities; they add up as well."""
        found: dict[str, float] = {}
        for name, part in self.signals.items():
            found[groups[name]] = found.get(groups[name], 0.0) + part
        return found


def explain(
    v: NDArray[np.floating[Any]],
    f: NDArray[np.floating[Any]],
    slices: Mapping[str, slice],
    weightings: Mapping[str, Weighting | None],
    kinds: Mapping[str, Kind],
    atoms: NDArray[np.floating[Any]],
    plays: NDArray[np.floating[Any]] | NDArray[np.integer[Any]],
) -> Explanation:
    """Explain a blend's score by its rows alone.

    That a song of the history is popular speaks for popular songs, but a list is not for having
    heard it: popularity is a part of the score, and of no song.

    Parameters
    ----------
    v, f
        Shape (D,): the user's row of V and the song's of F.
    slices, weightings, kinds
        The blend's.
    atoms
        Shape (songs, D): the blend's rows of the songs that the user's vector was made of.
    plays
        Shape (songs,): the user's plays of them.
    """
    v, f = v.astype(np.float64), f.astype(np.float64)
    signals = {name: float(v[place] @ f[place]) for name, place in slices.items()}
    adds = np.zeros(len(plays))
    bounds = np.array([0, len(plays)])
    for place, weighting in _of_histories(slices, weightings, kinds):
        if len(plays):
            each = atoms[:, place].astype(np.float64) @ f[place]
            adds += weights(weighting, plays.astype(np.float32), bounds) * each
    order = np.argsort(-adds, kind="stable")[:SONGS]
    return Explanation(
        score=float(sum(signals.values())),
        signals=signals,
        songs=[(int(i), float(adds[i])) for i in order if adds[i] > 0],
        history=float(adds.sum()),
    )


def vector(
    slices: Mapping[str, slice],
    weightings: Mapping[str, Weighting | None],
    kinds: Mapping[str, Kind],
    atoms: NDArray[np.floating[Any]],
    plays: NDArray[np.floating[Any]] | NDArray[np.integer[Any]],
) -> NDArray[np.float32]:
    """The row of V that a history of these songs has, for songs like them; float32 (D,).

    Zeros in the dimensions of popularity, as to be popular is not to be like a song, and of signals
    that are no sums over a history: a history that is no user's has no factors.

    Parameters
    ----------
    slices, weightings, kinds, atoms, plays
        As of :func:`explain`.
    """
    v = np.zeros(atoms.shape[1], np.float32)
    for place, weighting in _of_histories(slices, weightings, kinds):
        if len(plays):
            shares = weights(weighting, plays.astype(np.float32), np.array([0, len(plays)]))
            v[place] = shares @ atoms[:, place]
    return v


def _of_histories(
    slices: Mapping[str, slice],
    weightings: Mapping[str, Weighting | None],
    kinds: Mapping[str, Kind],
) -> Iterator[tuple[slice, Weighting]]:
    """Dimensions and weighting of the signals that speak for a song by those of a history."""
    for name, place in slices.items():
        weighting = weightings[name]
        if weighting is not None and kinds[name] != "popularity":
            yield place, weighting
