"""What the trials of a search share: features, classes for each k, and the validation users.

All of it is made once, by tasks, and lies in the object store, from which the trials of a
node read it without a copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fusionrec.errors import DataError
from fusionrec.evaluation.metrics import mean_over_users, per_user_metrics
from fusionrec.hashing import stable_hash
from fusionrec.models.examples import PARTS, Examples, Part, TrainingSet
from fusionrec.models.network import FusionNetwork
from fusionrec.models.settings import FusionSettings
from fusionrec.models.training import predict
from fusionrec.ranking.protocols import SongLists, candidate_songs, profiles_and_relevant
from fusionrec.ranking.topk import rank_users
from fusionrec.ranking.users import Weighting, user_vectors
from pipelines.config import Config, replaced
from pipelines.known_plays import Division, divided_plays_of_users
from pipelines.label import embed_lists, fit_classes, tagged_songs
from pipelines.runtime.workspace import Workspace
from pipelines.train.examples import Songs, fused_blocks, read_songs


@dataclass(frozen=True)
class ValidationRanking:
    """The users whose validation songs give a network its mAP, by the config's protocol.

    Attributes
    ----------
    x, present
        Features of the songs that are candidates or in a profile, (R, D), and their blocks.
    candidates
        The rows of `x` that are candidates, ascending.
    profiles
        H_u, in rows of `x`.
    excluded, relevant
        H_u and R_u as positions in `candidates`.
    """

    x: np.ndarray
    present: np.ndarray
    candidates: np.ndarray
    profiles: SongLists
    excluded: SongLists
    relevant: SongLists
    top: int
    weighting: Weighting

    def mean_average_precision(self, network: FusionNetwork) -> float:
        """mAP at `top` over the users (paper 3.4, 3.3)."""
        F, _ = predict(network, self.x, self.present)
        profiles = self.profiles
        V = user_vectors(profiles.indptr, profiles.songs, profiles.plays, F, self.weighting)
        ranked = rank_users(
            V, F[self.candidates], self.top, exclude=self.excluded, relevant=self.relevant
        )
        columns = per_user_metrics(ranked.rank_indptr, ranked.ranks, ranked.candidates, self.top)
        return float(mean_over_users(columns)["average_precision"])


@dataclass(frozen=True)
class Features:
    """The features of the tagged songs, and who judges what is learned from them.

    Attributes
    ----------
    songs
        The tagged songs of each part.
    tagged
        The index of each of them among all tagged songs, int64, by part.
    blocks
        Columns of each modality.
    """

    songs: dict[Part, Examples]
    tagged: dict[Part, np.ndarray]
    blocks: tuple[int, ...]
    validation: ValidationRanking | None

    def with_classes(self, of_tagged: np.ndarray, k: int, fusion: FusionSettings) -> TrainingSet:
        """The songs with the classes that some clustering gave all tagged songs."""
        train, validation, test = (
            Examples(self.songs[p].x, self.songs[p].present, of_tagged[self.tagged[p]])
            for p in PARTS
        )
        return TrainingSet(train, validation, test, k, fusion)


def load_features(config: Config, workspace: Workspace) -> Features:
    """Read the features of a workspace for the trials of a search."""
    ids = tagged_songs(config, workspace).ids.combine_chunks()
    users = _validation_users(config, workspace) if config.tune.metric == "map" else None
    wanted = ids if users is None else pc.unique(pa.concat_arrays([ids, users.ids]))
    found = read_songs(workspace, wanted)
    index = pc.index_in(found.ids, value_set=ids)
    is_tagged = pc.is_valid(index).to_numpy(zero_copy_only=False)
    index = pc.fill_null(index, -1).to_numpy().astype(np.int64)
    songs: dict[Part, Examples] = {}
    tagged: dict[Part, np.ndarray] = {}
    for part in PARTS:
        rows = (found.part == part) & is_tagged
        none = np.full(int(rows.sum()), -1, np.int64)
        songs[part] = Examples(found.x[rows], found.present[rows], none)
        tagged[part] = index[rows]
    blocks = fused_blocks(workspace)
    validation = users.validation_ranking(config, found) if users is not None else None
    return Features(songs, tagged, blocks, validation)


@dataclass(frozen=True)
class _Users:
    """Profiles and relevant songs in codes of the songs that `ids` names."""

    ids: pa.Array
    candidates: np.ndarray
    profiles: SongLists
    relevant: SongLists

    def validation_ranking(self, config: Config, songs: Songs) -> ValidationRanking:
        row = pc.index_in(self.ids, value_set=songs.ids).to_numpy()
        columns = np.full(len(self.ids), -1, np.int64)
        columns[self.candidates] = np.arange(len(self.candidates))
        count = len(self.ids)
        used = np.sort(row)
        compact = np.searchsorted(used, row)

        def in_rows(lists: SongLists) -> SongLists:
            return SongLists(lists.indptr, compact[lists.songs].astype(np.int32), lists.plays)

        return ValidationRanking(
            songs.x[used],
            songs.present[used],
            compact[self.candidates],
            in_rows(self.profiles),
            self.profiles.to_columns(self.candidates.astype(np.int32), count),
            self.relevant.to_columns(self.candidates.astype(np.int32), count),
            config.recommend.top,
            config.recommend.weighting,
        )


def _validation_users(config: Config, workspace: Workspace) -> _Users:
    """The protocol of the config with the validation songs instead of the test songs."""
    ids = workspace.read("ingest", "songs", ["song_id"])["song_id"].combine_chunks()
    division = Division.of_validation(workspace)
    shifted = division.part
    usable = workspace.read("fuse", "fused", ["present"])["present"].to_numpy(zero_copy_only=False)
    user_ids = workspace.read("ingest", "users")["user_id"].combine_chunks()
    keys = stable_hash(user_ids, seed=config.seed, purpose="tune users")
    chosen = np.sort(np.argsort(keys, kind="stable")[: config.tune.users])
    plays = divided_plays_of_users(workspace, division, chosen)
    users = profiles_and_relevant(
        plays["user"].to_numpy(),
        plays["song"].to_numpy(),
        plays["plays"].to_numpy(),
        part=shifted,
        usable=usable,
        protocol=config.recommend.protocol,
        user_ids=user_ids,
        song_ids=ids,
        seed=config.seed,
    )
    if not len(users.users):
        raise DataError(
            f"none of {len(chosen):,} users can judge a trial ({users.left_out}): the protocol "
            f"{config.recommend.protocol!r} needs plays of validation songs; raise "
            "split.validation or tune.users, or set tune.metric: accuracy"
        )
    candidates = candidate_songs(shifted, usable)
    codes = np.unique(np.concatenate([candidates, users.profiles.songs, users.relevant.songs]))

    def compact(lists: SongLists) -> SongLists:
        columns = np.searchsorted(codes, lists.songs).astype(np.int32)
        return SongLists(lists.indptr, columns, lists.plays)

    return _Users(
        ids.take(pa.array(codes)),
        np.searchsorted(codes, candidates),
        compact(users.profiles),
        compact(users.relevant),
    )


ClassLabels = np.ndarray | str
"""The class of every tagged song, int64; or what makes the number of classes impossible."""


def class_labels(config: Config, workspace: Workspace, ks: Sequence[int]) -> dict[int, ClassLabels]:
    """The labels of each k."""
    songs = tagged_songs(config, workspace)
    list_vectors, _ = embed_lists(config, songs)
    found: dict[int, ClassLabels] = {}
    for k in ks:
        try:
            classes = fit_classes(replaced(config, {"label.k": k}), songs, list_vectors)
            of_list, _ = classes.predict(list_vectors)
            found[k] = of_list[songs.codes].astype(np.int64)
        except DataError as error:
            found[k] = str(error)
    return found
