"""The form of DLRM (Naumov et al. 2019, arXiv:1906.00091) as a song tower, and its training.

    z   = bottom(x)                      of dense features, (B, E)
    e_f = mean of a song's rows of table f, by their shares, (B, E) for each field f
    top(z, {a . b : a, b among z and the e_f, each pair once})

Both networks are linear layers with ReLU, on the bottom's output, too, and not on the top's. Where
DLRM's top gives the chance of a click, this one gives a song's vector; collaborative vectors,
users, scores and the loss are those of :mod:`fusionrec.models.ranking`.

A field's row of what is unknown is learned from training songs that are drawn to be without the
field, as cold songs are of artists without training songs.

Shapes: n songs, D fused features, B songs in a batch, L entries of a field, F fields, E an
embedding's dimensions, O outputs, d dimensions of a song's vector.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor, nn

from fusionrec.models.batch import BatchContext
from fusionrec.models.categories import UNKNOWN, Categories
from fusionrec.models.collective import Collective
from fusionrec.models.fusion import Fusion
from fusionrec.models.layers import ModalityDropout, SharedDropout
from fusionrec.models.ranking import Towers, in_units
from fusionrec.models.settings import DlrmSettings, RankingSettings, Settings
from fusionrec.models.song_tower import SongInputs, Tower, TowerEpoch
from fusionrec.models.two_towers import TwoTowerTraining
from fusionrec.models.user_tower import Attention, user_vectors
from fusionrec.signals.histories import Histories

Rows = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Field:
    """Categories of one kind.

    Attributes
    ----------
    categories
        Of all n songs.
    unknown
        How often a training song is drawn to be without them.
    within
        The field without which this one is not known, if any: a release is of an artist.
    """

    categories: Categories
    unknown: float
    within: str | None = None


class Table(nn.Module):
    """The embedding table of a field, (rows, E), and the mean of each song's rows."""

    def __init__(self, categories: Categories, dimensions: int) -> None:
        super().__init__()
        self.categories = categories
        # Products of two embeddings are of the order of 1 / sqrt(E) to begin with.
        self.weight = nn.Parameter(torch.randn(categories.size, dimensions) / dimensions**0.5)

    def forward(self, songs: Rows) -> Tensor:
        """Shape (B, E)."""
        first, rows, shares = (torch.from_numpy(part) for part in self.categories.of(songs))
        found: Tensor = nn.functional.embedding_bag(
            rows,
            self.weight,
            first,
            mode="sum",
            per_sample_weights=shares.to(self.weight.dtype),
        )
        return found


class DlrmTower(Tower):
    """See the module.

    Parameters
    ----------
    fields
        Of all n songs, by name; one that another is `within` comes before it.
    outputs
        O.
    settings
        Of which `p` drops hidden units; weights are drawn from its seed, too.
    """

    def __init__(
        self,
        songs: SongInputs,
        fields: Mapping[str, Field],
        outputs: int,
        settings: Settings,
        shape: DlrmSettings,
        collective: Collective | None = None,
    ) -> None:
        super().__init__(songs, settings, BatchContext(), None, collective)
        self.fields, self.shape = fields, shape
        self.modality_dropout = ModalityDropout(settings.modality_dropout, self.context)
        E, vectors = shape.embedding, 1 + len(fields)
        self.pairs = torch.triu_indices(vectors, vectors, offset=1)
        interacted = E * (vectors if shape.embeddings_too else 1) + self.pairs.shape[1]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.fusion = Fusion(songs.fusion)
            self.tables = nn.ModuleDict(
                {name: Table(field.categories, E) for name, field in fields.items()}
            )
            self.bottom = self._network((self.fusion.out_features, *shape.bottom, E))
            self.bottom.append(nn.ReLU())
            self.top = self._network((interacted, *shape.top, outputs))

    def _network(self, widths: Sequence[int]) -> nn.Sequential:
        layers: list[nn.Module] = []
        for before, width in pairwise(widths[:-1]):
            dropout = SharedDropout(self.settings.p, self.context)
            layers += [nn.Linear(before, width), nn.ReLU(), dropout]
        return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1]))

    def vectors(self, rows: Rows, x_BD: Tensor, present_BM: Tensor) -> Tensor:
        """See :class:`fusionrec.models.song_tower.Tower`."""
        z_BE = self.bottom(self.fusion(x_BD, self.modality_dropout(present_BM)))
        outputs: Tensor = self.top(self.interaction(z_BE, self.embeddings(rows)))
        return outputs

    def embeddings(self, rows: Rows) -> list[Tensor]:
        """Of each field, shape (B, E); in training mode, of fields drawn to be unknown, too."""
        found = {name: table(rows) for name, table in self.tables.items()}
        if not self.training:
            return list(found.values())
        # Drawn for the global batch, as dropout is, so that workers do not matter.
        share = self.context.share
        draws_BF = torch.rand(share.rows, len(found), generator=self.context.generator)
        draws_BF = draws_BF[share.start : share.stop]
        known: dict[str, Tensor] = {}
        for (name, field), draws_B in zip(self.fields.items(), draws_BF.T, strict=True):
            known[name] = draws_B >= field.unknown
            if field.within is not None:
                known[name] = known[name] & known[field.within]
            nothing_E = self.tables.get_parameter(f"{name}.weight")[UNKNOWN]
            found[name] = torch.where(known[name][:, None], found[name], nothing_E)
        return list(found.values())

    def interaction(self, z_BE: Tensor, embeddings: Sequence[Tensor]) -> Tensor:
        """What the top network is fed with: z, and the products of all pairs of vectors."""
        vectors_BVE = torch.stack([z_BE.to(embeddings[0].dtype), *embeddings], dim=1)
        products_BVV = vectors_BVE @ vectors_BVE.transpose(1, 2)
        first, second = self.pairs
        dense = vectors_BVE.flatten(1) if self.shape.embeddings_too else z_BE
        return torch.cat([dense, products_BVV[:, first, second]], dim=1)


@dataclass(frozen=True)
class DlrmModel:
    """Trained towers.

    Attributes
    ----------
    content, warm
        Of all songs, float32 (n, d + 1), without and with their collaborative vectors.
    history
        The evaluated epochs, in order.
    """

    attention: Attention
    content: NDArray[np.float32]
    warm: NDArray[np.float32]
    history: tuple[TowerEpoch, ...]

    def users(self, counts: csr_array, rows: Rows) -> NDArray[np.float32]:
        """V of some users, float32 (users, d + 1), from all plays in `counts`, (U, n)."""
        return user_vectors(self.attention, self.warm, counts, rows)


class DlrmTraining(TwoTowerTraining[DlrmModel]):
    """Both towers in training, on the CPU.

    Parameters
    ----------
    songs, fields
        Of all n songs; see :class:`DlrmTower`. Names that `train` songs do not have are to be
        unknown.
    plays, factors, train, validation
        As of :class:`fusionrec.models.ranking.RankingTraining`.
    settings, ranking, shape
        Hyperparameters; class weights, label smoothing, the batch size and the normalisation's
        groups mean nothing here.
    collective
        The data-parallel workers that share a batch; alone by default.

    Raises
    ------
    DataError
        No user has played two training songs.
    """

    def __init__(
        self,
        songs: SongInputs,
        fields: Mapping[str, Field],
        plays: Histories,
        factors: NDArray[np.float32],
        *,
        train: Rows,
        validation: Rows,
        settings: Settings,
        ranking: RankingSettings,
        shape: DlrmSettings,
        collective: Collective | None = None,
    ) -> None:
        tower = DlrmTower(songs, fields, ranking.dimensions + 1, settings, shape, collective)
        collaborative, _ = in_units(factors, train, validation)
        self.both = Towers(tower, collaborative, ranking)
        self.shape, self.sizes = shape, {n: f.categories.size for n, f in fields.items()}
        super().__init__(
            self.both,
            plays,
            train=train,
            validation=validation,
            settings=settings,
            ranking=ranking,
        )

    @torch.no_grad()
    def result(self) -> DlrmModel:
        """The trained towers: of the last epoch; with early stopping, of the best."""
        everything = np.arange(len(self.both.collaborative_NF))
        self._trained()
        content, warm = (self.both.final(everything, cold=cold).numpy() for cold in (True, False))
        return DlrmModel(self.both.attention, content, warm, tuple(self.curve))

    def description(self) -> dict[str, Any]:
        """What makes the towers, but for the songs and the weights; JSON-able."""
        return {"ranking": asdict(self.ranking), "shape": asdict(self.shape), "rows": self.sizes}
