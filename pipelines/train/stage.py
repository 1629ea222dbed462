"""Train: the fusion network under Ray Train, then F(s) of every song by Ray Data.

Here on classes (`train.objective: genre`); on users' taste, in :mod:`pipelines.train.taste`.

Each worker holds the labelled songs' fused features, about 140 MB for the paper's 116,479
songs and 300 columns; where they are more than `train.in_memory_mb`, Ray Data streams them
from the workspace. The driver reads none of them. Checkpoints lie in the stage's folder, so a
replaced worker, a new worker group and a repeated command all go on from the last one.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, cast

import numpy as np
import pyarrow as pa
import torch
from safetensors.torch import save as save_safetensors

from fusionrec import probes, schemas
from fusionrec.errors import ConfigError
from fusionrec.models.epochs import precision
from fusionrec.models.examples import PARTS, Feed, InMemory
from fusionrec.models.settings import Settings
from fusionrec.models.training import Training, predict
from fusionrec.tables import flags, matrix, vectors
from pipelines import fuse, ingest, label, split
from pipelines.config import Config, replaced
from pipelines.opened.models import DESCRIPTION, WEIGHTS, load_network
from pipelines.runtime import distributed, progress, resources, sharding
from pipelines.runtime.gpus import GpuUse
from pipelines.runtime.shards import Shard, Written, shards_of
from pipelines.runtime.stage import Counts, Stage, logged, resumable
from pipelines.runtime.workspace import StageRun, Workspace, part_name
from pipelines.train import taste
from pipelines.train.epochs import halves_for_all, kept_row, train_to_the_end
from pipelines.train.examples import (
    Streamed,
    datasets,
    fused_blocks,
    fusion_settings,
    load_training_set,
    write_examples,
)
from pipelines.train.monitor import EPOCHS
from pipelines.train.plays import FACTORS
from pipelines.train.threads import threads_of

log = logging.getLogger("fusionrec")


@dataclass(frozen=True)
class TrainJob:
    """What the workers train; `songs`, by class of each part, is given where they are streamed."""

    config: Config
    run: StageRun
    songs: dict[str, np.ndarray] | None


def work(config: Config, workspace: Workspace, run: StageRun) -> Counts:
    """Train, then compute all song vectors, and, if it is on taste, all users'."""
    if config.train.objective != "genre":
        return taste.work(config, workspace, run)
    return _on_classes(config, workspace, run)


def _on_classes(config: Config, workspace: Workspace, run: StageRun) -> Counts:
    train = config.train
    songs, streams = None, None
    fused = workspace.require("fuse")["counts"]
    megabytes = fused["songs_with_features"] * fused["components"] * 4 / 2**20
    streamed = megabytes > train.in_memory_mb
    threads = threads_of(train, num_gpus=run.gpus, custom=run.resources, streamed=streamed)
    if streamed:
        log.info(
            "train: %.0f MB of features are streamed by Ray Data (train.in_memory_mb: %d)",
            megabytes,
            train.in_memory_mb,
        )
        if threads > 1:  # before all of them are written for it
            asked = distributed.demand("train", train.workers, threads=threads)
            beside = resources.Demand((*asked.bundles, {"CPU": 1.0}), asked.keys)
            resources.refuse("train", beside)
        songs = write_examples(config, workspace, run)
        streams = datasets(run)
    else:
        log.info("train: %.0f MB of features are held in memory by each worker", megabytes)
    with progress.watched(run, "training"):
        result = distributed.run(
            _train,
            TrainJob(config, run, songs),
            run,
            workers=train.workers,
            num_gpus=run.gpus,
            threads=threads,
            patience=config.cluster.patience,
            datasets=streams,
        )
    sharding.map_shards(
        run,
        resumable(run, "song_vectors", partial(_write_song_vectors, run), Written),
        shards_of(workspace, "fuse", "fused"),
        description="song vectors",
    )
    processor = logged(cast(dict[str, int], result["processor"]))
    return {**result, "processor": processor, "streamed": streamed}


def settings_of(config: Config) -> Settings:
    """The method's hyperparameters from the config."""
    return config.train.fill(Settings, seed=config.seed)


def _feed(
    job: TrainJob, settings: Settings, worker: distributed.Worker
) -> tuple[Feed, dict[str, np.ndarray]]:
    """The songs to train on, and their numbers by class of each part."""
    workspace = job.run.workspace
    dtype = precision(settings.dtype, worker.device)[1]
    if job.songs is not None:
        fusion = fusion_settings(job.config, fused_blocks(workspace))
        streamed = Streamed(
            worker.datasets,
            job.songs,
            fusion,
            batch_size=settings.batch_size,
            seed=settings.seed,
            norm_group=settings.norm_group,
            collective=worker.collective,
            device=worker.device,
            dtype=dtype,
        )
        return streamed, job.songs
    data = load_training_set(job.config, workspace)
    in_memory = InMemory(
        data,
        batch_size=settings.batch_size,
        seed=settings.seed,
        norm_group=settings.norm_group,
        collective=worker.collective,
        device=worker.device,
        dtype=dtype,
    )
    return in_memory, {part: np.bincount(data.of(part).y, minlength=data.classes) for part in PARTS}


def _train(job: TrainJob, worker: distributed.Worker) -> Counts:
    run, config = job.run, job.config
    collective, device = worker.collective, worker.device
    settings = settings_of(config)
    if settings.dtype == "auto":  # a checkpoint is not gone on with in another precision
        halves = halves_for_all(collective, device)
        halves = run.choose("precision", lambda: halves)
        settings = replace(settings, dtype="bfloat16" if halves else "float32")
    feed, songs = _feed(job, settings, worker)
    training = Training(feed, settings, collective=collective, device=device)
    resumed = train_to_the_end(training, run, config.train.checkpoint_every)
    network, last = training.result(), training.curve[-1]
    if collective.rank == 0:
        run.write_bytes(save_safetensors(network.state_dict()), *WEIGHTS)
        description = {"network": network.description(), "settings": asdict(settings)}
        run.write_json(description, *DESCRIPTION)
    test = songs["test"]
    kept = kept_row(training)
    return {
        "workers": config.train.workers,
        "threads": torch.get_num_threads(),
        "device": device,
        "processor": probes.lines("training"),
        "epochs": training.epoch,
        "kept_epoch": kept.epoch,
        "train_accuracy": kept.train_accuracy,
        "validation_accuracy": kept.validation_accuracy,
        "test_accuracy": kept.test_accuracy,
        "best_epoch": training.best_epoch,
        "loss": last.loss,
        "resumed_after_epoch": resumed,
        "songs_per_second": round(
            int(songs["train"].sum())
            * (training.epoch - resumed)
            / max(training.seconds_here, 1e-9)
        ),
        "parameters": sum(p.numel() for p in network.parameters()),
        "classes": len(feed.counts),
        **{f"{part}_songs": int(songs[part].sum()) for part in PARTS},
        "majority_share": float(test.max() / test.sum()) if test.sum() else None,
    }


def _write_song_vectors(run: StageRun, shard: Shard) -> Written:
    torch.set_num_threads(1)
    table = run.workspace.read_part("fuse", "fused", part_name(shard.part))
    table = table.filter(table["present"])
    network = load_network(run.workspace)
    probabilities, hidden = predict(network, matrix(table["vector"]), flags(table["blocks"]))
    schema = schemas.song_vectors(probabilities.shape[1], hidden.shape[1])
    columns = [table["song_id"].combine_chunks(), vectors(probabilities), vectors(hidden)]
    run.write(pa.Table.from_arrays(columns, schema=schema), "song_vectors", shard.part)
    return Written(table.num_rows)


def key_settings(config: Config) -> dict[str, Any]:
    """What of the config the trained network depends on."""
    if config.train.objective == "genre":
        # Without its name: what a training on taste has there tells the two apart.
        unread = {"objective", "wmf", "towers"}
        train = config.train.model_dump(exclude=taste.MOVING | unread)
    else:
        train = taste.key_settings(config)
    return {
        "train": train,
        "fuse": config.fuse.model_dump(include={"operator", "align", "width", "missing"}),
        "seed": config.seed,
    }


def of_classes(config: Config) -> Config:
    """The config with classes as what the network learns, whatever it learns else."""
    if config.train.objective == "genre":
        return config
    return replaced(config, {"train.objective": "genre", "recommend.model": "genre"})


def _needs(config: Config) -> tuple[Stage, ...]:
    if config.train.objective == "genre":
        return (split.STAGE, label.STAGE, fuse.STAGE)
    return (ingest.STAGE, split.STAGE, fuse.STAGE)


def check(config: Config) -> None:
    """Raise a ConfigError for modalities to be left out that are not told apart."""
    if config.train.modality_dropout and not config.fuse.blockwise:
        raise ConfigError(
            f"train.modality_dropout: {config.train.modality_dropout} leaves out modalities, which "
            f"fuse.operator: concatenate with fuse.missing: {config.fuse.missing} mixes by one "
            "PCA: set fuse.missing: learned, another fuse.operator, or train.modality_dropout: 0"
        )


STAGE = Stage(
    name="train",
    version=3,
    needs=_needs,
    settings=key_settings,
    work=work,
    demand=lambda config: distributed.demand(
        "train", config.train.workers, threads=config.train.threads
    ),
    gpus=GpuUse("train.num_gpus", "a worker"),
    refresh_first=(label.STAGE, fuse.STAGE),
    staging=(*(f"examples_{part}" for part in PARTS), FACTORS),
    published=(EPOCHS,),
    check=check,
)
