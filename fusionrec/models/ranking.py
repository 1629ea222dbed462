"""Objective `ranking`: two towers that rank the songs that a user plays.

A song's vector is a tower's of its content, the fusion network's by default, and, where its plays
are known, a linear map of its collaborative vector added to it; that is left out at random in
training (as DropoutNet, Volkovs et al. 2017, does), so that songs with plays and cold ones share a
space. Users, scores and the loss: :mod:`fusionrec.models.two_towers`.

Shapes: n songs, D fused features, M modalities, U users, F factors, S songs in a batch, d
dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor, nn

from fusionrec.models import checkpoint
from fusionrec.models.collective import Collective
from fusionrec.models.network import FusionNetwork
from fusionrec.models.settings import RankingSettings, Settings
from fusionrec.models.song_tower import SongInputs, SongTower, Tower, TowerEpoch, outputs, unit_of
from fusionrec.models.two_towers import Drawn, TwoTowers, TwoTowerTraining
from fusionrec.models.user_tower import Attention, user_vectors
from fusionrec.signals.histories import Histories

Rows = NDArray[np.integer[Any]]


class Towers(TwoTowers):
    """Both towers, over n songs.

    Parameters
    ----------
    tower
        Of d + 1 outputs.
    collaborative
        Float32, shape (n, F): factors in units of their root mean square; zeros for a song
        without.
    ranking
        Of which `dimensions` is d.
    device
        Of the collaborative vectors; the towers are to be moved there.
    """

    def __init__(
        self,
        tower: Tower,
        collaborative: NDArray[np.float32],
        ranking: RankingSettings,
        device: str = "cpu",
    ) -> None:
        super().__init__(ranking.dimensions, tower.group)
        self.tower, self.cold = tower, ranking.cold
        # From zeros: training begins with what the content knows.
        self.map = nn.Linear(collaborative.shape[1], ranking.dimensions + 1, bias=False)
        nn.init.zeros_(self.map.weight)
        self.collaborative_NF = torch.from_numpy(collaborative).to(device)

    def begin(self, epoch: int) -> None:
        """See :class:`TwoTowers`."""
        self.tower.begin(epoch)

    def vectors(self, drawn: Drawn) -> tuple[Tensor, Tensor]:
        """See :class:`TwoTowers`; each worker computes the content of its share of the songs."""
        # In an order of its own, for the groups of the normalisation to be others each time.
        songs = drawn.rng.permutation(np.union1d(drawn.ranked, drawn.known))
        # What is played and what is ranked are cold independently.
        kept = drawn.rng.random((2, len(songs))) >= self.cold
        share = self.tower.share(len(songs))
        mine = songs[share.start : share.stop]
        content = self.group.whole(self.tower(mine), share.start, len(songs))
        place = np.argsort(songs)
        found = []
        for rows, warm in zip((drawn.known, drawn.ranked), kept, strict=True):
            column = place[np.searchsorted(songs, rows, sorter=place)]
            found.append(self._warmed(content, songs, column, warm))
        return found[0], found[1]

    def final(self, rows: Rows, *, cold: bool) -> Tensor:
        """See :class:`TwoTowers`; each worker computes its share."""
        first, last = self.group.slice(len(rows))
        content = self.group.whole(self.tower.outputs(rows[first:last]), first, len(rows))
        if cold:
            return content
        return self._warmed(content, rows, np.arange(len(rows)), np.ones(len(rows), bool))

    def _warmed(
        self, content: Tensor, songs: Rows, column: Rows, warm: NDArray[np.bool_]
    ) -> Tensor:
        """Rows `column` of `content` with the collaborative part where a song is `warm`."""
        device = content.device
        row, kept = (torch.from_numpy(x).to(device) for x in (songs[column], warm[column]))
        added: Tensor = self.map(self.collaborative_NF[row].to(content))
        return content[torch.from_numpy(column).to(device)] + added * kept[:, None]


def in_units(
    factors: NDArray[np.float32], train: Rows, validation: Rows
) -> tuple[NDArray[np.float32], float]:
    """Factors of these songs in units of the training songs' root mean square, and the unit.

    Zeros for all other songs, whose plays are not to be seen; float32, shape (n, F).
    """
    scale = unit_of(factors[train]) or 1.0
    found = np.zeros_like(factors)
    for rows in (train, validation):
        found[rows] = factors[rows] / np.float32(scale)
    return found, scale


@dataclass(frozen=True)
class RankingModel:
    """Trained towers; a song is any song that has features.

    Attributes
    ----------
    network, map, attention
        The song tower, of the collaborative vectors, and the user tower.
    scale
        The unit of the collaborative vectors: the root mean square of the training songs' factors.
    history
        The evaluated epochs, in order; not stored.
    """

    network: FusionNetwork
    map: nn.Linear
    attention: Attention
    scale: float
    history: tuple[TowerEpoch, ...] = ()

    def content(self, x: NDArray[np.float32], present: NDArray[np.bool_]) -> NDArray[np.float32]:
        """F of songs by their content alone, float32 (songs, d + 1).

        Parameters
        ----------
        x, present
            As of :class:`fusionrec.models.song_tower.SongInputs`.
        """
        return outputs(self.network, x, present)

    @torch.no_grad()
    def warm(
        self, content: NDArray[np.float32], factors: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """F of songs whose plays are known, float32 (songs, d + 1).

        Parameters
        ----------
        content
            Of :meth:`content`.
        factors
            Float32, shape (songs, F); zeros for a song without, which then keeps its content.
        """
        added = self.map(torch.from_numpy(factors / np.float32(self.scale)))
        return content + np.asarray(added.numpy(), np.float32)

    def users(
        self, warm: NDArray[np.float32], counts: csr_array, rows: Rows
    ) -> NDArray[np.float32]:
        """V of some users, float32 (users, d + 1), from all plays in `counts`, (U, n).

        Parameters
        ----------
        warm
            Of all n songs, of :meth:`warm`.
        """
        return user_vectors(self.attention, warm, counts, rows)

    def tensors(self) -> dict[str, Tensor]:
        """All that was learned."""
        return {
            name: tensor
            for part in ("network", "map", "attention")
            for name, tensor in checkpoint.prefixed(
                f"{part}.", getattr(self, part).state_dict()
            ).items()
        }

    def description(self) -> dict[str, Any]:
        """What makes the model, but for its tensors; JSON-able."""
        return {
            "network": self.network.description(),
            "factors": self.map.in_features,
            "scale": self.scale,
        }

    @classmethod
    def load(cls, description: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> RankingModel:
        """The inverse of :meth:`description` and :meth:`tensors`."""
        network = FusionNetwork.from_description(description["network"])
        outputs = network.output.out_features
        model = cls(
            network.eval(),
            nn.Linear(description["factors"], outputs, bias=False),
            Attention(outputs - 1),
            description["scale"],
        )
        for part in ("network", "map", "attention"):
            own = checkpoint.without(f"{part}.", dict(tensors))
            getattr(model, part).load_state_dict(own)
        return model


class RankingTraining(TwoTowerTraining[RankingModel]):
    """Both towers in training.

    Parameters
    ----------
    songs
        All n songs.
    plays
        Plays of songs other than `train` and `validation` are not looked at.
    factors
        Float32, shape (n, F): collaborative vectors; zeros for a song without. Those of songs
        other than `train` and `validation` are not looked at.
    train, validation
        Rows of songs. The latter are cold to the training, and say which epoch is the best.
    settings, ranking
        Hyperparameters; class weights, label smoothing and the batch size mean nothing here.
    collective, device
        As of :class:`fusionrec.models.epochs.EpochTraining`.

    Raises
    ------
    DataError
        No user has played two training songs.
    """

    def __init__(
        self,
        songs: SongInputs,
        plays: Histories,
        factors: NDArray[np.float32],
        *,
        train: Rows,
        validation: Rows,
        settings: Settings,
        ranking: RankingSettings,
        collective: Collective | None = None,
        device: str = "cpu",
    ) -> None:
        collaborative, self.scale = in_units(factors, train, validation)
        self.tower = SongTower(songs, ranking.dimensions + 1, settings, collective, device)
        self.both = Towers(self.tower, collaborative, ranking, device)
        super().__init__(
            self.both,
            plays,
            train=train,
            validation=validation,
            settings=settings,
            ranking=ranking,
            device=device,
        )

    def result(self) -> RankingModel:
        """The trained towers: of the last epoch; with early stopping, of the best."""
        self._trained()
        return self._model()

    def description(self) -> dict[str, Any]:
        """What makes the model, but for its weights; JSON-able."""
        return self._model().description()

    def _model(self) -> RankingModel:
        both = self.both
        return RankingModel(
            self.tower.network, both.map, both.attention, self.scale, tuple(self.curve)
        )
