"""Recommend: every user's top list, by a map over users (paper 3.4).

F of all songs is read once, by one task, into the object store (24 MB for a million songs
and k = 6, with 20 MB of song ids); each task reads the plays of its range of users and
writes their lists, with the ranks of their relevant songs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fusionrec import schemas
from fusionrec.config import Config
from fusionrec.errors import DataError
from fusionrec.ranking.protocols import candidate_songs, profiles_and_relevant
from fusionrec.ranking.topk import PackedSongs, RankedLists, rank_users
from fusionrec.ranking.users import user_vectors
from pipelines import cluster
from pipelines.stage import Counts, Stage, resumable
from pipelines.tables import matrix
from pipelines.workspace import StageRun, Workspace


@dataclass(frozen=True)
class Catalogue:
    """What ranking needs of all songs, by song code.

    Attributes
    ----------
    song_ids
        Arrow strings, S of them.
    F
        Float32, shape (S, k); zeros for a song without a vector.
    part
        Object array of the songs' parts, shape (S,).
    has_vector
        Bool, shape (S,).
    candidates
        Int32 song codes, ascending: test songs with a vector.
    """

    song_ids: pa.Array
    F: np.ndarray
    part: np.ndarray
    has_vector: np.ndarray
    candidates: np.ndarray


def work(config: Config, workspace: Workspace, run: StageRun) -> Counts:
    """Rank all users, a range of user codes a task."""
    users = workspace.require("ingest")["counts"]["users"]
    size = config.recommend.users_per_shard
    shards = [
        {"part": i, "start": start, "stop": min(users, start + size)}
        for i, start in enumerate(range(0, users, size))
    ]
    catalogue = cluster.submit(read_catalogue, workspace)
    reports = cluster.map_tasks(
        resumable(run, "recommendations", partial(_rank_shard, config, run, catalogue)),
        shards,
        description="ranking users",
    )
    counts: Counts = {
        name: sum(report[name] for report in reports)
        for name in ("users", "ranked", "plays_without_vector")
    }
    reasons = [report["left_out"] for report in reports]
    left_out = {reason: sum(r[reason] for r in reasons) for reason in (reasons or [{}])[0]}
    if counts.get("ranked", 0) == 0:
        raise DataError(
            f"none of {users:,} users can be evaluated ({left_out}); the protocol "
            f"{config.recommend.protocol!r} needs plays of test songs: use more plays, "
            "a larger test part (split.folds) or another recommend.protocol"
        )
    return {**counts, "users_left_out": left_out, "candidates": reports[0]["candidates"]}


def read_catalogue(workspace: Workspace) -> Catalogue:
    """All songs with their F and part."""
    ids = workspace.read("ingest", "songs", ["song_id"])["song_id"].combine_chunks()
    part = workspace.read("split", "split", ["part"])["part"]
    table = workspace.read("train", "song_vectors", ["song_id", "probabilities"])
    rows = pc.index_in(table["song_id"], value_set=ids).to_numpy()
    probabilities = matrix(table["probabilities"])
    F = np.zeros((len(ids), probabilities.shape[1]), np.float32)
    F[rows] = probabilities
    has_vector = np.zeros(len(ids), bool)
    has_vector[rows] = True
    parts = part.to_numpy(zero_copy_only=False)
    return Catalogue(ids, F, parts, has_vector, candidate_songs(parts, has_vector))


@lru_cache(maxsize=1)
def _prepared(reference: Any) -> tuple[Catalogue, PackedSongs]:
    """What a worker process makes once, for all shards it ranks."""
    catalogue: Catalogue = cluster.gather([reference])[0]
    return catalogue, PackedSongs.of(catalogue.F[catalogue.candidates])


def _rank_shard(config: Config, run: StageRun, reference: Any, shard: dict[str, Any]) -> Counts:
    catalogue, candidates = _prepared(reference)
    settings = config.recommend
    start, stop = shard["start"], shard["stop"]
    plays = run.workspace.read(
        "ingest", "plays", filters=[("user", ">=", start), ("user", "<", stop)]
    )
    user_ids = run.workspace.read("ingest", "users")["user_id"].slice(start, stop - start)
    users = profiles_and_relevant(
        plays["user"].to_numpy() - start,
        plays["song"].to_numpy(),
        plays["plays"].to_numpy(),
        part=catalogue.part,
        usable=catalogue.has_vector,
        protocol=settings.protocol,
        user_ids=user_ids,
        song_ids=catalogue.song_ids,
        seed=config.seed,
    )
    profiles, songs = users.profiles, len(catalogue.F)
    V = user_vectors(
        profiles.indptr, profiles.songs, profiles.plays, catalogue.F, settings.weighting
    )
    ranked = rank_users(
        V,
        candidates,
        settings.top,
        exclude=profiles.to_columns(catalogue.candidates, songs),
        relevant=users.relevant.to_columns(catalogue.candidates, songs),
    )
    run.write(
        _table(ranked, user_ids.take(users.users), catalogue), "recommendations", shard["part"]
    )
    silent = stop - start - pc.count_distinct(plays["user"]).as_py()
    return {
        "users": stop - start,
        "ranked": len(users.users),
        "left_out": {**users.left_out, "no play of a known song": silent},
        "plays_without_vector": users.without_vector,
        "candidates": len(catalogue.candidates),
    }


def _table(ranked: RankedLists, user_ids: pa.ChunkedArray, catalogue: Catalogue) -> pa.Table:
    listed = ranked.indices >= 0
    offsets = np.concatenate([[0], np.cumsum(ranked.counts)]).astype(np.int32)
    songs = catalogue.song_ids.take(pa.array(catalogue.candidates[ranked.indices[listed]]))
    rank_offsets = ranked.rank_indptr.astype(np.int32)
    relevant = catalogue.song_ids.take(pa.array(catalogue.candidates[ranked.rank_songs]))
    return pa.Table.from_arrays(
        [
            user_ids.combine_chunks(),
            pa.ListArray.from_arrays(offsets, songs),
            pa.ListArray.from_arrays(offsets, pa.array(ranked.scores[listed])),
            pa.array(ranked.candidates),
            pa.ListArray.from_arrays(rank_offsets, pa.array(ranked.ranks)),
            pa.ListArray.from_arrays(rank_offsets, relevant),
        ],
        schema=schemas.RECOMMENDATIONS,
    )


STAGE = Stage(
    name="recommend",
    needs=lambda config: ("ingest", "split", "train"),
    settings=lambda config: {
        "recommend": config.recommend.model_dump(),
        "seed": config.seed,
    },
    work=work,
)


if __name__ == "__main__":
    from pipelines.cli import stage_main

    stage_main(STAGE.name)
