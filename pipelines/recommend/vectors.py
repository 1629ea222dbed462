"""What the ranking reads of all songs and of the users, whichever model it ranks by.

Under `genre` a song's vector is its class probabilities, and a user's the play-weighted mean of
those of the profile (paper 3.4); under `blend` both are the blend's, under `network` those of a
training on taste, and the profile only says which songs are no candidates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fusionrec.ranking.protocols import candidate_songs
from fusionrec.tables import matrix
from pipelines import blend, train
from pipelines.config import Config
from pipelines.known_plays import Division
from pipelines.runtime.stage import Stage
from pipelines.runtime.workspace import Workspace


@dataclass(frozen=True)
class Catalogue:
    """What ranking needs of all songs, by song code.

    Attributes
    ----------
    song_ids
        Arrow strings, S of them.
    part
        Object array of the songs' parts, shape (S,).
    has_vector
        Bool, shape (S,).
    candidates
        Int32 song codes, ascending: test songs with a vector.
    cut
        Under a split by time the moment from which on nothing is known, else None.
    """

    song_ids: pa.Array
    part: np.ndarray
    has_vector: np.ndarray
    candidates: np.ndarray
    cut: int | None = None

    @property
    def division(self) -> Division:
        """How plays are divided."""
        return Division(self.part, self.cut)


@dataclass(frozen=True)
class Source:
    """Where a model's song vectors lie.

    Attributes
    ----------
    stage
        What computes them.
    artifact, column
        The Parquet files, in parts aligned with `songs`, and their column of vectors.
    dimension
        The count of the stage's manifest that is their length.
    users
        The artifact of the users' vectors; None where they are made of a profile.
    knows
        What of a user's history they are made of, for who has none.
    """

    stage: Stage
    artifact: str
    column: str
    dimension: str
    users: str | None = None
    knows: str = ""

    @property
    def unknown(self) -> str:
        """Why a user has no list: all songs would have the same score, or one for everybody."""
        return f"no play outside the test part that the {self.knows} can use"


_SOURCES = {
    "genre": Source(train.STAGE, "song_vectors", "probabilities", "classes"),
    "network": Source(
        train.STAGE, "song_vectors", "vector", "dimensions", "user_vectors", "network"
    ),
    "blend": Source(blend.STAGE, "songs", "vector", "dimensions", "users", "blend"),
}


def source(config: Config) -> Source:
    """Where the vectors are that this config ranks by."""
    return source_of(config.recommend.model)


def source_of(model: str) -> Source:
    """The same by the name of the model."""
    return _SOURCES[model]


def song_blocks(config: Config, workspace: Workspace) -> list[list[str]]:
    """The parts of the catalogue by blocks of at most `recommend.block_mb`, one part at least."""
    where = source(config)
    dimension = workspace.require(where.stage.name)["counts"][where.dimension]
    blocks: list[list[str]] = [[]]
    songs = 0
    for name in workspace.parts("ingest", "songs"):
        rows = workspace.read_part("ingest", "songs", name, ["song_id"]).num_rows
        if blocks[-1] and (songs + rows) * dimension * 4 > config.recommend.block_mb << 20:
            blocks.append([])
            songs = 0
        blocks[-1].append(name)
        songs += rows
    return blocks


def read_block(config: Config, workspace: Workspace, names: list[str]) -> np.ndarray:
    """F of the songs of some parts, float32 (songs, d); zeros for a song without a vector."""
    where = source(config)
    columns = ["song_id", where.column]
    blocks = []
    for name in names:
        ids = workspace.read_part("ingest", "songs", name, ["song_id"])["song_id"]
        table = workspace.read_part(where.stage.name, where.artifact, name, columns)
        found = matrix(table[where.column])
        F = np.zeros((len(ids), found.shape[1]), np.float32)
        F[pc.index_in(table["song_id"], value_set=ids.combine_chunks()).to_numpy()] = found
        blocks.append(F)
    return np.concatenate(blocks)


def read_catalogue(model: str, workspace: Workspace) -> Catalogue:
    """All songs with their part, and which have a vector of this model."""
    where = source_of(model)
    ids = workspace.read("ingest", "songs", ["song_id"])["song_id"].combine_chunks()
    division = Division.read(workspace)
    table = workspace.read(where.stage.name, where.artifact, ["song_id"])
    has_vector = np.zeros(len(ids), bool)
    has_vector[pc.index_in(table["song_id"], value_set=ids).to_numpy()] = True
    candidates = candidate_songs(division.part, has_vector)
    return Catalogue(ids, division.part, has_vector, candidates, division.cut)
