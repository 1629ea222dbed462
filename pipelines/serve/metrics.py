"""What a service counts, for Prometheus."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Of one process (a replica); what is counted starts at 0 with it."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        of: dict[str, Any] = {"namespace": "fusionrec_serve", "registry": self.registry}
        self.requests = Counter(
            "requests", "Requests that were answered.", ["path", "method", "status"], **of
        )
        self.seconds = Histogram(
            "request_seconds", "From a request to its answer.", ["path"], buckets=_SECONDS, **of
        )
        self.batch = Histogram(
            "batch_requests", "Requests that were ranked at once.", buckets=_SIZES, **of
        )
        self.ranking = Histogram(
            "ranking_seconds", "Of a batch in the kernel.", buckets=_SECONDS, **of
        )
        self.waiting = Gauge("waiting", "Requests that wait to be ranked.", **of)
        self.songs = Gauge("songs", "Songs of the catalogue.", **of)
        self.loaded = Gauge(
            "result_loaded_timestamp_seconds",
            "When the result was read.",
            ["model", "result"],
            **of,
        )
        self.takeovers = Counter("takeovers", "Newer results that were taken over.", **of)
        self.failed_takeovers = Counter(
            "failed_takeovers", "Newer results that could not be read.", **of
        )

    def served(self, model: str, result: str, songs: int, loaded: float) -> None:
        """Note which result is served."""
        self.loaded.clear()
        self.loaded.labels(model, result).set(loaded)
        self.songs.set(songs)

    def text(self) -> bytes:
        """All of it, in Prometheus' text format."""
        return generate_latest(self.registry)
