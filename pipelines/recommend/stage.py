"""Recommend: every user's top list, by a map over users (paper 3.4).

F of all songs is read once into the object store (24 MB for a million songs and k = 6, with
20 MB of song ids); each task reads the plays of its range of users and writes their lists,
with the ranks of their relevant songs. Where F is more than `recommend.block_mb`, it lies there
in blocks of songs, of which a task holds one at a time. Users of a blend, or of a network trained
on taste, have vectors of their own, of which a task reads those of its range. Beside each list is
the profile, and under `genre` F by song number, so that a list is explained without a look at all
songs and plays.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from fusionrec import probes, schemas
from fusionrec.errors import DataError
from fusionrec.ranking.lists import RankedLists, listed_columns
from fusionrec.ranking.protocols import EvaluatedUsers, Protocol, profiles_and_relevant
from pipelines import ingest, split
from pipelines.blend.vectors import read_users
from pipelines.config import Config
from pipelines.ingest.by_user import user_ids_of
from pipelines.known_plays import divided_plays
from pipelines.recommend.ranking import (
    StoredSongs,
    each_block,
    held,
    submit_blocks,
)
from pipelines.recommend.vectors import Catalogue, read_catalogue, song_blocks, source, source_of
from pipelines.runtime import metrics, resources, tasks
from pipelines.runtime.gpus import FASTEST, GpuUse
from pipelines.runtime.rows import write_matrix
from pipelines.runtime.shards import RowsShard, shards_of_rows
from pipelines.runtime.stage import Counts, Stage, processor_lines, resumable
from pipelines.runtime.workspace import StageRun, Workspace

USERS_A_GROUP = 250
"""Users whose lists are read for one of them: 125,000 songs, in 6 ms. A file has the ids of its
songs once a group, and is a tenth to two fifths larger than with one group."""

_SECONDS_A_SCORE = 3e-11
"""Of one core, for one dimension of the score of one user and song (`benchmarks/topk.py`)."""


@dataclass(frozen=True)
class RankReport:
    """Users of a shard, those ranked, and why the others are not; what the ranking was given."""

    users: int
    ranked: int
    left_out: dict[str, int]
    plays_without_vector: int
    candidates: int
    processor: dict[str, int]


def _nobody_ranked(config: Config, users: int, left_out: dict[str, int]) -> DataError:
    # A split by time has one protocol.
    other = "" if config.split.by == "time" else ", or another recommend.protocol"
    return DataError(
        f"none of {users:,} users can be evaluated ({left_out}); the protocol "
        f"{config.recommend.protocol!r} needs plays of test songs: use more plays, or a larger "
        f"test part ({split.size_key(config)}){other}"
    )


def work(config: Config, workspace: Workspace, run: StageRun) -> Counts:
    """Rank all users, a range of user codes a task."""
    users = workspace.require("ingest")["counts"]["users"]
    catalogue = tasks.submit(run, read_catalogue, config.recommend.model, workspace)
    blocks = submit_blocks(config, workspace, run)
    songs = StoredSongs(catalogue, blocks, run.gpus)
    reports = tasks.map_tasks(
        run,
        resumable(
            run,
            "recommendations",
            partial(_rank_shard, config, run, songs),
            RankReport,
        ),
        shards_of_rows(users, config.recommend.users_per_shard),
        description="ranking users",
        num_gpus=run.gpus,
    )
    if config.recommend.model == "genre":
        tasks.run_task(run, write_vectors, run, blocks)
    processor = processor_lines(reports)
    ranked = sum(report.ranked for report in reports)
    reasons = [report.left_out for report in reports]
    left_out = {reason: sum(r[reason] for r in reasons) for reason in (reasons or [{}])[0]}
    if ranked == 0:
        raise _nobody_ranked(config, users, left_out)
    return {
        "users": sum(report.users for report in reports),
        "ranked": ranked,
        "plays_without_vector": sum(report.plays_without_vector for report in reports),
        "users_left_out": left_out,
        "candidates": reports[0].candidates,
        "ranker": processor,
    }


def write_vectors(run: StageRun, blocks: tuple[Any, ...]) -> None:
    """F of all songs by number, 24 MB for a million songs and k = 6: it explains the lists."""
    write_matrix(run, np.concatenate(list(each_block(blocks))), "vectors")


def _rank(
    config: Config, users: EvaluatedUsers, V: np.ndarray | None, songs: StoredSongs
) -> RankedLists:
    """Rank a shard's users, with one block of songs in memory at a time.

    V has a row for each of them; where it is None, it is made of their profiles.
    """
    catalogue: Catalogue = held(songs.offers)
    candidates, every, profiles = catalogue.candidates, len(catalogue.part), users.profiles
    if V is None:
        V = songs.users(profiles, config.recommend.weighting)
    return songs.rank(
        V,
        config.recommend.top,
        exclude=profiles.to_columns(candidates, every),
        relevant=users.relevant.to_columns(candidates, every),
    )


def _rank_shard(config: Config, run: StageRun, songs: StoredSongs, shard: RowsShard) -> RankReport:
    catalogue: Catalogue = held(songs.offers)
    start, stop = shard.start, shard.stop
    user_ids = user_ids_of(run.workspace, start, stop)
    users, V, left_out = _evaluated(
        run.workspace,
        catalogue,
        config.recommend.model,
        config.recommend.protocol,
        config.seed,
        shard,
        user_ids,
    )
    ranked = _rank(config, users, V, songs)
    table = _table(ranked, users, start, user_ids.take(users.users), catalogue)
    # First: a shard is finished where its lists are there.
    run.write(_without_list(left_out, start), "left_out", shard.part)
    run.write(table, "recommendations", shard.part, group=USERS_A_GROUP)
    metrics.count("fusionrec_users_ranked", len(users.users))
    return RankReport(
        stop - start,
        len(users.users),
        {reason: len(codes) for reason, codes in left_out.items()},
        users.without_vector,
        len(catalogue.candidates),
        probes.lines("ranking"),
    )


def _without_list(left_out: dict[str, np.ndarray], start: int) -> pa.Table:
    """Users of a shard that have no list, each for one reason; codes in it count from `start`."""
    codes = np.concatenate([np.zeros(0, np.int32), *left_out.values()])
    reasons = np.repeat(np.array([*left_out], object), [len(users) for users in left_out.values()])
    order = np.argsort(codes)
    columns = [pa.array(codes[order] + start, pa.int32()), pa.array(reasons[order], pa.string())]
    return pa.Table.from_arrays(columns, schema=schemas.LEFT_OUT)


def _evaluated(
    workspace: Workspace,
    catalogue: Catalogue,
    model: str,
    protocol: Protocol,
    seed: int,
    shard: RowsShard,
    user_ids: pa.ChunkedArray,
) -> tuple[EvaluatedUsers, np.ndarray | None, dict[str, np.ndarray]]:
    """Users of a range that get a list, their vectors if they have their own, and who does not.

    The latter by reason; all by numbers in the range.
    """
    start, stop = shard.start, shard.stop
    plays = divided_plays(workspace, catalogue.division, start, stop)
    users = profiles_and_relevant(
        plays["user"].to_numpy() - start,
        plays["song"].to_numpy(),
        plays["plays"].to_numpy(),
        part=catalogue.part,
        usable=catalogue.has_vector,
        protocol=protocol,
        user_ids=user_ids,
        song_ids=catalogue.song_ids,
        seed=seed,
    )
    silent = np.setdiff1d(np.arange(stop - start), plays["user"].to_numpy() - start)
    left_out = {**users.without, "no play of a known song": silent}
    where = source_of(model)
    if where.users is None:
        return users, None, left_out
    V = read_users(workspace, start, stop, where.stage.name, where.users)[users.users]
    known = (V != 0).any(axis=1)
    left_out[where.unknown] = users.users[~known]
    return users.of(known), V[known], left_out


def _table(
    ranked: RankedLists,
    users: EvaluatedUsers,
    start: int,
    user_ids: pa.ChunkedArray,
    catalogue: Catalogue,
) -> pa.Table:
    """Lists of users, whose codes count from `start`."""
    songs, scores = listed_columns(
        ranked.indices, ranked.scores, ranked.counts, catalogue.candidates, catalogue.song_ids
    )
    rank_offsets = ranked.rank_indptr.astype(np.int32)
    relevant = catalogue.song_ids.take(pa.array(catalogue.candidates[ranked.rank_songs]))
    profiles = users.profiles
    profile_offsets = profiles.indptr.astype(np.int32)
    return pa.Table.from_arrays(
        [
            user_ids.combine_chunks(),
            pa.array(users.users + start, pa.int32()),
            songs,
            scores,
            pa.array(ranked.candidates),
            pa.ListArray.from_arrays(rank_offsets, pa.array(ranked.ranks)),
            pa.ListArray.from_arrays(rank_offsets, relevant),
            pa.ListArray.from_arrays(profile_offsets, pa.array(profiles.songs, pa.int32())),
            pa.ListArray.from_arrays(profile_offsets, pa.array(profiles.plays, pa.int64())),
        ],
        schema=schemas.RECOMMENDATIONS,
    )


def _on_cpus(config: Config, workspace: Workspace, rate: float) -> str | None:
    """Why lists are ranked on CPUs though there is a GPU.

    A GPU adds one dimension of all scores at a time, 8 bytes of its memory a score; so an H100 is
    worth some 10 cores, by this arithmetic, and a small one is worth one.
    """
    cpus, gpus, worth = resources.cpus(), resources.gpus(), rate / 8 * _SECONDS_A_SCORE
    if cpus > gpus * worth:
        most = "at most " * (rate == FASTEST)  # no GPU was timed
        return f"{gpus:g} GPU, worth {most}{worth:.0f} CPUs each in ranking, beside {cpus} CPUs"
    if len(song_blocks(config, workspace)) > 1:
        return "a catalogue of several blocks (recommend.block_mb) is ranked on CPUs"
    return None


def _settings(config: Config) -> dict[str, Any]:
    """Without the weights of a profile's songs where a user's vector is not made of them."""
    moving = {"block_mb", "num_gpus"}
    unused = set() if source(config).users is None else {"weighting"}
    return {"recommend": config.recommend.model_dump(exclude=moving | unused), "seed": config.seed}


GPUS = GpuUse("recommend.num_gpus", "a task", auto=0.25, on_cpus=_on_cpus)

STAGE = Stage(
    name="recommend",
    needs=lambda config: (ingest.STAGE, split.STAGE, source(config).stage),
    settings=_settings,
    work=work,
    gpus=GPUS,
    version=4,
)
