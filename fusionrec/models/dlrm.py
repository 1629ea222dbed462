"""The form of DLRM (Naumov et al. 2019, arXiv:1906.00091) as a song tower.

    z   = bottom(x)                      of dense features, (B, E)
    e_f = mean of a song's rows of table f, by their shares, (B, E) for each field f
    top(z, {a . b : a, b among z and the e_f, each pair once})

Both networks are linear layers with ReLU, on the bottom's output, too, and not on the top's. Where
DLRM's top gives the chance of a click, this one gives a song's vector; a user is made of those of
the songs played, as :mod:`fusionrec.models.ranking` has it.

A field's row of what is unknown is learned from training songs that are drawn to be without the
field, as cold songs are of artists without training songs.

Shapes: n songs, D fused features, B songs in a batch, L entries of a field, F fields, E an
embedding's dimensions, O outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from fusionrec.models.categories import UNKNOWN, Categories
from fusionrec.models.collective import Collective
from fusionrec.models.fusion import Fusion
from fusionrec.models.network import BatchContext, BatchShare, SharedDropout
from fusionrec.models.settings import DlrmSettings, Settings
from fusionrec.models.song_tower import SongInputs, Tower


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
        # Products of two embeddings are of the order of 1 / sqrt(E) to begin with.
        self.weight = nn.Parameter(torch.randn(categories.size, dimensions) / dimensions**0.5)
        self.indptr, self.rows, self.shares = (
            torch.from_numpy(part)
            for part in (categories.indptr, categories.rows, categories.shares)
        )

    def forward(self, songs_B: Tensor) -> Tensor:
        """Shape (B, E)."""
        sizes_B = self.indptr.diff()[songs_B]
        first_B = sizes_B.cumsum(0) - sizes_B
        where_L = torch.arange(int(sizes_B.sum())) + (
            self.indptr[songs_B] - first_B
        ).repeat_interleave(sizes_B)
        found: Tensor = nn.functional.embedding_bag(
            self.rows[where_L],
            self.weight,
            first_B,
            mode="sum",
            per_sample_weights=self.shares[where_L].to(self.weight.dtype),
        )
        return found


class DlrmTower(Tower):
    """Songs given by their rows, as outputs (B, O).

    Parameters
    ----------
    fields
        By name; one that another is `within` comes before it.
    """

    def __init__(
        self,
        songs: SongInputs,
        fields: Mapping[str, Field],
        outputs: int,
        settings: Settings,
        shape: DlrmSettings,
    ) -> None:
        super().__init__(songs, settings, BatchContext())
        self.fields, self.shape = fields, shape
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

    def forward(self, rows: Tensor) -> Tensor:
        """Outputs, shape (B, O)."""
        self.context.share = BatchShare.of(len(rows), None, Collective())
        z_BE = self.bottom(self.fusion(self.x_ND[rows], self.present_NM[rows]))
        outputs: Tensor = self.top(self.interaction(z_BE, self.embeddings(rows)))
        return outputs

    def embeddings(self, rows: Tensor) -> list[Tensor]:
        """Of each field, shape (B, E); in training mode, of fields drawn to be unknown, too."""
        found = {name: table(rows) for name, table in self.tables.items()}
        if not self.training:
            return list(found.values())
        draws_BF = torch.rand(len(rows), len(self.fields), generator=self.context.generator)
        known: dict[str, Tensor] = {}
        for (name, field), draws_B in zip(self.fields.items(), draws_BF.T, strict=True):
            known[name] = draws_B >= field.unknown
            if field.within is not None:
                known[name] = known[name] & known[field.within]
            nothing_E = self.tables[name].weight[UNKNOWN]
            found[name] = torch.where(known[name][:, None], found[name], nothing_E)
        return list(found.values())

    def interaction(self, z_BE: Tensor, embeddings: Sequence[Tensor]) -> Tensor:
        """What the top network is fed with: z, and the products of all pairs of vectors."""
        vectors_BVE = torch.stack([z_BE, *embeddings], dim=1)
        products_BVV = vectors_BVE @ vectors_BVE.transpose(1, 2)
        first, second = self.pairs
        dense = vectors_BVE.flatten(1) if self.shape.embeddings_too else z_BE
        return torch.cat([dense, products_BVV[:, first, second]], dim=1)
