"""What a method of the comparison is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fusionrec.ranking.users import user_vectors
from fusionrec.report.summary import ClassMeasures
from pipelines.compare.folds import Evaluation, read_evaluation
from pipelines.config import BlendRun, Config
from pipelines.config.compare import FusionRun
from pipelines.known_plays import Division, divided_plays
from pipelines.runtime.workspace import Workspace


@dataclass(frozen=True)
class Scores:
    """What a method gives the ranking.

    Attributes
    ----------
    F
        Float32, shape (C, d): candidates, in the order of :attr:`Evaluation.candidates`.
    V
        Float32, shape (U, d): users.
    without_input
        Candidates that the method knows nothing of.
    measures
        How well it knows the classes.
    """

    F: np.ndarray
    V: np.ndarray
    without_input: int = 0
    measures: ClassMeasures = field(default_factory=ClassMeasures)


@dataclass(frozen=True)
class Listed:
    """What lists that were made elsewhere give instead.

    Attributes
    ----------
    ranks, songs
        Int32, user by user as :attr:`Evaluation.relevant`: ranks of the relevant songs among the
        listed candidates, ascending, :data:`fusionrec.evaluation.metrics.UNRANKED` for those that
        are not listed; and their song codes.
    first
        Int32 (U, `compare.lists`): the lists, as places in :attr:`Evaluation.candidates`; -1
        beyond the end.
    without_input
        Candidates that are in no list.
    counts
        Users and songs that were not found, by name.
    """

    ranks: np.ndarray
    songs: np.ndarray
    first: np.ndarray
    without_input: int
    counts: Mapping[str, int]


@dataclass(frozen=True)
class Own:
    """A method of one's own.

    Attributes
    ----------
    name
        `module:Name`, as `compare.methods` has it.
    code
        A hash of its code.
    folder
        Where its module, or the outermost package of that, lies.
    seeded
        It has random numbers of its own.
    """

    name: str
    code: str
    folder: str
    seeded: bool = True


@dataclass(frozen=True)
class External:
    """Lists made elsewhere.

    Attributes
    ----------
    file
        A hash of what the file holds.
    lists
        They as codes (:class:`pipelines.compare.external.CodedLists`), in Ray's object store.
    """

    file: str
    lists: Any = field(compare=False)


@dataclass(frozen=True)
class Context:
    """A fold as a method sees it; `config` is the fold's."""

    config: Config
    workspace: Workspace
    seed: int
    fusion: FusionRun | None = None
    blend: BlendRun | None = None
    own: Own | None = None
    external: External | None = None

    @cached_property
    def evaluation(self) -> Evaluation:
        """Users and candidates."""
        return read_evaluation(self.workspace)

    @cached_property
    def _division(self) -> Division:
        return Division.read(self.workspace)

    @cached_property
    def song_ids(self) -> pa.Array:
        """Ids of all songs."""
        return self.column("song_id")

    def column(self, name: str) -> pa.Array:
        """A column of all songs."""
        return self.workspace.read("ingest", "songs", [name])[name].combine_chunks()

    def rows(self, ids: pa.Array | pa.ChunkedArray) -> np.ndarray:
        """Song codes of ids, int64."""
        found: np.ndarray = pc.index_in(ids, value_set=self.song_ids).to_numpy()
        return found

    def plays(self, parts: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Users, songs and counts of all plays of songs in these parts, as the split has them."""
        table = divided_plays(self.workspace, self._division)
        known = np.isin(self.evaluation.part, parts)[table["song"].to_numpy()]
        table = table.filter(pa.array(known))
        users, songs, counts = (table[name].to_numpy() for name in ("user", "song", "plays"))
        return users, songs, counts

    def plays_by_song(self, parts: tuple[str, ...]) -> np.ndarray:
        """Total plays of each song, float64 (S,); 0 for songs of other parts."""
        _, songs, counts = self.plays(parts)
        total: np.ndarray = np.bincount(songs, counts, len(self.evaluation.part))
        return total

    def one_for_all(self, values: np.ndarray) -> Scores:
        """The same order for every user, by these values of all songs."""
        evaluation = self.evaluation
        F = values[evaluation.candidates].astype(np.float32)[:, None]
        return Scores(F, np.ones((len(evaluation.users), 1), np.float32))

    def of_profiles(
        self, F: np.ndarray, without_input: int, measures: ClassMeasures | None = None
    ) -> Scores:
        """Users as play-weighted means of their songs' F, shape (S, d) (paper 3.4)."""
        evaluation, profiles = self.evaluation, self.evaluation.profiles
        V = user_vectors(
            profiles.indptr, profiles.songs, profiles.plays, F, self.config.recommend.weighting
        )
        own = np.ascontiguousarray(F[evaluation.candidates])
        return Scores(own, V, without_input, measures or ClassMeasures())
