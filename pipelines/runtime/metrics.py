"""Prometheus metrics of a run, through Ray's own exporter on every node.

Workers count what they have done shard by shard; a shard that an interrupted run finished is
not counted again. All are counters, since Ray drops a gauge that is not set anew. Ray puts
``ray_`` before each name and ``_total`` behind it, and gives each process a series of its own.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import ray
from ray.util.metrics import Counter

from pipelines.runtime.run_id import run_id


class Metric(NamedTuple):
    """What a metric is.

    Attributes
    ----------
    meaning
        One line.
    tags
        Its labels beside ``run``.
    """

    meaning: str
    tags: tuple[str, ...] = ()


METRICS = {
    "fusionrec_songs_ingested": Metric("tracks read from the source"),
    "fusionrec_rejects": Metric("records rejected or mended by ingest", ("source", "reason")),
    "fusionrec_documents_embedded": Metric("lyrics the encoder turned into vectors"),
    "fusionrec_tokens_embedded": Metric("tokens of these lyrics"),
    "fusionrec_users_ranked": Metric("users with a list of recommendations"),
    "fusionrec_stream_items": Metric(
        "parts that an operator of a stream has done", ("stage", "step", "operator")
    ),
    "fusionrec_stream_bytes": Metric(
        "bytes that an operator of a stream gave to the next", ("stage", "step", "operator")
    ),
    "fusionrec_stream_seconds": Metric(
        "time in which workers were at work on an operator", ("stage", "step", "operator")
    ),
    "fusionrec_stream_waited_seconds": Metric(
        "time in which the actors of a stream had nothing to do", ("stage", "step")
    ),
    "fusionrec_step_done": Metric("shards or epochs done in a step", ("stage", "step")),
    "fusionrec_step_size": Metric("shards or epochs of a step", ("stage", "step")),
    "fusionrec_stage_seconds": Metric("what a finished stage took", ("stage",)),
}


def count(name: str, amount: float, **tags: str) -> None:
    """Add to a metric; nothing where Ray does not run."""
    if amount and ray.is_initialized():
        _metric(name).inc(amount, {**tags, "run": run_id()})


@cache
def _metric(name: str) -> Counter:
    # Once a process: Ray registers each under its name.
    metric = METRICS[name]
    return Counter(name, metric.meaning, (*metric.tags, "run"))
