"""A graph of songs and artists for message passing: what each node hears of, and samples of it.

Edges of four relations lead to songs and artists (the co-listening graph of De Nadai et al. 2024,
"Personalized audiobook recommendations at Spotify through graph neural networks", with artists):

    together    training songs <- their nearest by listeners (item-kNN)
    alike       all songs      <- their nearest by content
    by          all songs      <- their artist
    of          artists        <- their songs

Only training songs are ever heard of, so that songs without plays can be added at any time: they
hear of songs alike and of their artist. Users hear of the songs they played, in the user tower.

Shapes: n songs, a artists, D features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from fusionrec.signals.colistened import nearest_by_listeners
from fusionrec.signals.content import one_hot
from fusionrec.signals.histories import Histories

Rows = NDArray[np.integer[Any]]
Kind = Literal["song", "artist"]

_AMONG = 4096
"""The most-played training songs, among which nearest ones are looked for."""

_CHUNK = 1024
_SHRINKAGE = 1.0


@dataclass(frozen=True)
class Relation:
    """Edges of one kind.

    Attributes
    ----------
    target, source
        Kinds of the nodes that hear, and of those that they hear of.
    edges
        Sparse, targets by sources.
    warm
        A song that is cold has none of these.
    """

    target: Kind
    source: Kind
    edges: csr_array
    warm: bool = False

    def heard(
        self, rows: Rows, most: int | None = None, rng: np.random.Generator | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Sources of some targets, of each at most `most` drawn evenly, and whose each is.

        Returns
        -------
        tuple
            Sources and, ascending, places in `rows`; int64, both of the same length.
        """
        sizes = np.diff(self.edges.indptr)[rows].astype(np.int64)
        owner = np.repeat(np.arange(len(rows)), sizes)
        first = np.cumsum(sizes) - sizes
        place = np.arange(len(owner)) - first[owner]
        if most is not None and rng is not None:
            order = np.lexsort((rng.random(len(owner)), owner))
            chosen = np.sort(order[place < most])
            owner, place = owner[chosen], place[chosen]
        sources = self.edges.indices[self.edges.indptr[rows].astype(np.int64)[owner] + place]
        return sources.astype(np.int64), owner


@dataclass(frozen=True)
class SongGraph:
    """All relations by name, and how many nodes there are of each kind."""

    songs: int
    artists: int
    relations: Mapping[str, Relation]


def song_graph(
    x: NDArray[np.float32],
    plays: Histories,
    artists: NDArray[np.int64],
    train: Rows,
    *,
    nearest: int,
    unseen_artists: bool,
) -> SongGraph:
    """The graph of a fold.

    Parameters
    ----------
    x
        Content, shape (n, D), about standardised; zeros where unknown.
    plays
        Of no song but those of `train`.
    artists
        Codes, shape (n,); -1 where unknown.
    train
        Rows of songs that may be heard of.
    nearest
        Songs that a song is linked with, at most, by each of listeners and content.
    unseen_artists
        Cold songs are of artists without training songs: songs of the same artist are then no
        edges, and what training songs have of their artist counts as warm.
    """
    n = len(x)
    groups = artists if unseen_artists else np.full(n, -1)
    teaching = np.zeros(n, bool)
    teaching[train] = True
    members = one_hot(np.where(teaching, artists, -1))
    size = int(artists.max(initial=-1)) + 1
    members = csr_array((members.data, members.indices, members.indptr), shape=(n, max(size, 1)))
    with_songs = np.bincount(members.indices, minlength=max(size, 1)) > 0
    own = np.where((artists >= 0) & with_songs[artists], artists, -1)
    by = one_hot(own)
    by = csr_array((by.data, by.indices, by.indptr), shape=members.shape)
    relations = {
        "together": Relation(
            "song", "song", nearest_by_listeners(plays, groups, nearest, _AMONG, _SHRINKAGE), True
        ),
        "alike": Relation("song", "song", _alike(x, plays, train, groups, nearest)),
        "by": Relation("song", "artist", by, unseen_artists),
        "of": Relation("artist", "song", csr_array(members.T)),
    }
    return SongGraph(n, members.shape[1], relations)


def _alike(
    x: NDArray[np.float32], plays: Histories, train: Rows, groups: NDArray[np.int64], nearest: int
) -> csr_array:
    """Each song's nearest by the cosine of their content, among the most-played training songs."""
    lengths = np.linalg.norm(x, axis=1, keepdims=True)
    unit = np.divide(x, lengths, out=np.zeros_like(x), where=lengths > 0)
    known = train[lengths[train, 0] > 0]
    order = np.argsort(-plays.listeners[known], kind="stable")
    known = np.sort(known[order[:_AMONG]])
    rows, columns = [], []
    for start in range(0, len(x), _CHUNK):
        some = np.arange(start, min(len(x), start + _CHUNK))
        cosines = unit[some] @ unit[known].T
        same = (groups[some][:, None] == groups[known]) & (groups[some] >= 0)[:, None]
        cosines[same | (some[:, None] == known) | (lengths[some] == 0)] = -np.inf
        best = np.argsort(-cosines, axis=1, kind="stable")[:, :nearest]
        row, place = np.nonzero(np.isfinite(np.take_along_axis(cosines, best, axis=1)))
        rows.append(some[row])
        columns.append(known[best[row, place]])
    edges = np.concatenate(rows), np.concatenate(columns)
    return csr_array((np.ones(len(edges[0]), np.float32), edges), shape=(len(x), len(x)))
