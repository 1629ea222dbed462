"""Train: the fusion network under Ray Train, then F(s) of every song by Ray Data.

Each worker reads the labelled songs' fused features, about 140 MB for the paper's
116,479 songs and 300 columns; the driver reads none of them.
"""

from __future__ import annotations

import csv
import io
import math
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors

from fusionrec import schemas
from fusionrec.config import Config
from fusionrec.models.collective import Collective
from fusionrec.models.network import HIDDEN, FusionNetwork
from fusionrec.models.training import Epoch, Settings, TrainingSet, fit, predict
from pipelines import cluster, distributed
from pipelines.stage import Counts, Stage, resumable
from pipelines.tables import matrix, vectors
from pipelines.workspace import StageRun, Workspace, part_number


def work(config: Config, workspace: Workspace, run: StageRun) -> Counts:
    """Train, then compute all song vectors."""
    train = config.train
    job = {"run": run, "settings": settings_of(config), "classes": config.label.k}
    result = distributed.run(_train, job, run, workers=train.workers, num_gpus=train.num_gpus)
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
        dtype=train.dtype,
    )


def _train(job: dict[str, Any], collective: Collective, device: str) -> Counts:
    run: StageRun = job["run"]
    # The layers are too small for more.
    torch.set_num_threads(1)
    data, counts = load_training_set(run.workspace, job["classes"])
    network, curve = fit(data, job["settings"], collective=collective, device=device)
    shape = {
        "features": data.train_x.shape[1],
        "classes": data.classes,
        "hidden": HIDDEN,
        "p": job["settings"].p,
    }
    if collective.rank == 0:
        run.write_bytes(save_safetensors(network.state_dict()), "model", "weights.safetensors")
        run.write_json({**shape, **asdict(job["settings"])}, "model", "config.json")
        run.write_bytes(_curve_csv(curve), "epochs.csv")
    return {
        "train_accuracy": curve[-1].train_accuracy,
        "test_accuracy": _number(curve[-1].test_accuracy),
        "loss": curve[-1].loss,
        "parameters": sum(p.numel() for p in network.parameters()),
        **counts,
        **shape,
    }


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
