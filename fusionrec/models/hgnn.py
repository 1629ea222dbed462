"""Two towers on a graph of songs and artists, after Spotify's 2T-HGNN (De Nadai et al. 2024).

Layers of GraphSAGE (Hamilton et al. 2017), a matrix for each relation: of a node t of kind k,

    h' = norm(relu(W_k h_t + b_k + sum_r W_r mean_{s in N_r(t)} h_s)),

over sampled neighbours in training and all of them afterwards. At the bottom a song is a linear
map of its content, an artist one vector for all; on top a linear map gives a song's vector. In
training, songs are cold at random: they then lack the edges that a cold song lacks, so that it is
ranked by what it has. Users, scores and the loss: :mod:`fusionrec.models.two_towers`.

Shapes: n songs, U users, D features, B nodes, L neighbours, d dimensions.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor, nn

from fusionrec.models.collective import Collective
from fusionrec.models.graph import Kind, SongGraph
from fusionrec.models.settings import GraphSettings, RankingSettings, Settings
from fusionrec.models.song_tower import TowerEpoch
from fusionrec.models.two_towers import Drawn, TwoTowers, TwoTowerTraining
from fusionrec.models.user_tower import user_vectors
from fusionrec.signals.histories import Histories

Rows = NDArray[np.integer[Any]]

_AT_ONCE = 4096


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


class GraphTowers(TwoTowers):
    """Both towers, over the songs of a graph; see :class:`TwoTowers`.

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
        super().__init__(ranking.dimensions, Collective())
        self.graph, self.p = graph, settings.p
        self.cold, self.sampled = ranking.cold, shape.sampled
        self.x_ND = torch.from_numpy(x)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.content = nn.Linear(x.shape[1], ranking.dimensions)
            self.artist = nn.Parameter(torch.randn(ranking.dimensions))
            self.layers = nn.ModuleList(
                Layer(graph, ranking.dimensions) for _ in range(shape.layers)
            )
            self.output = nn.Linear(ranking.dimensions, ranking.dimensions + 1)

    def begin(self, epoch: int) -> None:
        """See :class:`TwoTowers`: all that is random is drawn by a batch's own generator."""

    def vectors(self, drawn: Drawn) -> tuple[Tensor, Tensor]:
        """See :class:`TwoTowers`."""
        rng, found = drawn.rng, []
        # What is played and what is ranked are cold independently.
        for rows in (drawn.known, drawn.ranked):
            cold = rng.random(len(self.x_ND)) < self.cold
            found.append(self.songs(rows, Sampling(self.sampled, rng, cold)))
        return found[0], found[1]

    @torch.no_grad()
    def final(self, rows: Rows, *, cold: bool) -> Tensor:
        """See :class:`TwoTowers`: with all neighbours that songs have, which says how cold."""
        self.eval()
        parts = (rows[start : start + _AT_ONCE] for start in range(0, len(rows), _AT_ONCE))
        return torch.cat([self.songs(part) for part in parts])

    def songs(self, rows: Rows, sampling: Sampling | None = None) -> Tensor:
        """Vectors and biases of songs, shape (B, d + 1)."""
        found: Tensor = self.output(self.nodes("song", rows, len(self.layers), sampling))
        return found * math.sqrt(self.dimensions)

    def nodes(self, kind: Kind, rows: Rows, layer: int, sampling: Sampling | None) -> Tensor:
        """Vectors of nodes after so many layers, shape (B, d); all neighbours without sampling."""
        if not layer:
            if kind == "artist":
                return self.artist.expand(len(rows), -1)
            x_BD = self.x_ND[torch.from_numpy(np.asarray(rows, np.int64))].to(self.artist)
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

    def users(self, counts: csr_array, rows: Rows) -> NDArray[np.float32]:
        """V of some users, float32 (users, d + 1), from all plays in `counts`, (U, n)."""
        return user_vectors(self.towers.attention, self.vectors, counts, rows)


class GraphTraining(TwoTowerTraining[GraphModel]):
    """Both towers in training, in one process.

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
        Hyperparameters; `settings.p` drops content; class weights, label smoothing, the batch
        size, the normalisation's groups, the modalities' dropout and bfloat16 mean nothing here.

    Raises
    ------
    DataError
        No user has played two training songs.
    """

    def __init__(
        self,
        x: NDArray[np.float32],
        plays: Histories,
        graph: SongGraph,
        *,
        train: Rows,
        validation: Rows,
        settings: Settings,
        ranking: RankingSettings,
        shape: GraphSettings,
    ) -> None:
        self.both, self.shape = GraphTowers(x, graph, settings, ranking, shape), shape
        super().__init__(
            self.both,
            plays,
            train=train,
            validation=validation,
            settings=settings,
            ranking=ranking,
        )

    def validation_loss(self) -> float | None:
        """See the parent; None where nothing stops early, as it takes all neighbours."""
        return None if self.settings.patience is None else super().validation_loss()

    def result(self) -> GraphModel:
        """The trained towers: of the last epoch; with early stopping, of the best."""
        self._trained()
        vectors = self.both.final(np.arange(len(self.both.x_ND)), cold=False)
        return GraphModel(self.both, vectors.numpy(), tuple(self.curve))

    def description(self) -> dict[str, Any]:
        """What makes the towers, but for the songs, the graph and the weights; JSON-able."""
        return {"ranking": asdict(self.ranking), "shape": asdict(self.shape)}
