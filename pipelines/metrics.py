"""Prometheus metrics of a run, through Ray's own exporter on every node.

Workers count what they have done shard by shard; a shard that an interrupted run finished is
not counted again. Ray puts ``ray_`` before each name, and ``_total`` behind a counter's.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import ray
from ray.util.metrics import Counter, Gauge

from pipelines.run_id import run_id


class Metric(NamedTuple):
    """What a metric is.

    Attributes
    ----------
    kind
        Ray's class.
    meaning
        One line.
    tags
        Its labels beside ``run``.
    """

    kind: type[Any]
    meaning: str
    tags: tuple[str, ...] = ()


METRICS = {
    "fusionrec_songs_ingested": Metric(Counter, "tracks read from the source"),
    "fusionrec_rejects": Metric(Counter, "records rejected or mended by ingest", ("reason",)),
    "fusionrec_documents_embedded": Metric(Counter, "lyrics the encoder turned into vectors"),
    "fusionrec_tokens_embedded": Metric(Counter, "tokens of these lyrics"),
    "fusionrec_users_ranked": Metric(Counter, "users with a list of recommendations"),
    "fusionrec_step_done": Metric(Gauge, "shards or epochs done in a step", ("stage", "step")),
    "fusionrec_step_size": Metric(Gauge, "shards or epochs of a step", ("stage", "step")),
    "fusionrec_stage_seconds": Metric(Gauge, "what a finished stage took", ("stage",)),
}


def count(name: str, amount: float, **tags: str) -> None:
    """Add to a counter; nothing where Ray does not run."""
    if amount and ray.is_initialized():
        _metric(name).inc(amount, {**tags, "run": run_id()})


def tell(name: str, value: float, **tags: str) -> None:
    """Set a gauge; nothing where Ray does not run."""
    if ray.is_initialized():
        _metric(name).set(value, {**tags, "run": run_id()})


@cache
def _metric(name: str) -> Any:
    # Once a process: Ray registers each under its name.
    metric = METRICS[name]
    return metric.kind(name, metric.meaning, (*metric.tags, "run"))
