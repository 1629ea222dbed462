"""A trial of a search: one training in one process, on what the trials share."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from ray import ObjectRef, tune

from fusionrec.models.epochs import precision
from fusionrec.models.examples import InMemory
from fusionrec.models.settings import Settings
from fusionrec.models.training import Training
from fusionrec.report.trials import Value
from pipelines import config as config_module
from pipelines.config import Config
from pipelines.runtime import tasks
from pipelines.train.examples import fusion_settings
from pipelines.train.stage import settings_of
from pipelines.tune.shared import ClassLabels, Features

Values = Mapping[str, Value]
"""A trial's values by dotted names; what is not searched is missing."""


@dataclass(frozen=True)
class Shared:
    """What a trial gets: the config and references into the object store.

    Attributes
    ----------
    features
        By what the features depend on: the values of :func:`features_key`.
    labels
        By label embedding: the classes for each k.
    concurrent
        Trials at a time.
    gpus
        Of each trial.
    """

    config: Config
    features: dict[str, ObjectRef[object]]
    labels: dict[str, ObjectRef[object]]
    concurrent: int
    gpus: float


def objective(config: Config) -> str:
    """The measure a search maximises."""
    return f"validation_{config.tune.metric}"


def features_key(config: Config) -> str:
    """What a trial's features depend on."""
    return f"words {config.embed.lyrics.words}, blockwise {config.fuse.blockwise}"


def train_trial(values: Values, shared: Shared) -> None:
    """Train with these values and report the measures; a function trainable of Ray Tune."""
    started = time.perf_counter()
    torch.set_num_threads(1)
    config = config_module.replaced(shared.config, values)
    device = trial_device(shared.gpus)
    features: Features = tasks.gather([shared.features[features_key(config)]])[0]
    of_k: dict[int, ClassLabels] = tasks.gather([shared.labels[config.label.embedding]])[0]
    labels = of_k[config.label.k]
    if isinstance(labels, str):
        # Not raised: Ray Tune would try it again, on a new worker each time.
        tune.report({objective(config): -math.inf, "epoch": 0, "error": labels})
        return
    settings = trial_settings(config)
    fusion = fusion_settings(config, features.blocks)
    feed = InMemory(
        features.with_classes(labels, config.label.k, fusion),
        batch_size=settings.batch_size,
        seed=settings.seed,
        norm_group=settings.norm_group,
        device=device,
        dtype=precision(settings.dtype, device)[1],
    )
    training = Training(feed, settings, device=device)
    while not training.finished:
        row = training.run_epoch()
        if row is None:
            continue
        measured = {
            "epoch": row.epoch,
            "validation_accuracy": row.validation_accuracy,
            "train_accuracy": row.train_accuracy,
            "loss": row.loss,
        }
        if features.validation is not None:
            measured["validation_map"] = features.validation.mean_average_precision(
                training.network
            )
        # Reporting waits for Ray Tune's decision, which is not the trial's own time.
        seconds, before = time.perf_counter() - started, time.perf_counter()
        tune.report({**measured, "seconds": round(seconds, 3)})
        started += time.perf_counter() - before


def trial_device(gpus: float) -> str:
    """Where a trial trains that holds so many GPUs."""
    return "cuda" if gpus and torch.cuda.is_available() else "cpu"


def trial_halves(gpus: float) -> bool:
    """Whether `auto` is bfloat16 where this is called."""
    return precision("auto", trial_device(gpus))[0]


def trial_settings(config: Config) -> Settings:
    """The config's hyperparameters, evaluated `tune.reports` times."""
    every = max(1, config.train.epochs // config.tune.reports)
    return replace(settings_of(config), evaluate_every=every)
