"""Why a song was recommended: the parts of its score, and the songs of the history behind them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fusionrec.signals.histories import Weighting, weights

if TYPE_CHECKING:  # it brings linear algebra with it, which somebody would wait for
    from fusionrec.signals.signal import Kind

SONGS = 3

REST = "fewer dimensions"
"""The part of a score that is no signal's: what fewer dimensions change of their sum."""

Vector = NDArray[np.floating[Any]]
Plays = NDArray[np.floating[Any]] | NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Layout:
    """Where each signal with a weight is among all D dimensions of them.

    Attributes
    ----------
    slices
        Dimensions of each signal; together they are all.
    weightings
        How the songs of a history are weighed in a user's vector; None where it is no sum over
        the history.
    kinds
        What each signal counts as.
    """

    slices: Mapping[str, slice]
    weightings: Mapping[str, Weighting | None]
    kinds: Mapping[str, Kind]

    @property
    def of_histories(self) -> Iterator[tuple[slice, Weighting]]:
        """Dimensions and weighting of signals that speak for a song by those of a history.

        That a song of the history is popular speaks for popular songs, but a list is not for
        having heard it: popularity is a part of the score, and of no song.
        """
        for name, place in self.slices.items():
            weighting = self.weightings[name]
            if weighting is not None and self.kinds[name] != "popularity":
                yield place, weighting

    @property
    def told(self) -> NDArray[np.int64]:
        """The other dimensions, ascending: there a user's vector has to be told."""
        other = np.ones(self.width, bool)
        for place, _ in self.of_histories:
            other[place] = False
        return np.flatnonzero(other)

    @property
    def width(self) -> int:
        """D."""
        return max((place.stop for place in self.slices.values()), default=0)

    def as_json(self) -> dict[str, Any]:
        """As :meth:`of_json` reads it."""
        return {
            "slices": {name: [place.start, place.stop] for name, place in self.slices.items()},
            "weightings": dict(self.weightings),
            "kinds": dict(self.kinds),
        }

    @staticmethod
    def of_json(description: Mapping[str, Any]) -> Layout:
        """From what :meth:`as_json` gave, among other things."""
        slices = {name: slice(*place) for name, place in description["slices"].items()}
        return Layout(slices, description["weightings"], description["kinds"])

    def user(self, atoms: Vector, plays: Plays, told: Vector | None = None) -> NDArray[np.float32]:
        """A user's vector by all signals, float32 (D,).

        Parameters
        ----------
        atoms
            Shape (songs, D): the blend's rows of the songs of the user's history.
        plays
            Shape (songs,): the user's plays of them.
        told
            Values of the dimensions :attr:`told`; None for zeros: to be popular is not to be like
            a song, and a history that is no user's has no factors.
        """
        found = np.zeros(self.width, np.float32)
        for place, weighting in self.of_histories:
            found[place] = _weighed(weighting, plays) @ atoms[:, place]
        if told is not None:
            found[self.told] = told
        return found


@dataclass(frozen=True)
class Explanation:
    """Parts of one score, in the score's own unit: how far above a mean cold song's it is.

    Attributes
    ----------
    score
        What the song is ranked by.
    signals
        Parts by signal, of those with a weight, and :data:`REST`. They add up to the score; one
        may be below 0.
    songs
        Places in the history of the songs that add most to the score, with what they add, the
        most first; fewer than three where fewer add anything.
    history
        What all songs of the history add: the score less :data:`REST` and the parts of
        popularity, and of signals whose user vectors are no sums over the history.
    """

    score: float
    signals: dict[str, float]
    songs: list[tuple[int, float]]
    history: float

    def by(self, groups: Mapping[str, str]) -> dict[str, float]:
        """Parts by the groups of signals, such as kinds or modalities; they add up as well."""
        found: dict[str, float] = {}
        for name, part in self.signals.items():
            group = groups.get(name, name)
            found[group] = found.get(group, 0.0) + part
        return found


def explain(
    layout: Layout, score: float, user: Vector, song: Vector, atoms: Vector, plays: Plays
) -> Explanation:
    """Explain a score.

    Parameters
    ----------
    score
        What the song is ranked by for this user.
    user
        Shape (D,): :meth:`Layout.user`.
    song
        Shape (D,): the blend's `features` of the song.
    atoms, plays
        As of :meth:`Layout.user`.
    """
    user, song = user.astype(np.float64), song.astype(np.float64)
    signals = {name: float(user[place] @ song[place]) for name, place in layout.slices.items()}
    signals[REST] = score - sum(signals.values())
    adds = np.zeros(len(plays))
    for place, weighting in layout.of_histories:
        adds += _weighed(weighting, plays) * (atoms[:, place].astype(np.float64) @ song[place])
    order = np.argsort(-adds, kind="stable")[:SONGS]
    return Explanation(
        score=score,
        signals=signals,
        songs=[(int(i), float(adds[i])) for i in order if adds[i] > 0],
        history=float(adds.sum()),
    )


def _weighed(weighting: Weighting, plays: Plays) -> NDArray[np.float32]:
    """What each song of one history weighs."""
    return weights(weighting, plays.astype(np.float32), np.array([0, len(plays)]))
