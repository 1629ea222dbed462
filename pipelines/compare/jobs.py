"""What a comparison computes: a job for each fold, method and seed."""

from __future__ import annotations

from itertools import product
from typing import Any

from pipelines.compare.folds import Fold
from pipelines.compare.methods import SPECS
from pipelines.config import Config
from pipelines.config.compare import FusionRun, Method

Job = dict[str, Any]


def folds(config: Config) -> list[Fold]:
    """What the config compares on."""
    numbers = config.compare.test_folds
    if numbers is None:
        numbers = tuple(range(config.split.folds))
    return [Fold(by, number) for by, number in product(config.compare.splits, numbers)]


def _variants(config: Config, method: Method) -> list[tuple[str, FusionRun | None]]:
    """A method's rows in the table: one, or one a network or number of classes."""
    if method == "fusion":
        return [(run.name, run) for run in config.compare.fusion]
    if method == "classes":
        ks = sorted({run.k for run in config.compare.fusion})
        return [(f"classes k={k}", FusionRun(k=k)) for k in ks]
    return [(method, None)]


def method_names(config: Config) -> list[str]:
    """The rows of the table, in the config's order."""
    return [name for method in config.compare.methods for name, _ in _variants(config, method)]


def jobs(config: Config, fold: Fold, impossible: dict[int, str]) -> list[Job]:
    """All jobs of a fold.

    Parameters
    ----------
    impossible
        The reason by k for which there are no classes: its jobs have it under ``failed``.
    """
    found = []
    for method in config.compare.methods:
        seeds = config.compare.seeds if SPECS[method].seeded else 1
        for name, fusion in _variants(config, method):
            job: Job = {
                "by": fold.by,
                "fold": fold.number,
                "method": method,
                "name": name,
                "fusion": fusion.model_dump(mode="json") if fusion else None,
            }
            if fusion is not None and fusion.k in impossible:
                found.append({**job, "seed": 0, "failed": impossible[fusion.k]})
                continue
            found += [{**job, "seed": config.seed + i} for i in range(seeds)]
    return found


def stage_name(job: Job) -> str:
    """Where a fold's workspace has the result of a job."""
    return f"methods/{job['name'].replace(' ', '-')}-seed{job['seed']}"
