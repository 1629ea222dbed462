"""Objective `ranking`: two towers that rank the songs that a user plays.

A song's vector is the fusion network's of its content, and, where its plays are known, a linear map
of its collaborative vector added to it; that is left out at random in training (as DropoutNet,
Volkovs et al. 2017, does), so that songs with plays and cold ones share a space. A user's is an
attention-weighted mean of those of the songs played. With v and b the first d numbers and the
last of a song's vector, and u the user's,

    score(u, s) = u . v_s / sqrt(d) + b_s,

trained by sampled softmax (:mod:`fusionrec.models.sampled_softmax`): a training example is a play
of a training song, with the user's other training songs as the history.

Shapes: n songs, U users, F factors, B examples in a batch, S songs in it, C candidates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor, nn

from fusionrec.baselines.factor_loss import scale_of
from fusionrec.errors import DataError
from fusionrec.models.sampled_softmax import candidates, sampled_softmax
from fusionrec.models.settings import RankingSettings, Settings
from fusionrec.models.song_tower import SongInputs, SongTower, Tower, TowerEpoch, fit_epochs
from fusionrec.models.user_tower import Attention, Played, histories
from fusionrec.signals.histories import Histories

Rows = NDArray[np.integer[Any]]

_USERS_AT_ONCE = 8192
_HELD = 20_000
"""Plays of validation songs, at most, that an epoch is judged by."""


class Towers(nn.Module):
    """Both towers, over n songs.

    Parameters
    ----------
    tower
        The songs'; d + 1 outputs.
    collaborative
        Float32, shape (n, F): factors in units of their root mean square; zeros for a song
        without.
    """

    def __init__(
        self,
        tower: Tower,
        collaborative: NDArray[np.float32],
        ranking: RankingSettings,
    ) -> None:
        super().__init__()
        self.dimensions = ranking.dimensions
        self.tower = tower
        # From zeros: training begins with what the content knows.
        self.map = nn.Linear(collaborative.shape[1], ranking.dimensions + 1, bias=False)
        nn.init.zeros_(self.map.weight)
        self.attention = Attention(ranking.dimensions)
        self.collaborative_NF = torch.from_numpy(collaborative)

    def warmed(self, content: Tensor, songs: Tensor, kept: Tensor | None = None) -> Tensor:
        """Vectors with the collaborative part added where `kept`, everywhere by default."""
        added: Tensor = self.map(self.collaborative_NF[songs])
        return content + (added if kept is None else added * kept[:, None])

    def users(self, vectors: Tensor, played: Played, columns: Tensor) -> Tensor:
        """Users' vectors, shape (B, d), histories being rows `columns` of `vectors`."""
        v_Ld = vectors[columns, : self.dimensions]
        weights, owner = torch.from_numpy(played.weights), torch.from_numpy(played.owner)
        pooled: Tensor = self.attention(v_Ld, weights, owner, played.users)
        return pooled

    def scores(self, users_Bd: Tensor, vectors: Tensor) -> Tensor:
        """Shape (B, songs)."""
        v, b = vectors[:, : self.dimensions], vectors[:, self.dimensions]
        found: Tensor = users_Bd @ v.T / math.sqrt(self.dimensions) + b
        return found


@dataclass(frozen=True)
class RankingModel:
    """Trained towers.

    Attributes
    ----------
    content, warm
        Of all songs, float32 (n, d + 1), without and with their collaborative vectors.
    history
        The epochs, in order.
    """

    towers: Towers
    content: NDArray[np.float32]
    warm: NDArray[np.float32]
    history: tuple[TowerEpoch, ...]

    def songs(self, rows: Rows, cold: bool = True) -> NDArray[np.float32]:
        """F of some songs, float32 (songs, d + 1); by their content alone if they are cold."""
        return (self.content if cold else self.warm)[rows]

    @torch.no_grad()
    def users(self, counts: csr_array, rows: Rows) -> NDArray[np.float32]:
        """V of some users, float32 (users, d + 1), from all plays in `counts`, (U, n)."""
        found, warm = [], torch.from_numpy(self.warm)
        for start in range(0, max(len(rows), 1), _USERS_AT_ONCE):
            played = histories(counts, rows[start : start + _USERS_AT_ONCE])
            users = self.towers.users(warm, played, torch.from_numpy(played.songs))
            found.append((users / math.sqrt(self.towers.dimensions)).numpy())
        V = np.concatenate(found)
        return np.concatenate([V, np.ones((len(V), 1), np.float32)], axis=1)


def fit_ranking(
    songs: SongInputs | Tower,
    plays: Histories,
    factors: NDArray[np.float32],
    *,
    train: Rows,
    validation: Rows,
    settings: Settings,
    ranking: RankingSettings,
) -> RankingModel:
    """Train both towers.

    Parameters
    ----------
    songs
        All n songs, for the fusion network; or another tower of them, with d + 1 outputs.
    plays
        Plays of songs other than `train` and `validation` are not looked at.
    factors
        Float32, shape (n, F): collaborative vectors; zeros for a song without. Those of songs
        other than `train` and `validation` are not looked at.
    train, validation
        Rows of songs. The latter are cold to the training, and are for early stopping.
    settings, ranking
        Hyperparameters; class weights, label smoothing, the batch size and the precision mean
        nothing here.

    Raises
    ------
    DataError
        No user has played two training songs.
    """
    of_train, of_held = (_only(plays, rows) for rows in (train, validation))
    collaborative = np.zeros_like(factors)
    for rows in (train, validation):
        collaborative[rows] = factors[rows]
    collaborative /= np.float32(scale_of(factors[train]) or 1.0)
    examples = _Examples.of(of_train)
    if not len(examples.songs):
        raise DataError(
            "no user has played two training songs: there is no example of a song with a history"
        )
    if isinstance(songs, SongInputs):
        songs = SongTower(songs, ranking.dimensions + 1, settings)
    towers = Towers(songs, collaborative, ranking)
    held = _held(towers, of_train, of_held, validation, settings.seed)

    def batches(epoch: int) -> Iterator[tuple[Tensor, int]]:
        towers.tower.begin(epoch)
        rng = np.random.default_rng([settings.seed, epoch])
        order = rng.permutation(len(examples.songs))
        for start in range(0, len(order), ranking.pairs):
            some = order[start : start + ranking.pairs]
            loss = _batch_loss(towers, examples, some, of_train, train, ranking, rng)
            yield loss.mean(), len(some)

    curve = fit_epochs(towers, settings, batches, held)
    with torch.no_grad():
        content = towers.tower.outputs()
        warm = towers.warmed(content, torch.arange(len(content)))
    return RankingModel(towers, content.numpy(), warm.numpy(), curve)


def _only(plays: Histories, songs: Rows) -> csr_array:
    others = np.ones(plays.counts.shape[1], bool)
    others[songs] = False
    return plays.without(others).counts


@dataclass(frozen=True)
class _Examples:
    """Plays of users who played another training song, too, and each song's share of them (n,)."""

    users: NDArray[np.int64]
    songs: NDArray[np.int64]
    share: NDArray[np.float64]

    @staticmethod
    def of(counts: csr_array) -> _Examples:
        sizes = np.diff(counts.indptr)
        users = np.repeat(np.arange(len(sizes)), sizes)
        kept = sizes[users] > 1
        songs = counts.indices[kept].astype(np.int64)
        share = np.bincount(songs, minlength=counts.shape[1]) / max(len(songs), 1)
        return _Examples(users[kept], songs, share)


def _batch_loss(
    towers: Towers,
    examples: _Examples,
    some: Rows,
    counts: csr_array,
    train: Rows,
    ranking: RankingSettings,
    rng: np.random.Generator,
) -> Tensor:
    """Loss of each of some examples."""
    users, positives = examples.users[some], examples.songs[some]
    played = histories(counts, users, without=positives, most=ranking.history, rng=rng)
    evenly = rng.choice(train, ranking.negatives)
    ranked, correction = candidates(positives, evenly, examples.share, len(train))
    # In an order of its own, for the groups of the normalisation to be others each time.
    songs = rng.permutation(np.union1d(ranked, played.songs))
    column = np.empty(counts.shape[1], np.int64)
    column[songs] = np.arange(len(songs))
    S = torch.from_numpy(songs)
    content = towers.tower(S)
    # What is played and what is ranked are cold independently.
    kept = torch.from_numpy(rng.random((2, len(songs))) >= ranking.cold)
    heard, offered = (towers.warmed(content, S, each) for each in kept)
    U = towers.users(heard, played, torch.from_numpy(column[played.songs]))
    scores = towers.scores(U, offered[torch.from_numpy(column[ranked])])
    positive = torch.from_numpy(np.searchsorted(ranked, positives))
    return sampled_softmax(scores, positive, torch.from_numpy(correction))


def _held(
    towers: Towers, counts: csr_array, held: csr_array, validation: Rows, seed: int
) -> Callable[[], float | None]:
    """What judges an epoch: the full softmax over the validation songs, all of them cold."""
    known = np.diff(counts.indptr) > 0
    owner = np.repeat(np.arange(len(known)), np.diff(held.indptr))
    some = np.flatnonzero(known[owner])
    if len(some) > _HELD:
        some = np.sort(np.random.default_rng(seed).choice(some, _HELD, replace=False))
    users, own = np.unique(owner[some], return_inverse=True)
    column = np.empty(counts.shape[1], np.int64)
    column[validation] = np.arange(len(validation))
    positive = torch.from_numpy(column[held.indices[some]])
    played, row = histories(counts, users), torch.from_numpy(own)
    heard, columns = np.unique(played.songs, return_inverse=True)

    @torch.no_grad()
    def loss() -> float | None:
        if not len(some):
            return None
        vectors = towers.warmed(towers.tower.outputs(heard), torch.from_numpy(heard))
        U = towers.users(vectors, played, torch.from_numpy(columns))
        logits = towers.scores(U, towers.tower.outputs(validation)).log_softmax(dim=1)
        return -logits[row, positive].mean().item()

    return loss
