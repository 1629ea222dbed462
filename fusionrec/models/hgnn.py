"""Two towers on a graph of songs and artists, after Spotify's 2T-HGNN (De Nadai et al. 2024).

Layers of GraphSAGE (Hamilton et al. 2017), a matrix for each relation: of a node t of kind k,

    h' = norm(relu(W_k h_t + b_k + sum_r W_r mean_{s in N_r(t)} h_s)),

over sampled neighbours in training and all of them afterwards. At the bottom a song is a linear
map of its content, an artist one vector for all. On top a linear map gives a song's vector v and
bias b; a user's u is an attention-weighted mean of the v of the songs played, and

    score(u, s) = u . v_s / sqrt(d) + b_s,

trained by sampled softmax. In training, songs are cold at random: they then lack the edges that a
cold song lacks, so that it is ranked by what it has.

Shapes: n songs, U users, B nodes or examples, L neighbours, d dimensions.
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

from fusionrec.errors import DataError
from fusionrec.models.graph import Kind, SongGraph
from fusionrec.models.sampled_softmax import candidates, sampled_softmax
from fusionrec.models.settings import GraphSettings, RankingSettings, Settings
from fusionrec.models.song_tower import TowerEpoch, fit_epochs
from fusionrec.models.user_tower import Attention, Played, histories
from fusionrec.signals.histories import Histories

Rows = NDArray[np.integer[Any]]

_AT_ONCE = 4096
_HELD = 20_000
"""Plays of validation songs, at most, that an epoch is judged by."""


@dataclass(frozen=True)
class Sampling:
    """How a training batch sees the graph: `most` neighbours of each relation, and cold songs."""

    most: int
    rng: np.random.Generator
    cold: NDArray[np.bool_]


class Layer(nn.Module):
    """One round of messages; see the module."""

    def __init__(self, graph: SongGraph, dimensions: int) -> None:
        super().__init__()
        kinds: tuple[Kind, ...] = ("song", "artist")
        self.own = nn.ModuleDict({kind: nn.Linear(dimensions, dimensions) for kind in kinds})
        self.of = nn.ModuleDict(
            {name: nn.Linear(dimensions, dimensions, bias=False) for name in graph.relations}
        )

    def forward(
        self, kind: Kind, own_Bd: Tensor, heard: dict[str, tuple[Tensor, Tensor]]
    ) -> Tensor:
        """The next vectors of nodes, (B, d), from what they hear: sources (L, d) and whose."""
        total: Tensor = self.own[kind](own_Bd)
        for name, (sources_Ld, owner_L) in heard.items():
            number_B = own_Bd.new_zeros(len(own_Bd)).index_add(
                0, owner_L, own_Bd.new_ones(len(owner_L))
            )
            sums_Bd = torch.zeros_like(own_Bd).index_add(0, owner_L, sources_Ld)
            total = total + self.of[name](sums_Bd / number_B.clamp(min=1)[:, None])
        return nn.functional.normalize(torch.relu(total), dim=1)


class GraphTowers(nn.Module):
    """Both towers, over the songs of a graph.

    Parameters
    ----------
    x
        Content, float32 (n, D).
    """

    def __init__(
        self,
        x: NDArray[np.float32],
        graph: SongGraph,
        settings: Settings,
        ranking: RankingSettings,
        shape: GraphSettings,
    ) -> None:
        super().__init__()
        self.graph, self.dimensions, self.p = graph, ranking.dimensions, settings.p
        self.x_ND = torch.from_numpy(x)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.content = nn.Linear(x.shape[1], ranking.dimensions)
            self.artist = nn.Parameter(torch.randn(ranking.dimensions))
            self.layers = nn.ModuleList(
                Layer(graph, ranking.dimensions) for _ in range(shape.layers)
            )
            self.output = nn.Linear(ranking.dimensions, ranking.dimensions + 1)
        self.attention = Attention(ranking.dimensions)

    def songs(self, rows: Rows, sampling: Sampling | None = None) -> Tensor:
        """Vectors and biases of songs, shape (B, d + 1)."""
        found: Tensor = self.output(self.nodes("song", rows, len(self.layers), sampling))
        return found * math.sqrt(self.dimensions)

    def nodes(self, kind: Kind, rows: Rows, layer: int, sampling: Sampling | None) -> Tensor:
        """Vectors of nodes after so many layers, shape (B, d); all neighbours without sampling."""
        if not layer:
            if kind == "artist":
                return self.artist.expand(len(rows), -1)
            x_BD = self.x_ND[torch.from_numpy(np.asarray(rows, np.int64))]
            if sampling is not None and self.p:
                kept = sampling.rng.random(x_BD.shape, dtype=np.float32) >= self.p
                x_BD = x_BD * torch.from_numpy(kept) / (1 - self.p)
            content: Tensor = self.content(x_BD)
            return content
        own = self.nodes(kind, rows, layer - 1, sampling)
        heard = {}
        for name, relation in self.graph.relations.items():
            if relation.target != kind:
                continue
            if sampling is None:
                sources, owner = relation.heard(rows)
            else:
                sources, owner = relation.heard(rows, sampling.most, sampling.rng)
                if relation.warm:
                    kept = ~sampling.cold[rows[owner]]
                    sources, owner = sources[kept], owner[kept]
            if len(sources):
                once, place = np.unique(sources, return_inverse=True)
                below = self.nodes(relation.source, once, layer - 1, sampling)
                heard[name] = below[torch.from_numpy(place)], torch.from_numpy(owner)
        found: Tensor = self.layers[layer - 1](kind, own, heard)
        return found

    def users(self, vectors: Tensor, played: Played, columns: Tensor) -> Tensor:
        """Users' vectors, shape (B, d), histories being rows `columns` of `vectors`."""
        weights, owner = torch.from_numpy(played.weights), torch.from_numpy(played.owner)
        v_Ld = vectors[columns, : self.dimensions]
        pooled: Tensor = self.attention(v_Ld, weights, owner, played.users)
        return pooled

    def scores(self, users_Bd: Tensor, vectors: Tensor) -> Tensor:
        """Shape (B, songs)."""
        v, b = vectors[:, : self.dimensions], vectors[:, self.dimensions]
        found: Tensor = users_Bd @ v.T / math.sqrt(self.dimensions) + b
        return found


@dataclass(frozen=True)
class GraphModel:
    """Trained towers.

    Attributes
    ----------
    vectors
        Of all songs, float32 (n, d + 1), with all neighbours that they have.
    history
        The epochs, in order.
    """

    towers: GraphTowers
    vectors: NDArray[np.float32]
    history: tuple[TowerEpoch, ...]

    @torch.no_grad()
    def users(self, counts: csr_array, rows: Rows) -> NDArray[np.float32]:
        """V of some users, float32 (users, d + 1), from all plays in `counts`, (U, n)."""
        d = self.towers.dimensions
        found, vectors = np.ones((len(rows), d + 1), np.float32), torch.from_numpy(self.vectors)
        for start in range(0, len(rows), _AT_ONCE):
            played = histories(counts, rows[start : start + _AT_ONCE])
            users = self.towers.users(vectors, played, torch.from_numpy(played.songs))
            found[start : start + _AT_ONCE, :d] = (users / math.sqrt(d)).numpy()
        return found


def fit_hgnn(
    x: NDArray[np.float32],
    plays: Histories,
    graph: SongGraph,
    *,
    train: Rows,
    validation: Rows,
    settings: Settings,
    ranking: RankingSettings,
    shape: GraphSettings,
) -> GraphModel:
    """Train both towers.

    Parameters
    ----------
    x
        Content of all n songs, float32 (n, D).
    plays
        Plays of songs other than `train` and `validation` are not looked at.
    graph
        Of which only `train` songs are heard.
    train, validation
        Rows of songs. The latter are cold to the training, and are for early stopping.
    settings, ranking, shape
        Hyperparameters; `settings.p` drops content, class weights, label smoothing, the batch
        size, the normalisation's groups and the precision mean nothing here.

    Raises
    ------
    DataError
        No user has played two training songs.
    """
    n = len(x)
    counts, held = (
        plays.without(~np.isin(np.arange(n), rows)).counts for rows in (train, validation)
    )
    sizes = np.diff(counts.indptr)
    owner = np.repeat(np.arange(len(sizes)), sizes)
    several = sizes[owner] > 1
    users, songs = owner[several], counts.indices[several].astype(np.int64)
    if not len(songs):
        raise DataError(
            "no user has played two training songs: there is no example of a song with a history"
        )
    share = np.bincount(songs, minlength=n) / len(songs)
    towers = GraphTowers(x, graph, settings, ranking, shape)

    def batches(epoch: int) -> Iterator[tuple[Tensor, int]]:
        rng = np.random.default_rng([settings.seed, epoch])
        order = rng.permutation(len(songs))
        for start in range(0, len(order), ranking.pairs):
            some = order[start : start + ranking.pairs]
            played = histories(
                counts, users[some], without=songs[some], most=ranking.history, rng=rng
            )
            evenly = rng.choice(train, ranking.negatives)
            ranked, correction = candidates(songs[some], evenly, share, len(train))
            known, columns = np.unique(played.songs, return_inverse=True)
            # What is played and what is ranked are cold independently.
            heard, offered = (
                towers.songs(rows, Sampling(shape.sampled, rng, rng.random(n) < ranking.cold))
                for rows in (known, ranked)
            )
            scores = towers.scores(towers.users(heard, played, torch.from_numpy(columns)), offered)
            positive = torch.from_numpy(np.searchsorted(ranked, songs[some]))
            loss = sampled_softmax(scores, positive, torch.from_numpy(correction))
            yield loss.mean(), len(some)

    curve = fit_epochs(towers, settings, batches, _held(towers, counts, held, validation, settings))
    return GraphModel(towers, _all(towers, np.arange(n)).numpy(), curve)


@torch.no_grad()
def _all(towers: GraphTowers, rows: Rows) -> Tensor:
    parts = (rows[start : start + _AT_ONCE] for start in range(0, len(rows), _AT_ONCE))
    return torch.cat([towers.songs(part) for part in parts])


def _held(
    towers: GraphTowers, counts: csr_array, held: csr_array, validation: Rows, settings: Settings
) -> Callable[[], float | None]:
    """What judges an epoch: the full softmax over the validation songs, all of them cold."""
    owner = np.repeat(np.arange(held.shape[0]), np.diff(held.indptr))
    some = np.flatnonzero(np.diff(counts.indptr)[owner] > 0)
    if len(some) > _HELD:
        some = np.sort(np.random.default_rng(settings.seed).choice(some, _HELD, replace=False))
    users, own = np.unique(owner[some], return_inverse=True)
    column = np.empty(held.shape[1], np.int64)
    column[validation] = np.arange(len(validation))
    positive, row = torch.from_numpy(column[held.indices[some]]), torch.from_numpy(own)
    played = histories(counts, users)
    heard, columns = np.unique(played.songs, return_inverse=True)

    @torch.no_grad()
    def loss() -> float | None:
        if not len(some) or settings.patience is None:
            return None
        U = towers.users(_all(towers, heard), played, torch.from_numpy(columns))
        logits = towers.scores(U, _all(towers, validation)).log_softmax(dim=1)
        return -logits[row, positive].mean().item()

    return loss
