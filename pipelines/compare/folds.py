"""The folds of a comparison: what each method of one shares, as stages of the fold's config.

A fold has its own split, encoder, features, labels, audio words, users and factors, which lie in
the workspace beside those of other configs. Whatever a fold's models are fitted on, they never see
a play or a tag of its test songs. A split by time is a single fold, whose models see no play at its
cut or later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from fusionrec import schemas
from fusionrec.errors import DataError
from fusionrec.hashing import stable_hash
from fusionrec.ranking.protocols import SongLists, candidate_songs, profiles_and_relevant
from fusionrec.ranking.split import SplitBy
from pipelines import embed, fuse, ingest, label, pretrain, split
from pipelines.compare import audio_words
from pipelines.config import Config, replaced
from pipelines.config.features import Modality, Operator
from pipelines.config.sources import SplitConfig
from pipelines.ingest.by_user import user_ids_of
from pipelines.known_plays import LEARNED_FROM, Division, divided_plays
from pipelines.runtime import tasks
from pipelines.runtime.shards import RowsShard, shards_of_rows
from pipelines.runtime.stage import Counts, Plans, Stage, resumable
from pipelines.runtime.workspace import StageRun, Workspace

_USERS_PER_SHARD = 20_000


@dataclass(frozen=True)
class Fold:
    """One split of the songs with one of its folds as the test part.

    Attributes
    ----------
    again
        How many times the songs had been cut into folds before; each time has a seed of its own.
    """

    by: SplitBy
    number: int
    again: int = 0

    def config(self, config: Config) -> Config:
        """The config of its stages: van den Oord's protocol, nothing fitted on test songs."""
        values = {
            "seed": config.seed + self.again,
            "split.by": self.by,
            "split.test_fold": self.number,
            "recommend.protocol": "oord",
            "label.fit_on": "train",
        }
        if self.by == "time":  # one cut: how many folds the others have means nothing to it
            values["split.folds"] = SplitConfig.model_fields["folds"].default
        return replaced(config, values)


def _shared(config: Config) -> list[Stage]:
    """What all methods of a fold read, or may read."""
    words = [audio_words.STAGE] if set(config.compare.methods) & {"mlr", "linear", "mlp"} else []
    return [USERS, FACTORS, *words]


def fold_workspace(chosen: Config, workspace: Workspace) -> Workspace:
    """The workspace as the methods of a fold see it, given the fold's config."""
    known: Plans = {}
    for stage in _shared(chosen):
        workspace = stage.plan(chosen, workspace, known=known).reading(workspace)
    return workspace


def features_workspace(
    chosen: Config,
    workspace: Workspace,
    modalities: Sequence[str],
    operator: Operator = "concatenate",
) -> Workspace:
    """The fold's workspace with the features of these modalities, as an operator fuses them."""
    return fuse.STAGE.plan(_fused(chosen, modalities, operator), workspace).reading(workspace)


def labels_workspace(chosen: Config, workspace: Workspace, k: int) -> Workspace:
    """The fold's workspace with its k classes."""
    return label.STAGE.plan(replaced(chosen, {"label.k": k}), workspace).reading(workspace)


def _fused(chosen: Config, modalities: Sequence[str], operator: Operator) -> Config:
    return replaced(chosen, {"fuse.modalities": modalities, "fuse.operator": operator})


def prepare(config: Config, fold: Fold, run: StageRun) -> dict[int, str]:
    """Bring up to date what the config's methods share; the reason by k that cannot be had."""
    chosen, compare = fold.config(config), config.compare

    def finish(stage: Stage, config: Config) -> None:
        run.use(stage.run(config, run.workspace, current=False))

    finish(split.STAGE, chosen)
    for stage in _shared(chosen):
        finish(stage, chosen)
    if pretrain.STAGE in embed.STAGE.needs(chosen):
        finish(pretrain.STAGE, chosen)
    finish(embed.STAGE, chosen)
    sets: set[tuple[tuple[Modality, ...], Operator]] = {(config.embed.modalities, "concatenate")}
    sets |= {(run.modalities, run.operator) for run in compare.fusion}
    for modalities, operator in sorted(sets):
        finish(fuse.STAGE, _fused(chosen, modalities, operator))
    impossible = {}
    for k in sorted({run.k for run in compare.fusion}):
        try:
            finish(label.STAGE, replaced(chosen, {"label.k": k}))
        except DataError as error:
            impossible[k] = str(error)
    return impossible


# --- users -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Evaluation:
    """The users of a fold and its candidates.

    Attributes
    ----------
    users
        User codes, int32 (U,).
    profiles
        H_u, song codes.
    relevant
        R_u, places in `candidates`.
    candidates
        Song codes, int32 (C,), ascending: all test songs.
    part
        Parts of all songs, object (S,).
    """

    users: np.ndarray
    profiles: SongLists
    relevant: SongLists
    candidates: np.ndarray
    part: np.ndarray


def read_evaluation(workspace: Workspace) -> Evaluation:
    """What :data:`USERS` wrote."""
    part = workspace.read("split", "split", ["part"])["part"].to_numpy(zero_copy_only=False)
    table = workspace.read("users", "users").combine_chunks()
    candidates = candidate_songs(part, np.ones(len(part), bool))
    profiles = _lists(table["profile"], table["plays"])
    relevant = _lists(table["relevant"], None).to_columns(candidates, len(part))
    return Evaluation(table["user"].to_numpy(), profiles, relevant, candidates, part)


def _lists(songs: pa.ChunkedArray, plays: pa.ChunkedArray | None) -> SongLists:
    lengths = pc.list_value_length(songs).to_numpy()
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    flat = pc.list_flatten(songs).to_numpy()
    ones = np.ones(len(flat), np.int64)
    return SongLists(indptr, flat, ones if plays is None else pc.list_flatten(plays).to_numpy())


@dataclass(frozen=True)
class UsersReport:
    """Users of a shard who can be evaluated, and why the others can not."""

    users: int
    left_out: dict[str, int]


def _choose_users(config: Config, workspace: Workspace, run: StageRun) -> Counts:
    users = workspace.require("ingest")["counts"]["users"]
    reports = tasks.map_tasks(
        run,
        resumable(run, "shards", partial(_users_shard, config, run), UsersReport),
        shards_of_rows(users, _USERS_PER_SHARD),
        description="users of the comparison",
    )
    counts = tasks.run_task(run, _merge_users, config, run)
    reasons = [report.left_out for report in reports]
    left_out = {reason: sum(r[reason] for r in reasons) for reason in (reasons or [{}])[0]}
    evaluable = sum(report.users for report in reports)
    if not evaluable:
        raise DataError(
            f"none of {users:,} users has plays of both training and test songs ({left_out}): "
            f"use more plays, or a larger test part ({split.size_key(config)})"
        )
    return {**counts, "users_of_corpus": users, "evaluable": evaluable, "users_left_out": left_out}


def _users_shard(config: Config, run: StageRun, shard: RowsShard) -> UsersReport:
    """A range of users; the `compare.users` first by hash are written."""
    start, stop = shard.start, shard.stop
    workspace = run.workspace
    division = Division.read(workspace)
    part, plays = division.part, divided_plays(workspace, division, start, stop)
    names = user_ids_of(workspace, start, stop)
    found = profiles_and_relevant(
        plays["user"].to_numpy() - start,
        plays["song"].to_numpy(),
        plays["plays"].to_numpy(),
        part=part,
        usable=np.ones(len(part), bool),
        protocol="oord",
        user_ids=names,
        song_ids=(),  # only halves of a user's songs are cut by their ids
        seed=config.seed,
    )
    key = stable_hash(
        names.take(pa.array(found.users)).to_pylist(), seed=config.seed, purpose="comparison"
    )
    columns = [
        pa.array(found.users + start, pa.int32()),
        *(
            pa.ListArray.from_arrays(pa.array(lists.indptr, pa.int32()), pa.array(values))
            for lists, values in (
                (found.profiles, found.profiles.songs),
                (found.profiles, found.profiles.plays),
                (found.relevant, found.relevant.songs),
            )
        ),
    ]
    table = pa.Table.from_arrays(columns, schema=schemas.EVALUATED_USERS)
    table = table.append_column("key", pa.array(key))
    first = np.sort(np.argsort(key, kind="stable")[: config.compare.users])
    run.write(table.take(pa.array(first)), "shards", shard.part)
    silent = stop - start - pc.count_distinct(plays["user"]).as_py()
    return UsersReport(len(key), {"no known song": silent, **found.left_out})


def _merge_users(config: Config, run: StageRun) -> Counts:
    if run.has("users", 0):
        table = run.workspace.read(run.stage, "users")
    else:
        table = run.workspace.read(run.stage, "shards").combine_chunks()
        order = np.argsort(table["key"].to_numpy(), kind="stable")[: config.compare.users]
        table = table.take(pa.array(np.sort(order))).drop_columns(["key"])
        run.write(table, "users")
    relevant = pc.list_value_length(table["relevant"]).to_numpy()
    if not len(relevant):
        return {"users": 0}
    shares = (0.0, 0.25, 0.5, 0.75, 0.95, 1.0)
    quantiles = np.quantile(relevant, shares, method="inverted_cdf")
    return {
        "users": len(relevant),
        "relevant_mean": float(relevant.mean()),
        "relevant_quantiles": {str(q): int(v) for q, v in zip(shares, quantiles, strict=True)},
    }


USERS = Stage(
    name="users",
    needs=lambda config: (ingest.STAGE, split.STAGE),
    settings=lambda config: {"users": config.compare.users, "seed": config.seed},
    work=_choose_users,
    staging=("shards",),
)


# --- factors -----------------------------------------------------------------------------


def _factorise(config: Config, workspace: Workspace, run: StageRun) -> Counts:
    scopes = {config.compare.wmf.scope, "train", "all"}
    references = [
        tasks.submit(run, _factorise_scope, config, run, scope) for scope in sorted(scopes)
    ]
    found: list[Counts] = tasks.gather(references)
    return {name: value for counts in found for name, value in counts.items()}


def _factorise_scope(config: Config, run: StageRun, scope: str) -> Counts:
    """Factors of the users and songs; zeros for a song whose plays are not in the scope."""
    from fusionrec.baselines.factorisation import factorise

    workspace, wmf = run.workspace, config.compare.wmf
    division = Division.read(workspace)
    part, plays = division.part, divided_plays(workspace, division)
    users, songs, counts = (plays[name].to_numpy() for name in ("user", "song", "plays"))
    known = np.isin(part, LEARNED_FROM if scope == "train" else split.PARTS)
    rows = known[songs]
    factors = factorise(
        users[rows],
        songs[rows],
        counts[rows],
        shape=(workspace.require("ingest")["counts"]["users"], len(part)),
        factors=wmf.factors,
        alpha=wmf.alpha,
        epsilon=wmf.epsilon,
        regularisation=wmf.regularisation,
        iterations=wmf.iterations,
        seed=config.seed,
    )
    arrays = {"users": factors.users, "songs": factors.songs}
    run.write_bytes(save_safetensors(arrays), f"{scope}.safetensors")
    return {f"plays_{scope}": int(rows.sum())}


def read_factors(workspace: Workspace, scope: str) -> tuple[np.ndarray, np.ndarray]:
    """Float32 factors of all users (U, f) and songs (S, f)."""
    arrays = load_safetensors(workspace.read_bytes("factors", f"{scope}.safetensors"))
    return arrays["users"], arrays["songs"]


FACTORS = Stage(
    name="factors",
    needs=lambda config: (ingest.STAGE, split.STAGE),
    settings=lambda config: {
        "wmf": config.compare.wmf.model_dump(exclude={"scope"}),
        "seed": config.seed,
    },
    work=_factorise,
)
