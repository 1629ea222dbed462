"""Two towers that rank the songs that a user plays, whatever makes a song's vector.

With v and b the first d numbers and the last of a song's vector, and u the attention-weighted mean
of the v of the songs that a user played,

    score(u, s) = u . v_s / sqrt(d) + b_s,

trained by sampled softmax (:mod:`fusionrec.models.sampled_softmax`): a training example is a play
of a training song, with the user's other training songs as the history.

Shapes: n songs, U users, B examples in a batch, K songs of their histories, C candidates, L songs
of histories in a row, d dimensions.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor, nn

from fusionrec.errors import DataError
from fusionrec.models.collective import Collective
from fusionrec.models.sampled_softmax import candidates, sampled_softmax
from fusionrec.models.settings import RankingSettings, Settings
from fusionrec.models.song_tower import TowerTraining
from fusionrec.models.user_tower import Attention, Played, histories
from fusionrec.signals.histories import Histories

Rows = NDArray[np.integer[Any]]
Result = TypeVar("Result", covariant=True)

_HELD = 20_000
"""Plays of validation songs, at most, that an epoch is judged by."""
_SCORES_AT_ONCE = 2**24


@dataclass(frozen=True)
class Drawn:
    """A global batch, the same on every worker.

    Attributes
    ----------
    known
        Songs of the histories, ascending, int64 (K,).
    played
        The examples' histories.
    ranked
        Candidates, ascending, int64 (C,).
    positive
        Each example's own, as a column of them, int64 (B,).
    correction
        See :func:`fusionrec.models.sampled_softmax.candidates`, float32 (C,).
    rng
        What else is drawn for the batch is drawn from it.
    """

    known: NDArray[np.int64]
    played: Played
    ranked: NDArray[np.int64]
    positive: NDArray[np.int64]
    correction: NDArray[np.float32]
    rng: np.random.Generator


class TwoTowers(nn.Module, ABC):
    """The user tower and the score; a child is the song tower.

    Parameters
    ----------
    dimensions
        d.
    collective
        The data-parallel workers that share a batch.
    """

    def __init__(self, dimensions: int, collective: Collective) -> None:
        super().__init__()
        self.dimensions, self.group = dimensions, collective
        self.attention = Attention(dimensions)

    @abstractmethod
    def begin(self, epoch: int) -> None:
        """Seed what is random in an epoch, other than what a batch's own generator draws."""

    @abstractmethod
    def vectors(self, drawn: Drawn) -> tuple[Tensor, Tensor]:
        """Songs' vectors in training: of `known`, (K, d + 1), and of `ranked`, (C, d + 1).

        Songs are as cold in them as they are to be learned from.
        """

    @abstractmethod
    def final(self, rows: Rows, *, cold: bool) -> Tensor:
        """Songs' vectors in evaluation mode, shape (songs, d + 1)."""

    def forward(self, drawn: Drawn) -> Tensor:
        """The sum of the losses of this worker's examples."""
        heard_Kd, offered_Cd = self.vectors(drawn)
        first, last = self.group.slice(len(drawn.positive))
        played = drawn.played.of(first, last)
        U = self.users(heard_Kd, played, np.searchsorted(drawn.known, played.songs))
        scores = self.scores(U, offered_Cd)
        positive = torch.from_numpy(drawn.positive[first:last]).to(scores.device)
        correction = torch.from_numpy(drawn.correction).to(scores)
        return sampled_softmax(scores, positive, correction).sum()

    def users(self, vectors: Tensor, played: Played, columns: Rows) -> Tensor:
        """Users' vectors, shape (B, d), histories being rows `columns` of `vectors`."""
        device = vectors.device
        columns_L, owner_L = (torch.from_numpy(x).to(device) for x in (columns, played.owner))
        v_Ld = vectors[columns_L, : self.dimensions]
        weights_L = torch.from_numpy(played.weights).to(v_Ld)
        pooled: Tensor = self.attention(v_Ld, weights_L, owner_L, played.users)
        return pooled

    def scores(self, users_Bd: Tensor, vectors: Tensor) -> Tensor:
        """Shape (B, songs)."""
        v, b = vectors[:, : self.dimensions], vectors[:, self.dimensions]
        found: Tensor = users_Bd @ v.T / math.sqrt(self.dimensions) + b
        return found


class TwoTowerTraining(TowerTraining[Result]):
    """Two towers in training.

    Parameters
    ----------
    towers
        Over n songs.
    plays
        Plays of songs other than `train` and `validation` are not looked at.
    train, validation
        Rows of songs. The latter are cold to the training, and say which epoch is the best.
    settings, ranking
        Hyperparameters.
    device
        As of :class:`fusionrec.models.epochs.EpochTraining`.

    Raises
    ------
    DataError
        No user has played two training songs.
    """

    def __init__(
        self,
        towers: TwoTowers,
        plays: Histories,
        *,
        train: Rows,
        validation: Rows,
        settings: Settings,
        ranking: RankingSettings,
        device: str = "cpu",
    ) -> None:
        self.train, self.ranking = train, ranking
        self.counts = _only(plays, train)
        sizes = np.diff(self.counts.indptr)
        owner = np.repeat(np.arange(len(sizes)), sizes)
        several = sizes[owner] > 1
        self.users, self.songs = owner[several], self.counts.indices[several].astype(np.int64)
        if not len(self.songs):
            raise DataError(
                "no user has played two training songs: there is no example of a song with a "
                "history"
            )
        self.share = np.bincount(self.songs, minlength=len(plays.listeners)) / len(self.songs)
        self.held = _Held.of(self.counts, _only(plays, validation), validation, settings.seed)
        self.towers = towers
        super().__init__(towers, settings, collective=towers.group, device=device)

    @torch.no_grad()
    def validation_loss(self) -> float | None:
        """Full softmax over the validation songs, all of them cold, of plays of users with history.

        None without such plays.
        """
        held, towers = self.held, self.towers
        if not len(held.positive):
            return None
        heard = np.unique(held.played.songs)
        vectors, offered = towers.final(heard, cold=False), towers.final(held.songs, cold=True)
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        start, stop = self.group.slice(held.played.users)
        step = max(1, _SCORES_AT_ONCE // len(held.songs))
        for first in range(start, stop, step):
            last = min(first + step, stop)
            played = held.played.of(first, last)
            U = towers.users(vectors, played, np.searchsorted(heard, played.songs))
            logits = towers.scores(U, offered).log_softmax(dim=1)
            own = slice(*np.searchsorted(held.user, [first, last]))
            row, positive = (
                torch.from_numpy(x).to(self.device)
                for x in (held.user[own] - first, held.positive[own])
            )
            total -= logits[row, positive].sum(dtype=torch.float64)
        return self.group.sum(total).item() / len(held.positive)

    def _batches(self) -> Iterator[tuple[Tensor, float]]:
        self.towers.begin(self.epoch)
        rng = np.random.default_rng([self.settings.seed, self.epoch])
        order = rng.permutation(len(self.songs))
        for start in range(0, len(order), self.ranking.pairs):
            some = order[start : start + self.ranking.pairs]
            yield self.model(self._drawn(some, rng)), float(len(some))

    def _drawn(self, some: Rows, rng: np.random.Generator) -> Drawn:
        positives = self.songs[some]
        played = histories(
            self.counts,
            self.users[some],
            without=positives,
            most=self.ranking.history,
            rng=rng,
        )
        evenly = rng.choice(self.train, self.ranking.negatives)
        ranked, correction = candidates(positives, evenly, self.share, len(self.train))
        positive = np.searchsorted(ranked, positives)
        return Drawn(np.unique(played.songs), played, ranked, positive, correction, rng)


@dataclass(frozen=True)
class _Held:
    """Plays of validation songs that an epoch is judged by, ascending by user.

    `user` and `positive`, int64 (plays,), are rows of `played` and columns of `songs`.
    """

    played: Played
    songs: Rows
    user: NDArray[np.int64]
    positive: NDArray[np.int64]

    @staticmethod
    def of(counts: csr_array, held: csr_array, songs: Rows, seed: int) -> _Held:
        """Of the plays `held`, (U, n), of `songs`; users' histories are in `counts`."""
        owner = np.repeat(np.arange(held.shape[0]), np.diff(held.indptr))
        some = np.flatnonzero(np.diff(counts.indptr)[owner] > 0)
        if len(some) > _HELD:
            some = np.sort(np.random.default_rng(seed).choice(some, _HELD, replace=False))
        users, user = np.unique(owner[some], return_inverse=True)
        column = np.empty(held.shape[1], np.int64)
        column[songs] = np.arange(len(songs))
        return _Held(histories(counts, users), songs, user, column[held.indices[some]])


def _only(plays: Histories, songs: Rows) -> csr_array:
    others = np.ones(plays.counts.shape[1], bool)
    others[songs] = False
    return plays.without(others).counts
