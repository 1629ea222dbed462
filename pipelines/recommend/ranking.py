"""Ranking in tasks by song vectors that lie in the object store, in one block or several.

A worker process keeps what it has read for all shards that it ranks; of several blocks it holds
one at a time, and ranks on its CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from fusionrec.ranking.lists import RankedLists
from fusionrec.ranking.packing import PackedSongs
from fusionrec.ranking.protocols import SongLists
from fusionrec.ranking.topk import rank_users
from fusionrec.ranking.topk_blocks import rank_in_blocks
from fusionrec.ranking.users import Weighting, user_vectors
from pipelines.config import Config
from pipelines.recommend.vectors import read_block, song_blocks
from pipelines.runtime import tasks
from pipelines.runtime.workspace import StageRun, Workspace

_NONE = SongLists(np.zeros(1, np.int64), np.empty(0, np.int32), np.empty(0, np.int64))


class Offers(Protocol):
    """What has the `candidates`, int32 song codes, ascending."""

    @property
    def candidates(self) -> np.ndarray: ...


@dataclass(frozen=True)
class StoredSongs:
    """Song vectors as references, and which of them are ranked.

    Attributes
    ----------
    offers
        A reference to what has the candidates.
    blocks
        References to F of all songs, (songs of the block, d), one block after the other.
    gpus
        GPUs of the task that ranks; used where there is one block.
    """

    offers: Any
    blocks: tuple[Any, ...]
    gpus: float

    def rows(self, codes: np.ndarray) -> np.ndarray:
        """F of some songs, by codes that ascend, float32 (codes, d)."""
        if len(self.blocks) == 1:
            found: np.ndarray = _prepared(self.blocks[0], self.offers)[0][codes]
            return found
        return np.concatenate(list(self._rows_by_block(codes)))

    def users(self, profiles: SongLists, weighting: Weighting) -> np.ndarray:
        """Users' vectors, made of those of the songs of their profiles, none of which is empty."""
        needed = np.unique(profiles.songs)
        rows = np.searchsorted(needed, profiles.songs)
        own = self.rows(needed)
        return user_vectors(profiles.indptr, rows, profiles.plays, own, weighting)

    def rank(
        self,
        V: np.ndarray,
        top: int,
        *,
        exclude: SongLists,
        relevant: SongLists | None = None,
    ) -> RankedLists:
        """Rank the candidates for users; `exclude` and `relevant` have columns of them."""
        if len(self.blocks) == 1:
            packed, device = _prepared(self.blocks[0], self.offers)[1], _device(self.gpus)
            return rank_users(V, packed, top, exclude=exclude, relevant=relevant, device=device)
        candidates = held(self.offers).candidates
        if relevant is None:
            relevant = SongLists(np.zeros(len(V) + 1, np.int64), _NONE.songs, _NONE.plays)
        return rank_in_blocks(
            V,
            self._rows_by_block(candidates),
            top,
            exclude=exclude,
            relevant=relevant,
            relevant_vectors=self.rows(candidates[np.unique(relevant.songs)]),
        )

    def _rows_by_block(self, codes: np.ndarray) -> Iterator[np.ndarray]:
        start = 0
        for F in each_block(self.blocks):
            here = codes[(codes >= start) & (codes < start + len(F))]
            yield F[here - start]
            start += len(F)


def submit_blocks(config: Config, workspace: Workspace, run: StageRun) -> tuple[Any, ...]:
    """Read F of all songs into the object store, a block a task."""
    return tuple(
        tasks.submit(run, read_block, config, workspace, names)
        for names in song_blocks(config, workspace)
    )


def each_block(blocks: tuple[Any, ...]) -> Iterator[np.ndarray]:
    """One block of song vectors after the other."""
    for reference in blocks:
        yield tasks.gather([reference])[0]


@lru_cache(maxsize=1)
def held(reference: Any) -> Any:
    """What a worker process reads once, for all shards it ranks."""
    return tasks.gather([reference])[0]


@lru_cache(maxsize=1)
def _prepared(reference: Any, offers: Any) -> tuple[np.ndarray, PackedSongs]:
    """The same of a catalogue of one block: F, and the candidates' rows packed."""
    F: np.ndarray = tasks.gather([reference])[0]
    return F, PackedSongs.of(F[held(offers).candidates])


def _device(num_gpus: float) -> str:
    if not num_gpus:
        return "cpu"
    import torch  # not for workers on CPUs, which need none of it

    return "cuda" if torch.cuda.is_available() else "cpu"
