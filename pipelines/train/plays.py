"""The plays that training on taste may see, and their factors.

Those of training and validation songs, under every protocol: as for a blend, no play of a test
song, nor of one in no part of the split, is seen; under a split by time none at the cut or later
(:mod:`pipelines.known_plays`). A user is known by the same plays.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from fusionrec.baselines.factorisation import factorise, factorise_in_blocks
from fusionrec.signals.taste import BLOCK
from pipelines.blend.blocks import InTasks
from pipelines.config import Config
from pipelines.known_plays import Division, known_plays
from pipelines.runtime import tasks
from pipelines.runtime.rows import matrix_blocks, write_matrix
from pipelines.runtime.shards import Shard, Written
from pipelines.runtime.stage import resumable
from pipelines.runtime.workspace import StageRun, Workspace

HISTORY = "history"
"""What each song is in a history, by number; zeros for one that is in none. Under `factors` the
factors themselves."""

VECTORS = "vectors"
"""F(s) by number, zeros for a song without features."""

FACTORS = "factors"
"""Under `ranking`: the factors, which the work alone reads."""

USER = ("users", "arrays.safetensors")
"""What makes a user's vector of a history, beside it."""


@dataclass(frozen=True)
class Plays:
    """Rows of users, songs and counts, shape (rows,); `shape` is of all users and songs."""

    users: np.ndarray
    songs: np.ndarray
    counts: np.ndarray
    shape: tuple[int, int]


def read_plays(workspace: Workspace, start: int = 0, stop: int | None = None) -> Plays:
    """The plays that may be seen, of the users from `start` to before `stop`, by their codes.

    Parameters
    ----------
    stop
        None for all users.
    """
    users = workspace.require("ingest")["counts"]["users"]
    division = Division.read(workspace)
    table = known_plays(workspace, division, start, stop)
    user, song, plays = (table[name].to_numpy() for name in ("user", "song", "plays"))
    return Plays(user, song, plays, (users, len(division.part)))


def factors_artifact(config: Config) -> str:
    """Where the factors of all songs are."""
    return HISTORY if config.train.objective == "factors" else FACTORS


def write_factors(config: Config, run: StageRun) -> None:
    """Factorise the plays; by tasks where they are more than a block."""
    work = resumable(run, FACTORS, partial(_write_factors, config, run), Written)
    tasks.run_task(run, work, Shard(0))


def _write_factors(config: Config, run: StageRun, shard: Shard) -> Written:
    plays = read_plays(run.workspace)
    solve = factorise
    if len(plays.users) > BLOCK:
        solve = partial(factorise_in_blocks, block=BLOCK, sweeper=InTasks(run))
    Y = solve(
        plays.users,
        plays.songs,
        plays.counts,
        shape=plays.shape,
        **config.train.wmf.model_dump(),
        seed=config.seed,
    ).songs
    write_matrix(run, Y, factors_artifact(config))
    if config.train.objective == "factors":
        wide = Y.astype(np.float64)
        run.write_arrays({"gram": (wide.T @ wide).astype(np.float32)}, *USER)
    return Written(len(Y))


def read_vectors(workspace: Workspace, artifact: str) -> np.ndarray:
    """A matrix of all songs, float32 (S, d)."""
    songs = workspace.require("ingest")["counts"]["songs"]
    return np.concatenate([*matrix_blocks(workspace, "train", artifact, songs)])
