"""Ranking on a GPU, with the very scores of the compiled kernel.

A matrix product would sum in an order of its own; here the dimensions are added one by one,
each with a fused multiply-add, to a block of scores that stays in the device's memory.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from fusionrec.ranking.lists import RankedLists
from fusionrec.ranking.protocols import SongLists

_BLOCK_BYTES = 2 << 30
"""Memory for a block of scores, their keys and what is compared with them."""

_BYTES_PER_SCORE = 40
"""The emulated multiply-add holds most: five doubles."""


def rank_on_device(
    V: NDArray[np.float32],
    rows: NDArray[np.float32],
    exclude: SongLists,
    relevant: SongLists,
    lists: RankedLists,
    device: str,
    block_bytes: int = _BLOCK_BYTES,
) -> None:
    """Fill `lists` as :func:`fusionrec.ranking.topk.rank_users` does, on a device of PyTorch.

    Raises
    ------
    ValueError
        A user's relevant song is also excluded.
    """
    songs = len(rows)
    columns = torch.from_numpy(rows).to(device).T.contiguous()
    block = max(1, block_bytes // (_BYTES_PER_SCORE * songs))
    # Of two equal scores the song with the lower index has the larger key.
    by_column = torch.arange(2**32 - 1, 2**32 - 1 - songs, -1, device=device)
    for first in range(0, len(V), block):
        stop = min(first + block, len(V))
        users = torch.from_numpy(V[first:stop]).to(device)
        scores = torch.zeros(stop - first, songs, device=device)
        for weights, dimension in zip(users.T, columns, strict=True):
            scores = multiply_add(weights[:, None], dimension[None, :], scores)
        scores += 0.0  # an underflow may have left a minus zero, which must tie with zero
        keys = (_ordered(scores).long() << 32) | by_column
        out = _flat(exclude, first, stop, songs, device)
        keys.view(-1)[out] = torch.iinfo(torch.int64).min
        own = _flat(relevant, first, stop, songs, device)
        chosen = keys.view(-1)[own]
        lowest = chosen == torch.iinfo(torch.int64).min
        if lowest.any():
            at = int(own[lowest.nonzero()[0, 0]])
            raise ValueError(
                f"song column {at % songs} is both relevant and excluded for user row "
                f"{first + at // songs}"
            )
        _write_lists(lists, keys, scores, exclude, first, stop)
        _write_ranks(lists, keys, chosen, own, relevant, first, stop)


def multiply_add(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    """a * b + c in float32, rounded once, on any device."""
    if _fuses(a.device):
        return torch.addcmul(c, a, b)
    product = a.double() * b.double()  # exact: 48 bits
    wide = c.double()
    total = product + wide
    part = total - product
    error = (product - (total - part)) + (wide - part)
    # Rounded to odd, the sum keeps in its last bit that something was cut off, and rounding
    # it again, to float32, is right (Boldo & Melquiond 2008).
    bits = total.view(torch.int64)
    away = (error > 0) == (total > 0)
    step = torch.where(away, 1, -1) * ((error != 0) & ((bits & 1) == 0))
    return (bits + step).view(torch.float64).float()


@cache
def _fuses(device: torch.device) -> bool:
    """Whether the device's multiply-add rounds once; found by sums where it matters."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(4096, generator=generator) for _ in range(2))
    c = -(a * b)  # what is left is the rounding error of the product, or nothing
    exact = (a.double() * b.double() + c.double()).float()
    return torch.equal(torch.addcmul(c.to(device), a.to(device), b.to(device)).cpu(), exact)


def _ordered(scores: torch.Tensor) -> torch.Tensor:
    bits = scores.view(torch.int32)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


def _flat(lists: SongLists, first: int, stop: int, songs: int, device: str) -> torch.Tensor:
    """Flat positions of the users' songs in a block of (users, songs)."""
    sizes = np.diff(lists.indptr[first : stop + 1])
    user = np.repeat(np.arange(stop - first), sizes)
    own = lists.songs[lists.indptr[first] : lists.indptr[stop]]
    return torch.from_numpy(user * songs + own).to(device)


def _write_lists(
    lists: RankedLists,
    keys: torch.Tensor,
    scores: torch.Tensor,
    exclude: SongLists,
    first: int,
    stop: int,
) -> None:
    users, songs = keys.shape
    k = lists.indices.shape[1]
    candidates = songs - np.diff(exclude.indptr[first : stop + 1])
    counts = np.minimum(k, candidates)
    best = torch.topk(keys, min(k, songs), dim=1, sorted=True).indices
    indices = np.full((users, k), -1, np.int32)
    listed = np.full((users, k), np.nan, np.float32)
    indices[:, : best.shape[1]] = best.cpu().numpy()
    listed[:, : best.shape[1]] = scores.gather(1, best).cpu().numpy()
    beyond = np.arange(k) >= counts[:, None]
    indices[beyond] = -1
    listed[beyond] = np.nan
    lists.indices[first:stop] = indices
    lists.scores[first:stop] = listed
    lists.candidates[first:stop] = candidates
    lists.counts[first:stop] = counts


def _write_ranks(
    lists: RankedLists,
    keys: torch.Tensor,
    chosen: torch.Tensor,
    positions: torch.Tensor,
    relevant: SongLists,
    first: int,
    stop: int,
) -> None:
    begin, end = relevant.indptr[first], relevant.indptr[stop]
    users, songs = keys.shape
    ranks = torch.empty(len(chosen), dtype=torch.int64, device=keys.device)
    for start in range(0, len(chosen), users):  # as much memory as a block, whoever they are
        some = slice(start, start + users)
        rows = keys[positions[some] // songs]
        ranks[some] = 1 + (rows > chosen[some, None]).sum(dim=1)
    found = ranks.cpu().numpy().astype(np.int32)
    user = np.repeat(np.arange(stop - first), np.diff(relevant.indptr[first : stop + 1]))
    order = np.lexsort((found, user))
    lists.ranks[begin:end] = found[order]
    lists.rank_songs[begin:end] = relevant.songs[begin:end][order]
