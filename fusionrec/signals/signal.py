"""What a signal is given, and what it gives back: score(u, s) = V_u . F(s)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from fusionrec.baselines.factorisation import Sweeper
from fusionrec.errors import DataError
from fusionrec.ranking.split import By
from fusionrec.signals.histories import Histories, Weighting
from fusionrec.signals.kernels import CHUNK
from fusionrec.signals.memo import Memo
from fusionrec.signals.settings import BlendSettings
from fusionrec.signals.songs import Songs
from fusionrec.signals.user_map import UserMap

if TYPE_CHECKING:
    from fusionrec.signals.unseen.maps import SongMaps

T = TypeVar("T")

Kind = Literal["content", "context", "popularity"]


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
        BlendSettings, and the seed of whatever is random.
    sweeper
        Where matrix factorisation solves its half-steps by blocks; None: as a whole, here.
    memo
        What several signals of the fold share.
    """

    songs: Songs
    histories: Histories
    hidden: NDArray[np.bool_]
    by: By = "song"
    settings: BlendSettings = field(default_factory=BlendSettings)
    seed: int = 0
    sweeper: Sweeper | None = field(default=None, repr=False, compare=False)
    memo: Memo = field(default_factory=Memo, repr=False, compare=False)

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
        return self.memo.once(name, make)

    def with_settings(self, settings: BlendSettings) -> Fold:
        """The same fold with other settings, and nothing kept."""
        return replace(self, settings=settings, memo=self.memo.empty())

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
    histories, weighting, atoms
        Then V = W @ atoms, with W the weights of the histories, (U, n), and `atoms` float32,
        shape (n, d): V itself is made for the users that are asked for.
    told
        What makes V of users that the signal was not fitted on, where it is told of a user beside
        the songs (:attr:`fusionrec.signals.explain.Layout.told`).
    unseen
        What makes the same of songs that the signal was not fitted on, made when it is called.
    """

    F: NDArray[np.float32]
    users: NDArray[np.float32] | None = None
    histories: Histories | None = None
    weighting: Weighting | None = None
    atoms: NDArray[np.float32] | None = None
    told: UserMap | None = None
    unseen: Callable[[], SongMaps] | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of_histories(
        cls,
        histories: Histories,
        weighting: Weighting,
        atoms: NDArray[np.floating[Any]],
        F: NDArray[np.floating[Any]],
        unseen: Callable[[], SongMaps] | None = None,
    ) -> Factors:
        """A signal whose users are sums over their histories."""
        atoms = np.ascontiguousarray(atoms, np.float32)
        F = np.ascontiguousarray(F, np.float32)
        return cls(F, None, histories, weighting, atoms, unseen=unseen)

    def vectors(self, rows: NDArray[np.integer[Any]] | slice = slice(None)) -> NDArray[np.float32]:
        """V of some users, float32 (users, d)."""
        if self.users is not None:
            return self.users[rows]
        assert self.histories is not None
        assert self.weighting is not None
        return np.asarray(self.histories.weights(self.weighting)[rows] @ self.atoms, np.float32)

    @property
    def V(self) -> NDArray[np.float32]:  # noqa: N802
        """V of all users, float32 (U, d)."""
        return self.vectors()

    def projected(
        self,
        users: NDArray[np.floating[Any]],
        songs: NDArray[np.floating[Any]],
        mean: NDArray[np.float32] | None = None,
    ) -> Factors:
        """The signal with V times `users`, (d, k), and F, less `mean`, (d,), times `songs`."""
        users, songs = users.astype(np.float32), songs.astype(np.float32)
        return replace(
            self,
            F=times(self.F, songs, mean),
            users=None if self.users is None else self.users @ users,
            atoms=None if self.atoms is None else self.atoms @ users,
            told=None if self.told is None else self.told.times(users),
            unseen=self.unseen_times(users, songs, mean),
        )

    def unseen_times(
        self,
        users: NDArray[np.float32],
        songs: NDArray[np.float32],
        mean: NDArray[np.float32] | None = None,
    ) -> Callable[[], SongMaps] | None:
        """:attr:`unseen` of what :meth:`projected` gives."""
        return None if self.unseen is None else partial(_unseen, self.unseen, users, songs, mean)


def _unseen(
    whole: Callable[[], SongMaps],
    users: NDArray[np.float32],
    songs: NDArray[np.float32],
    mean: NDArray[np.float32] | None,
) -> SongMaps:
    return whole().projected(users, songs, mean)


def times(
    X: NDArray[np.float32], matrix: NDArray[np.float32], mean: NDArray[np.float32] | None
) -> NDArray[np.float32]:
    """(X - mean) @ matrix, float32, with no copy of X."""
    if mean is None:
        return X @ matrix
    found = np.empty((len(X), matrix.shape[1]), np.float32)
    for start in range(0, len(X), CHUNK):
        found[start : start + CHUNK] = (X[start : start + CHUNK] - mean) @ matrix
    return found


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
