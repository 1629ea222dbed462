"""What a service is told when it starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pipelines.opened.recommender import Model

TOKEN = "FUSIONREC_SERVE_TOKEN"
"""The environment variable with the bearer token."""

LOOPBACK = ("localhost", "127.0.0.1", "::1")


def in_url(host: str) -> str:
    """An address as a URL has it: that of IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host


@dataclass(frozen=True)
class Settings:
    """What is served, to whom and within which limits.

    Attributes
    ----------
    workspace, model
        As of :meth:`pipelines.opened.Recommender.open`.
    token
        Of the header `Authorization: Bearer`; None asks for none.
    hosts
        Names in the header `Host` that are answered; empty for all. Without a token those of the
        loopback, so that no web page reaches the service by a name of its own (DNS rebinding).
    most_songs
        Of one answer.
    most_plays
        Songs of one request's history.
    body_bytes, query_bytes
        Of one request.
    seconds
        For a request to arrive whole, and then to be answered.
    waiting
        Requests that wait to be ranked; those beyond are told to come again.
    batch
        Requests that are ranked at once.
    poll_seconds
        Between looks for a newer result; 0 for none.
    similar_gb
        Memory for what songs like one are ranked by, in GiB: of a blend it is much. Where it is not
        enough, such a request reads the workspace's files, and takes as long as that takes.
    """

    workspace: str
    model: Model | None = None
    token: str | None = field(default=None, repr=False)
    hosts: tuple[str, ...] = ()
    most_songs: int = 500
    most_plays: int = 10_000
    body_bytes: int = 1 << 20
    query_bytes: int = 1 << 14
    seconds: float = 10.0
    waiting: int = 1024
    batch: int = 64
    poll_seconds: float = 5.0
    similar_gb: float = 4.0

    def as_json(self) -> dict[str, Any]:
        """All but the token, which travels by the environment alone."""
        return {name: value for name, value in asdict(self).items() if name != "token"}

    @staticmethod
    def of_json(given: Mapping[str, Any], token: str | None) -> Settings:
        """From what :meth:`as_json` gave."""
        hosts = tuple(given.get("hosts", ()))
        return Settings(**{**given, "hosts": hosts, "token": token})
