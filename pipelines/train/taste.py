"""Training on users' taste instead of classes: `train.objective: factors` and `ranking`.

Under `factors` the network predicts the songs' latent factors of the plays; under `ranking` it is
the song tower of two, of which the other makes a user of the songs played. Then the vectors of all
songs, by their content alone, and of all users, by the plays that may be seen
(:mod:`pipelines.train.plays`). Each worker holds the features and, under `ranking`, the plays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from safetensors.torch import save as save_safetensors

from fusionrec import probes, schemas
from fusionrec.baselines.factor_loss import Feedback
from fusionrec.baselines.factorisation import confidence
from fusionrec.errors import ConfigError
from fusionrec.models.ranking import RankingModel, RankingTraining
from fusionrec.models.settings import RankingSettings, Settings
from fusionrec.models.song_tower import SongInputs
from fusionrec.models.to_factors import FactorTower, FactorTraining
from fusionrec.signals.histories import Histories
from fusionrec.tables import flags, matrix, vectors
from pipelines.blend.vectors import USERS_A_PART, read_users
from pipelines.config import Config
from pipelines.opened.models import DESCRIPTION, WEIGHTS, load_factor_tower, load_ranking_model
from pipelines.runtime import distributed, progress, sharding, tasks
from pipelines.runtime.rows import write_matrix
from pipelines.runtime.shards import Shard, Written, shards_of
from pipelines.runtime.stage import Counts, logged, resumable
from pipelines.runtime.workspace import StageRun, Workspace, part_name
from pipelines.train.epochs import halves_for_all, kept_row, train_to_the_end
from pipelines.train.examples import fused_blocks, fusion_settings, read_songs
from pipelines.train.plays import (
    HISTORY,
    USER,
    VECTORS,
    factors_artifact,
    read_plays,
    read_vectors,
    write_factors,
)
from pipelines.train.threads import threads_of
from pipelines.train.users import write_users

MOVING = {"workers", "threads", "num_gpus", "in_memory_mb", "checkpoint_every"}
"""What only moves the work around, whatever is learned."""
_OF_CLASSES = {"class_weights", "label_smoothing"}
_OF_SONGS = {"epochs", "batch_size", "eta_batch"}
"""What trainings on songs read: those on plays have their own."""


@dataclass(frozen=True)
class TasteJob:
    """What the workers train."""

    config: Config
    run: StageRun


@dataclass(frozen=True)
class Inputs:
    """What is learned from: songs of the split that have features.

    Attributes
    ----------
    songs
        Their features.
    codes
        Of each in the catalogue, ascending, shape (n,).
    parts
        Rows of the training, validation and test songs.
    """

    songs: SongInputs
    codes: np.ndarray
    parts: dict[str, np.ndarray]


def work(config: Config, workspace: Workspace, run: StageRun) -> Counts:
    """Factorise the plays, train, and compute all songs' and users' vectors."""
    _require_memory(config, workspace)
    objective = config.train.objective
    write_factors(config, run)
    # Users of factors are made of these alone, and the loss may need them.
    before = write_users(config, run) if objective == "factors" else None
    with progress.watched(run, "training"):
        result = distributed.run(
            _train,
            TasteJob(config, run),
            run,
            workers=config.train.workers,
            num_gpus=run.gpus,
            threads=threads_of(config.train, num_gpus=run.gpus, custom=run.resources),
            patience=config.cluster.patience,
        )
    sharding.map_shards(
        run,
        resumable(run, "song_vectors", partial(_write_songs, objective, run), Written),
        shards_of(workspace, "fuse", "fused"),
        description="song vectors",
    )
    by_number = resumable(run, VECTORS, partial(_write_rows, config, run), Written)
    tasks.run_task(run, by_number, Shard(0))
    users = before or write_users(config, run)
    wmf = config.train.wmf.model_dump(include={"alpha", "epsilon", "regularisation"})
    about = {
        "objective": objective,
        "loss": config.train.towers.loss,
        "users_a_part": USERS_A_PART,
        **wmf,
    }
    run.write_json(about, "users", "about.json")
    return {**result, "processor": logged(cast(dict[str, int], result["processor"])), **users}


def key_settings(config: Config) -> dict[str, Any]:
    """What of `train` the result depends on."""
    train = config.train
    if train.objective == "factors":
        own = train.model_dump(exclude=MOVING | _OF_CLASSES | {"towers"})
        return {**own, "towers": train.towers.model_dump(include={"loss"})}
    own = train.model_dump(exclude=MOVING | _OF_CLASSES | {"towers", *_OF_SONGS})
    return {**own, "towers": train.towers.model_dump(exclude={"loss"})}


def settings_of(config: Config) -> Settings:
    """The hyperparameters; those that mean nothing here are as they are by default."""
    settings = config.train.fill(Settings, seed=config.seed)
    unread = _OF_CLASSES
    if config.train.objective == "ranking":
        settings = replace(settings, epochs=config.train.towers.epochs)
        unread = unread | {"batch_size", "eta_batch"}
    return replace(settings, **{name: getattr(Settings(), name) for name in unread})


def _require_memory(config: Config, workspace: Workspace) -> None:
    fused = workspace.require("fuse")["counts"]
    megabytes = fused["songs_with_features"] * fused["components"] * 4 / 2**20
    if megabytes > config.train.in_memory_mb:
        raise ConfigError(
            f"train.objective: {config.train.objective} holds all features in each worker, "
            f"{megabytes:,.0f} MB, and train.in_memory_mb is {config.train.in_memory_mb}: raise "
            "it, or set train.objective: genre, whose features are streamed"
        )


# --- the training ------------------------------------------------------------------------


def read_inputs(config: Config, workspace: Workspace) -> Inputs:
    """Read them."""
    songs = read_songs(workspace)
    ids = workspace.read("ingest", "songs", ["song_id"])["song_id"].combine_chunks()
    codes = pc.index_in(songs.ids, value_set=ids).to_numpy()
    fusion = fusion_settings(config, fused_blocks(workspace))
    parts = {name: np.flatnonzero(songs.part == name) for name in ("train", "validation", "test")}
    return Inputs(SongInputs(songs.x, songs.present, fusion), codes, parts)


def _train(job: TasteJob, worker: distributed.Worker) -> Counts:
    run, config = job.run, job.config
    settings = settings_of(config)
    if settings.dtype == "auto":  # a checkpoint is not gone on with in another precision
        halves = halves_for_all(worker.collective, worker.device)
        halves = run.choose("precision", lambda: halves)
        settings = replace(settings, dtype="bfloat16" if halves else "float32")
    inputs = read_inputs(config, run.workspace)
    training = _OF[config.train.objective](config, run.workspace, inputs, settings, worker)
    resumed = train_to_the_end(training, run, config.train.checkpoint_every)
    model, last = training.result(), training.curve[-1]
    if worker.collective.rank == 0:
        _save(run, model, settings)
    kept = kept_row(training)
    return {
        "objective": config.train.objective,
        "workers": config.train.workers,
        "threads": torch.get_num_threads(),
        "device": worker.device,
        "processor": probes.lines("training"),
        "epochs": training.epoch,
        "kept_epoch": kept.epoch,
        "best_epoch": training.best_epoch,
        "loss": last.loss,
        "validation_loss": kept.validation_loss,
        "resumed_after_epoch": resumed,
        "parameters": sum(p.numel() for p in training.module.parameters()),
        "dimensions": _dimensions(config),
        **{f"{part}_songs": len(rows) for part, rows in inputs.parts.items()},
    }


def _dimensions(config: Config) -> int:
    if config.train.objective == "factors":
        return config.train.wmf.factors
    return config.train.towers.dimensions + 1  # a song's bias


def _to_factors(
    config: Config,
    workspace: Workspace,
    inputs: Inputs,
    settings: Settings,
    worker: distributed.Worker,
) -> FactorTraining:
    Y, loss = read_vectors(workspace, factors_artifact(config)), config.train.towers.loss
    return FactorTraining(
        inputs.songs,
        Y[inputs.codes],
        train=inputs.parts["train"],
        validation=inputs.parts["validation"],
        loss=loss,
        settings=settings,
        feedback=_feedback(config, workspace, inputs) if loss == "wpe" else None,
        collective=worker.collective,
        device=worker.device,
    )


def _feedback(config: Config, workspace: Workspace, inputs: Inputs) -> Feedback:
    """Who plays each of the songs, with what confidence."""
    plays, wmf = read_plays(workspace), config.train.wmf
    X = read_users(workspace, 0, plays.shape[0], "train", "user_vectors")
    row = np.full(plays.shape[1], -1)
    row[inputs.codes] = np.arange(len(inputs.codes))
    kept = row[plays.songs] >= 0
    c = confidence(plays.counts[kept], wmf.alpha, wmf.epsilon)
    return Feedback.by_song(X, row[plays.songs[kept]], plays.users[kept], c, len(inputs.codes))


def _to_rank(
    config: Config,
    workspace: Workspace,
    inputs: Inputs,
    settings: Settings,
    worker: distributed.Worker,
) -> RankingTraining:
    plays, Y = read_plays(workspace), read_vectors(workspace, factors_artifact(config))
    row = np.full(plays.shape[1], -1)
    row[inputs.codes] = np.arange(len(inputs.codes))
    kept = row[plays.songs] >= 0
    shape = (plays.shape[0], len(inputs.codes))
    return RankingTraining(
        inputs.songs,
        Histories.of(plays.users[kept], row[plays.songs[kept]], plays.counts[kept], shape),
        Y[inputs.codes],
        train=inputs.parts["train"],
        validation=inputs.parts["validation"],
        settings=settings,
        ranking=config.train.towers.fill(RankingSettings),
        collective=worker.collective,
        device=worker.device,
    )


_OF: dict[str, Callable[..., FactorTraining | RankingTraining]] = {
    "factors": _to_factors,
    "ranking": _to_rank,
}


def _save(run: StageRun, model: FactorTower | RankingModel, settings: Settings) -> None:
    run.write_bytes(save_safetensors(model.tensors()), *WEIGHTS)
    run.write_json({"model": model.description(), "settings": asdict(settings)}, *DESCRIPTION)
    if isinstance(model, RankingModel):
        attention = model.attention
        arrays = {"query": attention.query, "slope": attention.slope.reshape(1)}
        run.write_arrays({name: each.detach().numpy() for name, each in arrays.items()}, *USER)


# --- the songs' vectors ------------------------------------------------------------------


def _write_songs(objective: str, run: StageRun, shard: Shard) -> Written:
    """F(s) by content alone, of the songs that have features."""
    torch.set_num_threads(1)
    table = run.workspace.read_part("fuse", "fused", part_name(shard.part))
    table = table.filter(table["present"])
    x, blocks = matrix(table["vector"]), flags(table["blocks"])
    if objective == "factors":
        F = load_factor_tower(run.workspace).predict(x, blocks)
    else:
        F = load_ranking_model(run.workspace).content(x, blocks)
    columns = [table["song_id"].combine_chunks(), vectors(F)]
    schema = schemas.taste_songs(F.shape[1])
    run.write(pa.Table.from_arrays(columns, schema=schema), "song_vectors", shard.part)
    return Written(table.num_rows)


def _write_rows(config: Config, run: StageRun, shard: Shard) -> Written:
    """The same by number, zeros for the other songs; under `ranking` also what is in histories."""
    workspace = run.workspace
    ids = workspace.read("ingest", "songs", ["song_id"])["song_id"].combine_chunks()
    table = workspace.read("train", "song_vectors")
    codes = pc.index_in(table["song_id"].combine_chunks(), value_set=ids).to_numpy()
    found = matrix(table["vector"])
    F = np.zeros((len(ids), found.shape[1]), np.float32)
    F[codes] = found
    write_matrix(run, F, VECTORS)
    if config.train.objective == "ranking":
        Y = read_vectors(workspace, factors_artifact(config))
        F[codes] = load_ranking_model(workspace).warm(found, Y[codes])
        write_matrix(run, F, HISTORY)
    return Written(len(F))
