"""What a signal is given, and what it gives back: score(u, s) = V_u . F(s)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from fusionrec.errors import DataError
from fusionrec.signals.histories import Histories, Weighting
from fusionrec.signals.songs import Songs

T = TypeVar("T")

Kind = Literal["content", "context", "popularity"]
By = Literal["song", "artist", "album"]


@dataclass(frozen=True)
class Settings:
    """What signals are computed with; :mod:`fusionrec.signals.tuning` chooses some of it.

    Attributes
    ----------
    landmarks
        Songs that a kernel's features are made of: those with most listeners.
    penalty, context_penalty
        Of kernel ridge without and with context, as a share of the kernel's mean diagonal.
    smooth_penalty, smooth_context_penalty
        The same for histories smoothed by matrix factorisation.
    popularity_penalty
        The same for the regression to popularity.
    factors, alpha, epsilon, regularisation, iterations
        Of matrix factorisation (:mod:`fusionrec.baselines.factorisation`).
    aligned
        Share of a sum of kernels that is weighted by alignment; the rest is even.
    shrinkage
        Songs' worth of the mean of all that a mean over an artist's songs is drawn to.
    sharpness
        What similarities are multiplied with before the softmax of attention.
    """

    landmarks: int = 512
    penalty: float = 1.0
    context_penalty: float = 1.0
    smooth_penalty: float = 1.0
    smooth_context_penalty: float = 1.0
    popularity_penalty: float = 3.0
    factors: int = 50
    alpha: float = 10.0
    epsilon: float = 1.0
    regularisation: float = 10.0
    iterations: int = 10
    aligned: float = 0.5
    shrinkage: float = 1.0
    sharpness: float = 5.0


@dataclass(frozen=True)
class Fold:
    """Songs and plays as a signal sees them; no play of a hidden song is in it.

    Attributes
    ----------
    songs, histories
        All songs; plays of those that are not hidden. Others are dropped when it is made.
    hidden
        Shape (n,): songs without plays that may be learned from (cold songs, and in a split by
        artist other songs of their artists).
    by
        What the split keeps apart.
    settings, seed
        Settings, and the seed of whatever is random.
    memo
        What several signals of the fold share.
    """

    songs: Songs
    histories: Histories
    hidden: NDArray[np.bool_]
    by: By = "song"
    settings: Settings = field(default_factory=Settings)
    seed: int = 0
    memo: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        n = len(self.songs)
        if self.hidden.shape != (n,) or self.histories.counts.shape[1] != n:
            raise DataError(
                f"signals: {n} songs, plays of {self.histories.counts.shape[1]} and a mask of "
                f"{self.hidden.shape} do not fit together"
            )
        if self.histories.listeners[self.hidden].any():
            object.__setattr__(self, "histories", self.histories.without(self.hidden))

    def once(self, name: str, make: Callable[[], T]) -> T:
        """What `make` gives, computed once for this fold."""
        if name not in self.memo:
            self.memo[name] = make()
        found: T = self.memo[name]
        return found

    def with_settings(self, settings: Settings) -> Fold:
        """The same fold with other settings, and nothing kept."""
        return replace(self, settings=settings, memo={})

    @property
    def learned(self) -> NDArray[np.int64]:
        """Rows of the songs that were played: what a regression is fitted to, ascending."""
        return np.flatnonzero(self.histories.listeners > 0)


@dataclass(frozen=True)
class Factors:
    """A signal: score(u, s) = V_u . F(s).

    Attributes
    ----------
    F
        Float32, shape (n, d), of all songs.
    users
        Float32, shape (U, d), zeros for a user without plays. None where a user's vector is a
        sum over the user's history.
    histories, weighting, parts
        Then V = W @ parts, with W the weights of the histories, (U, n), and `parts` float32,
        shape (n, d): V itself is made for the users that are asked for.
    """

    F: NDArray[np.float32]
    users: NDArray[np.float32] | None = None
    histories: Histories | None = None
    weighting: Weighting | None = None
    parts: NDArray[np.float32] | None = None

    @classmethod
    def of_histories(
        cls,
        histories: Histories,
        weighting: Weighting,
        parts: NDArray[np.floating[Any]],
        F: NDArray[np.floating[Any]],
    ) -> Factors:
        """A signal whose users are sums over their histories."""
        parts = np.ascontiguousarray(parts, np.float32)
        return cls(np.ascontiguousarray(F, np.float32), None, histories, weighting, parts)

    def vectors(self, rows: NDArray[np.integer[Any]] | slice = slice(None)) -> NDArray[np.float32]:
        """V of some users, float32 (users, d)."""
        if self.users is not None:
            return self.users[rows]
        assert self.histories is not None
        assert self.weighting is not None
        return np.asarray(self.histories.weights(self.weighting)[rows] @ self.parts, np.float32)

    @property
    def V(self) -> NDArray[np.float32]:  # noqa: N802
        """V of all users, float32 (U, d)."""
        return self.vectors()

    def projected(
        self, users: NDArray[np.floating[Any]], songs: NDArray[np.floating[Any]]
    ) -> Factors:
        """The signal with V times `users`, (d, k), and F times `songs`, (d, k)."""
        users, songs = users.astype(np.float32), songs.astype(np.float32)
        return replace(
            self,
            F=self.F @ songs,
            users=None if self.users is None else self.users @ users,
            parts=None if self.parts is None else self.parts @ users,
        )


@dataclass(frozen=True)
class SignalSpec:
    """A signal by name.

    Attributes
    ----------
    name
        Its name in tables and settings.
    kind
        What a share of a score is counted as: `popularity` is the same for all users or nearly.
    modality
        What of a song it reads.
    context
        It reads official fields that may encode listening: similar_artists, hotttnesss,
        familiarity. A comparison by content alone leaves it out.
    fit
        Compute it.
    """

    name: str
    kind: Kind
    modality: str
    context: bool
    fit: Callable[[Fold], Factors]
