"""Train: the fusion network under Ray Train, then F(s) of every song by Ray Data.

Each worker holds the labelled songs' fused features, about 140 MB for the paper's 116,479
songs and 300 columns; where they are more than `train.in_memory_mb`, Ray Data streams them
from the workspace. The driver reads none of them. Checkpoints lie in the stage's folder, so a
replaced worker, a new worker group and a repeated command all go on from the last one.
"""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors

from fusionrec import schemas
from fusionrec.errors import ConfigError
from fusionrec.models.collective import Collective
from fusionrec.models.epochs import precision
from fusionrec.models.examples import PARTS, Feed, InMemory
from fusionrec.models.network import FusionNetwork
from fusionrec.models.settings import Settings
from fusionrec.models.training import Training, predict
from fusionrec.tables import flags, matrix, vectors
from pipelines import fuse, label, split
from pipelines.config import Config
from pipelines.runtime import distributed, progress, sharding
from pipelines.runtime.shards import Shard, Written, shards_of
from pipelines.runtime.stage import Counts, Stage, resumable
from pipelines.runtime.workspace import StageRun, Workspace, part_name
from pipelines.train.examples import (
    Streamed,
    datasets,
    fused_blocks,
    fusion_settings,
    load_training_set,
    write_examples,
)
from pipelines.train.monitor import EPOCHS, Monitor

log = logging.getLogger("fusionrec")

LAST = ("checkpoints", "last.safetensors")
BEST = ("checkpoints", "best.safetensors")
_SECONDS_BETWEEN_REPORTS = 30.0


@dataclass(frozen=True)
class TrainJob:
    """What the workers train; `songs`, by class of each part, is given where they are streamed."""

    config: Config
    run: StageRun
    songs: dict[str, np.ndarray] | None


def work(config: Config, workspace: Workspace, run: StageRun) -> Counts:
    """Train, then compute all song vectors."""
    train = config.train
    songs, streams = None, None
    fused = workspace.require("fuse")["counts"]
    megabytes = fused["songs_with_features"] * fused["components"] * 4 / 2**20
    if megabytes > train.in_memory_mb:
        log.info(
            "train: %.0f MB of features are streamed by Ray Data (train.in_memory_mb: %d)",
            megabytes,
            train.in_memory_mb,
        )
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
            num_gpus=train.num_gpus,
            patience=config.cluster.patience,
            datasets=streams,
        )
    sharding.map_shards(
        run,
        resumable(run, "song_vectors", partial(_write_song_vectors, run), Written),
        shards_of(workspace, "fuse", "fused"),
        description="song vectors",
    )
    return {**result, "streamed": streams is not None}


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
    # The layers are too small for more threads.
    torch.set_num_threads(1)
    feed, songs = _feed(job, settings, worker)
    training = Training(feed, settings, collective=collective, device=device)
    if run.workspace.exists(run.stage, *LAST):
        training.restore(run.workspace.read_bytes(run.stage, *LAST))
        log.info("train: goes on from the checkpoint after epoch %d", training.epoch)
    resumed = training.epoch
    _run_epochs(training, run, config.train.checkpoint_every or max(1, settings.epochs // 20))
    network, last = training.result(), training.curve[-1]
    if collective.rank == 0:
        run.write_bytes(save_safetensors(network.state_dict()), "model", "weights.safetensors")
        run.write_json(
            {"network": network.description(), "settings": asdict(settings)}, "model", "config.json"
        )
    test = songs["test"]
    kept = last if settings.patience is None else training.best
    return {
        "workers": config.train.workers,
        "device": device,
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


def halves_for_all(group: Collective, device: str) -> bool:
    """Whether `auto` is bfloat16 for every worker: of two kinds of GPU all take what both have."""
    without = torch.tensor([float(not precision("auto", device)[0])], device=device)
    return not group.sum(without).item()


def _run_epochs(training: Training, run: StageRun, checkpoint_every: int) -> None:
    """Train to the end, with checkpoints; the first worker writes what there is to see."""
    first = training.group.rank == 0
    monitor = Monitor(run, training.epoch) if first else None
    reporter = progress.Reporter(run) if first else None
    written_best, reported = 0, time.monotonic()
    while not training.finished:
        row = training.run_epoch()
        if reporter is not None:
            reporter(training.epoch, training.settings.epochs)
        if monitor is not None and row is not None:
            monitor.add(row)
        if training.epoch % checkpoint_every and not training.finished:
            continue
        if monitor is not None:
            if training.best_epoch > written_best:
                run.write_bytes(training.save(best=True), *BEST)
                written_best = training.best_epoch
            run.write_bytes(training.save(), *LAST)
            monitor.flush(training.curve)
        # All workers report or none, as the first one's clock says.
        due = first and time.monotonic() - reported >= _SECONDS_BETWEEN_REPORTS
        flag = training.group.sum(torch.tensor(float(due), device=training.device))
        if flag.item() and training.curve:
            distributed.report(asdict(training.curve[-1]))
            reported = time.monotonic()
    if monitor is not None:
        monitor.close()


def load_network(workspace: Workspace) -> FusionNetwork:
    """The trained network of a workspace, in evaluation mode."""
    config = workspace.read_json("train", "model", "config.json")
    network = FusionNetwork.from_description(config["network"])
    network.load_state_dict(
        load_safetensors(workspace.read_bytes("train", "model", "weights.safetensors"))
    )
    return network.eval()


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
    moving = {"workers", "num_gpus", "in_memory_mb", "checkpoint_every"}
    return {
        "train": config.train.model_dump(exclude=moving),
        "fuse": config.fuse.model_dump(include={"operator", "align", "width", "missing"}),
        "seed": config.seed,
    }


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
    needs=lambda config: (split.STAGE, label.STAGE, fuse.STAGE),
    settings=key_settings,
    work=work,
    demand=lambda config: distributed.demand("train", config.train.workers, config.train.num_gpus),
    refresh_first=(label.STAGE, fuse.STAGE),
    staging=tuple(f"examples_{part}" for part in PARTS),
    published=(EPOCHS,),
    check=check,
)
