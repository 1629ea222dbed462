"""The user tower: an attention-weighted mean of the vectors of the songs that a user played.

Shapes: n songs, U users, B of them, L songs of all their histories in a row, d dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor, nn

Rows = NDArray[np.integer[Any]]

_USERS_AT_ONCE = 8192


@dataclass(frozen=True)
class Played:
    """Histories side by side.

    Attributes
    ----------
    songs
        Int64, shape (L,).
    weights
        Float32, shape (L,), above 0: log(1 + plays).
    owner
        Int64, shape (L,), ascending: whose each is, in [0, B).
    users
        B.
    """

    songs: NDArray[np.int64]
    weights: NDArray[np.float32]
    owner: NDArray[np.int64]
    users: int

    def of(self, first: int, last: int) -> Played:
        """The histories of the users from `first` up to `last`."""
        own = slice(*np.searchsorted(self.owner, [first, last]))
        return Played(self.songs[own], self.weights[own], self.owner[own] - first, last - first)


def histories(
    counts: csr_array,
    users: Rows,
    *,
    without: Rows | None = None,
    most: int | None = None,
    rng: np.random.Generator | None = None,
) -> Played:
    """The histories of some users, each in turn.

    Parameters
    ----------
    counts
        Plays, shape (U, n).
    users
        Rows of it, shape (B,), also twice.
    without
        A song for each of them that its history is to be without.
    most, rng
        Of longer histories so many songs are drawn.
    """
    sizes = np.diff(counts.indptr)[users].astype(np.int64)
    owner = np.repeat(np.arange(len(users)), sizes)
    ends = np.cumsum(sizes)
    where = np.arange(len(owner)) + np.repeat(counts.indptr[users] - (ends - sizes), sizes)
    songs, plays = counts.indices[where].astype(np.int64), counts.data[where]
    if without is not None:
        kept = songs != without[owner]
        songs, plays, owner = songs[kept], plays[kept], owner[kept]
    if most is not None and rng is not None:
        order = np.lexsort((rng.random(len(owner)), owner))
        sizes = np.bincount(owner, minlength=len(users))
        place = np.arange(len(owner)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        chosen = np.sort(order[place < most])
        songs, plays, owner = songs[chosen], plays[chosen], owner[chosen]
    return Played(songs, np.log1p(plays).astype(np.float32), owner, len(users))


class Attention(nn.Module):
    """Weights of a history's songs: a softmax of q . v / sqrt(d) + a log(weight).

    It begins with q = 0 and a = 1: the mean weighted by log(1 + plays). A song's attention does
    not depend on what is ranked, so that a user stays one vector.
    """

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(dimensions))
        self.slope = nn.Parameter(torch.ones(()))

    def forward(self, v_Ld: Tensor, weights_L: Tensor, owner_L: Tensor, users: int) -> Tensor:
        """Users' vectors, shape (B, d); zeros without a history."""
        scores_L = v_Ld @ self.query / v_Ld.shape[1] ** 0.5 + self.slope * weights_L.log()
        # A constant of each user, for the exponential not to overflow.
        highest_B = scores_L.detach().new_full((users,), -torch.inf)
        highest_B = highest_B.scatter_reduce(0, owner_L, scores_L.detach(), "amax")
        each_L = (scores_L - highest_B[owner_L]).exp()
        total_B = each_L.new_zeros(users).index_add(0, owner_L, each_L)
        share_L = each_L / total_B[owner_L]
        return v_Ld.new_zeros(users, v_Ld.shape[1]).index_add(0, owner_L, share_L[:, None] * v_Ld)


@torch.no_grad()
def user_vectors(
    attention: Attention, vectors: NDArray[np.float32], counts: csr_array, rows: Rows
) -> NDArray[np.float32]:
    """V of some users, float32 (users, d + 1): a score is its product with a song's vector.

    Parameters
    ----------
    vectors
        Of all n songs, the last number being a bias, float32 (n, d + 1).
    counts
        Plays, shape (U, n).
    """
    d = vectors.shape[1] - 1
    found = np.ones((len(rows), d + 1), np.float32)
    for start in range(0, len(rows), _USERS_AT_ONCE):
        played = histories(counts, rows[start : start + _USERS_AT_ONCE])
        v_Ld, weights_L, owner_L = (
            torch.from_numpy(x) for x in (vectors[played.songs, :d], played.weights, played.owner)
        )
        users_Bd = attention(v_Ld, weights_L, owner_L, played.users)
        found[start : start + _USERS_AT_ONCE, :d] = (users_Bd / d**0.5).numpy()
    return found
