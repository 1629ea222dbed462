"""Train: the fusion network under Ray Train, then F(s) of every song by Ray Data.

Each worker reads the labelled songs' fused features, about 140 MB for the paper's
116,479 songs and 300 columns; the driver reads none of them.
"""

from __future__ import annotations

import csv
import io
import logging
import math
import tempfile
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import ray.train
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors

from fusionrec import schemas
from fusionrec.config import Config
from fusionrec.errors import DataError, FusionrecError, StageError
from fusionrec.models.collective import Collective
from fusionrec.models.network import HIDDEN, FusionNetwork
from fusionrec.models.training import Epoch, Settings, TrainingSet, fit, predict
from pipelines import cluster
from pipelines.stage import Counts, Stage, resumable
from pipelines.tables import matrix, vectors
from pipelines.workspace import StageRun, Workspace, part_number

log = logging.getLogger("fusionrec")


def work(config: Config, workspace: Workspace, run: StageRun) -> Counts:
    """Train, then compute all song vectors."""
    job = {
        "run": run,
        "settings": settings_of(config),
        "classes": config.label.k,
        "gpu": config.train.num_gpus > 0,
    }
    if config.train.workers == 0:
        log.info("train: in one task, without Ray Train (train.workers: 0)")
        cluster.run_task(_train_alone, job, num_gpus=config.train.num_gpus)
    else:
        _train_distributed(config, job)
    result: dict[str, Any] = run.read_json("result.json")
    shards = [{"part": part_number(name)} for name in workspace.parts("fuse", "fused")]
    cluster.map_shards(
        resumable(run, "song_vectors", partial(_write_song_vectors, run)),
        shards,
        description="song vectors",
    )
    return result


def settings_of(config: Config) -> Settings:
    """The method's hyperparameters from the config."""
    train = config.train
    return Settings(
        epochs=train.epochs,
        batch_size=train.batch_size,
        eta=train.eta,
        p=train.p,
        class_weights=train.class_weights,
        seed=config.seed,
    )


def _train_distributed(config: Config, job: dict[str, Any]) -> None:
    log.info("train: Ray Train starts %d worker(s)", config.train.workers)
    gpus = config.train.num_gpus
    with tempfile.TemporaryDirectory(prefix="fusionrec-train-") as scratch:
        trainer = TorchTrainer(
            _worker_loop,
            train_loop_config=job,
            scaling_config=ScalingConfig(
                num_workers=config.train.workers,
                use_gpu=gpus > 0,
                resources_per_worker={"CPU": 1, **({"GPU": gpus} if gpus else {})},
            ),
            run_config=RunConfig(
                storage_path=scratch, failure_config=FailureConfig(max_failures=2)
            ),
        )
        try:
            trainer.fit()
        except FusionrecError:
            raise
        except Exception as error:
            raise StageError(f"train: Ray Train failed: {cluster.root_cause(error)}") from error
    failure = job["run"].read_json("result.json").get("error")
    if failure:
        raise DataError(failure)


def _worker_loop(job: dict[str, Any]) -> None:
    context = ray.train.get_context()
    collective = Collective(context.get_world_rank(), context.get_world_size())
    _train(job, collective)
    # Once, at the end: a report waits until Ray Train's controller polls, a second or two.
    # The curve of all epochs is in epochs.csv.
    ray.train.report({"rank": collective.rank})


def _train_alone(job: dict[str, Any]) -> None:
    _train(job, Collective())
    failure = job["run"].read_json("result.json").get("error")
    if failure:
        raise DataError(failure)


def _train(job: dict[str, Any], collective: Collective) -> None:
    run: StageRun = job["run"]
    device = "cuda" if job["gpu"] and torch.cuda.is_available() else "cpu"
    torch.set_num_threads(1)
    try:
        data, counts = load_training_set(run.workspace, job["classes"])
        network, curve = fit(data, job["settings"], collective=collective, device=device)
    except DataError as error:
        # Ray Train would retry: bad data stay bad, so the driver raises this instead.
        if collective.rank == 0:
            run.write_json({"error": str(error)}, "result.json")
        return
    if collective.rank == 0:
        shape = {
            "features": data.train_x.shape[1],
            "classes": data.classes,
            "hidden": HIDDEN,
            "p": job["settings"].p,
        }
        run.write_bytes(save_safetensors(network.state_dict()), "model", "weights.safetensors")
        run.write_json({**shape, **asdict(job["settings"])}, "model", "config.json")
        run.write_bytes(_curve_csv(curve), "epochs.csv")
        run.write_json(
            {
                "train_accuracy": curve[-1].train_accuracy,
                "test_accuracy": _number(curve[-1].test_accuracy),
                "loss": curve[-1].loss,
                "parameters": sum(p.numel() for p in network.parameters()),
                **counts,
                **shape,
            },
            "result.json",
        )


def load_training_set(workspace: Workspace, classes: int) -> tuple[TrainingSet, Counts]:
    """Fused features and classes of the labelled songs of the train and test parts."""
    labels = workspace.read("label", "labels", ["song_id", "class"]).to_pandas()
    label_of = dict(zip(labels["song_id"], labels["class"], strict=True))
    x: dict[str, list[np.ndarray]] = {"train": [], "test": []}
    y: dict[str, list[np.ndarray]] = {"train": [], "test": []}
    for name in workspace.parts("fuse", "fused"):
        table = workspace.read_part("fuse", "fused", name)
        part = workspace.read_part("split", "split", name, ["part"])["part"].to_numpy(
            zero_copy_only=False
        )
        label = np.array([label_of.get(s, -1) for s in table["song_id"].to_pylist()], np.int64)
        present = table["present"].to_numpy(zero_copy_only=False)
        features = matrix(table["vector"])
        for which in x:
            rows = (part == which) & (label >= 0) & present
            x[which].append(features[rows])
            y[which].append(label[rows])
    data = TrainingSet(
        np.concatenate(x["train"]),
        np.concatenate(y["train"]),
        np.concatenate(x["test"]),
        np.concatenate(y["test"]),
        classes,
    )
    test = np.bincount(data.test_y, minlength=classes)
    return data, {
        "train_songs": len(data.train_y),
        "test_songs": len(data.test_y),
        "majority_share": float(test.max() / test.sum()) if test.sum() else None,
    }


def load_network(workspace: Workspace) -> FusionNetwork:
    """The trained network of a workspace, in evaluation mode."""
    config = workspace.read_json("train", "model", "config.json")
    network = FusionNetwork(config["features"], config["classes"], config["p"])
    network.load_state_dict(
        load_safetensors(workspace.read_bytes("train", "model", "weights.safetensors"))
    )
    return network.eval()


def _write_song_vectors(run: StageRun, shard: dict[str, Any]) -> dict[str, Any]:
    torch.set_num_threads(1)
    part = shard["part"]
    table = run.workspace.read_part("fuse", "fused", f"part-{part:05d}.parquet")
    table = table.filter(table["present"])
    network = load_network(run.workspace)
    features = matrix(table["vector"])
    if len(features):
        probabilities, hidden = predict(network, features)
    else:
        probabilities = np.empty((0, network.output.out_features), np.float32)
        hidden = np.empty((0, HIDDEN[-1]), np.float32)
    schema = schemas.song_vectors(probabilities.shape[1], hidden.shape[1])
    columns = [table["song_id"].combine_chunks(), vectors(probabilities), vectors(hidden)]
    run.write(pa.Table.from_arrays(columns, schema=schema), "song_vectors", part)
    return {"rows": table.num_rows}


def _curve_csv(curve: list[Epoch]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(asdict(curve[0])))
    writer.writeheader()
    writer.writerows(asdict(row) for row in curve)
    return text.getvalue().encode()


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


STAGE = Stage(
    name="train",
    needs=lambda config: ("split", "label", "fuse"),
    settings=lambda config: {
        "train": config.train.model_dump(exclude={"workers", "num_gpus"}),
        "seed": config.seed,
    },
    work=work,
)


if __name__ == "__main__":
    from pipelines.cli import stage_main

    stage_main(STAGE.name)
